"""Networks of several inputs and tasks; what all networks must do is in test_zoo."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.models.segmentation import TYPICAL_DEPTH_M, SegmentationNet, create_segmentation
from sembox_ros.models.zoo import MODELS, create_model

MULTITASK = MODELS['mobilenetv2_s16_multitask'].config


def create(config: ModelConfig) -> SegmentationNet:
    torch.manual_seed(0)
    return create_segmentation(config).eval()


def test_untrained_depth_is_a_plausible_one() -> None:
    with torch.no_grad():
        depth = create(MULTITASK)(torch.randn(1, 5, 128, 128)).log_depth.exp()
    assert 0.2 * TYPICAL_DEPTH_M < float(depth.median()) < 5 * TYPICAL_DEPTH_M


def test_both_inputs_matter_to_all_tasks() -> None:
    images = torch.randn(1, 5, 128, 128).requires_grad_()
    network = create(MULTITASK)
    for name in ('semantic_logits', 'log_depth', 'motion_logits'):
        (gradient,) = torch.autograd.grad(getattr(network(images), name).square().sum(), images)
        assert gradient[:, :3].any(), name
        assert gradient[:, 3:].any(), name


@pytest.mark.parametrize('encoder', ['efficientnet-b0', 'regnetx-400mf', 'fd-mobilenetv2', 'resnext50-32x4d'])
def test_any_encoder_takes_several_inputs(encoder: str) -> None:
    with torch.device('meta'):
        network = create_segmentation(dataclasses.replace(MULTITASK, encoder=encoder, decoder='fpn_lite'))
        output = network.eval()(torch.empty(1, 5, 128, 256))
    assert output.motion_logits.shape == (1, 1, 128 // network.stride, 256 // network.stride)
    # The second stream is the start of an encoder only.
    parts = [sum(p.numel() for p in part.parameters()) for part in (network.encoder.others, network.encoder.main)]
    assert parts[0] < parts[1] / 10


def test_a_single_task_needs_no_classes() -> None:
    network = create(dataclasses.replace(MULTITASK, tasks=('depth',), semantic_classes=0, inputs=('image',)))
    with torch.no_grad():
        output = network(torch.randn(1, 3, 128, 128))
    assert [name for name, tensor in output._asdict().items() if tensor is not None] == ['log_depth']
    assert math.isfinite(float(output.log_depth.sum()))


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('mobilenetv2_fpn_lite', {'box_head': True}, 'box_head, instance_channels: .*decoders alone'),
        ('mobilenetv2_fpn_lite', {'decoder': ''}, 'decoder: expected one for mobilenetv2_fpn_lite'),
        ('sembox_b1', {'decoder': 'fpn_lite'}, 'decoder: expected none for sembox_b1'),
        ('sembox_b1', {'encoder': 'fd-mobilenetv2'}, 'encoder: sembox_b1 needs .*16 and 32.*has 4, .*, 64'),
    ],
)
def test_what_does_not_go_together_is_refused(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        create_model(dataclasses.replace(MODELS[name].config, **options))


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'tasks': ()}, 'tasks: expected some of'),
        ({'tasks': ('motion', 'depth')}, 'tasks: .*in this order'),
        ({'inputs': ('flow',)}, 'inputs: expected image, or image and flow'),
        ({'inputs': ('image', 'sound')}, 'inputs: expected some of image, flow'),
        ({'decoder': '', 'box_head': True}, 'inputs, tasks: .*need a decoder'),
        ({'semantic_classes': 0}, 'semantic_classes: expected some with the tasks semantic, depth, motion, got 0'),
        ({'tasks': ('depth',)}, 'semantic_classes: expected 0 with the tasks depth, got 19'),
    ],
)
def test_inputs_and_tasks_are_checked(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(MULTITASK, **options)
