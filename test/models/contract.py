"""What every network of the zoo must do. A test module subclasses `ModelContract` and provides `subject`."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from random_networks import calibrate_norms
from torch import Tensor, nn

from sembox_ros.config import INPUT_CHANNELS, InputConfig, ModelConfig
from sembox_ros.errors import InputError
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.sembox import MAPS, NetworkOutput, output_fields, resize_maps
from sembox_ros.models.zoo import create_model, find_model
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.grids import POSITION_WEIGHTS, grid_shapes
from sembox_ros.ops.placement import Placement
from sembox_ros.postprocess.detections import decode_detections
from sembox_ros.postprocess.semantic import decode_semantic

SEMANTIC_CLASSES, DETECTION_CLASSES = 6, 5


def _label_set(name: str, count: int) -> LabelSet:
    return LabelSet(
        name=name,
        names=tuple(f'{name} {i}' for i in range(count)),
        palette=tuple((i, i, i) for i in range(count)),
        is_thing=(True,) * count,
    )


def create_subject(config: ModelConfig) -> Checkpoint:
    """A random network of that architecture with few classes, its norms calibrated so that signals survive."""
    semantic = _label_set('semantic', SEMANTIC_CLASSES) if config.semantic_classes else None
    labels = SceneLabels(semantic, _label_set('detection', DETECTION_CLASSES), {0: 1} if semantic else {})
    config = dataclasses.replace(
        config, semantic_classes=len(labels.semantic_names), detection_classes=DETECTION_CLASSES
    )
    model = create_model(config, seed=1)
    calibrate_norms(model, seed=1, channels=count_channels(config))
    given_input = find_model(config.name).input if hasattr(model, 'canvas_hw') else InputConfig(size_hw=(128, 256))
    return Checkpoint(model.eval(), config, labels, given_input, trained=False, recipe={'seed': 1})


def count_channels(config: ModelConfig) -> int:
    """Of the network's input."""
    return sum(INPUT_CHANNELS[name] for name in config.inputs)


def channels(subject: Checkpoint) -> int:
    """Of the network's input."""
    return count_channels(subject.config)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def run(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The outputs that the network has; one that only detects gives no semantic logits."""
    return given(model(images))


def given(outputs: NetworkOutput) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in outputs if tensor is not None)


def largest_difference(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> float:
    """The largest difference of two outputs, in standard deviations of that output."""
    pairs = zip(first, second, strict=True)
    return max(float((a.float() - b.float()).abs().max() / a.float().std()) for a, b in pairs)


# By how much of itself a number changes at most when it is rounded to that format.
HALF, BFLOAT16 = 2.0**-11, 2.0**-8


def shake(model: nn.Module, share: float) -> nn.Module:
    """A copy whose every parameter is off by up to that share of itself, at random.

    What that does to the outputs is what rounding may do: hundreds of random layers make much of little.
    """
    shaken = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in shaken.parameters():
            parameter *= 1 + share * (2 * torch.rand(parameter.shape, generator=generator) - 1)
    return shaken


def error_ratios(exact: tuple[Tensor, ...], found: tuple[Tensor, ...], shaken: tuple[Tensor, ...]) -> list[float]:
    """How far each output is off, in how far the shaken network's is."""
    triples = zip(exact, found, shaken, strict=True)
    return [float((f.float() - e).std() / (s - e).std()) for e, f, s in triples]


class ModelContract:
    """Tests of one network, given by the fixture `subject`.

    A network of one size sets `canvas_hw` and overrides the tests of sizes.
    """

    canvas_hw: ClassVar[tuple[int, int]] = (128, 256)

    @pytest.mark.parametrize('size_hw', [(128, 128), (128, 384), (256, 128)])
    def test_output_shapes(self, subject: Checkpoint, size_hw: tuple[int, int]) -> None:
        with torch.no_grad():
            output = subject.model(noise(2, channels(subject), *size_hw))
        anchors, quarter_hw, config = len(create_anchors(size_hw)), (size_hw[0] // 4, size_hw[1] // 4), subject.config
        stride = getattr(subject.model, 'stride', 4)
        map_hw = (size_hw[0] // stride, size_hw[1] // stride)
        cells = sum(rows * columns for rows, columns in grid_shapes(config.instance_grids, config.instance_grid_aspect))
        shapes = {
            'class_logits': (2, anchors, DETECTION_CLASSES),
            'box_regression': (2, anchors, 4),
            'semantic_logits': (2, SEMANTIC_CLASSES, *map_hw),
            'category_logits': (2, cells, DETECTION_CLASSES),
            'mask_kernels': (2, cells, config.instance_channels + POSITION_WEIGHTS),
            'mask_features': (2, config.instance_channels, *quarter_hw),
            'log_depth': (2, 1, *map_hw),
            'motion_logits': (2, 1, *map_hw),
        }
        found = {name: tensor for name, tensor in output._asdict().items() if tensor is not None}
        assert tuple(found) == output_fields(config)
        assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {name: shapes[name] for name in found}
        full = resize_maps(subject.model, output)
        for name in set(MAPS) & set(found):
            assert getattr(full, name).shape[2:] == size_hw, name
        for tensor in found.values():
            assert tensor.dtype == torch.float32
            assert torch.isfinite(tensor).all()

    def test_gradients_reach_every_parameter(self, subject: Checkpoint) -> None:
        model, count = copy.deepcopy(subject.model).train(), channels(subject)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            # Stochastic depth skips a block for some images; with six, none is skipped for all.
            outputs = model(noise(6, count, 128, 128) + noise(6, count, 1, 1, seed=1))
        sum((tensor * noise(*tensor.shape, seed=i)).sum() for i, tensor in enumerate(given(outputs))).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        assert len(gradients) > 100
        assert [name for name, gradient in gradients.items() if gradient is None] == []
        assert [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()] == []
        assert [name for name, gradient in gradients.items() if not gradient.any()] == []

    def test_every_parameter_and_statistic_is_finite_and_kept_in_the_state(self, subject: Checkpoint) -> None:
        state = subject.model.state_dict()
        assert {name for name, _ in subject.model.named_parameters()} <= state.keys()
        assert [name for name, tensor in state.items() if not torch.isfinite(tensor).all()] == []

    def test_checkpoint_round_trip_is_bit_exact(self, subject: Checkpoint, tmp_path: Path) -> None:
        save_checkpoint(subject, tmp_path / 'model.safetensors')
        loaded = load_checkpoint(tmp_path / 'model.safetensors')
        images = noise(1, channels(subject), *self.canvas_hw)
        for before, after in zip(run(subject.model, images), run(loaded.model, images), strict=True):
            assert torch.equal(before, after)
        for field in dataclasses.fields(Checkpoint):
            if field.name != 'model':
                assert getattr(loaded, field.name) == getattr(subject, field.name), field.name
        assert not loaded.model.training
        assert all(parameter.requires_grad for parameter in loaded.model.parameters())

    def test_half_checkpoint_gives_close_outputs_in_half_the_bytes(self, subject: Checkpoint, tmp_path: Path) -> None:
        full, half = tmp_path / 'full.safetensors', tmp_path / 'half.safetensors'
        save_checkpoint(subject, full)
        save_checkpoint(subject, half, half=True)
        assert half.stat().st_size < 0.55 * full.stat().st_size
        loaded = load_checkpoint(half)
        assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
        images = noise(1, channels(subject), *self.canvas_hw)
        exact, rounded, shaken = (
            run(model, images) for model in (subject.model, loaded.model, shake(subject.model, HALF))
        )
        for ratio in error_ratios(exact, rounded, shaken):
            assert ratio < 1.5

    def test_evaluation_is_deterministic(self, subject: Checkpoint) -> None:
        images = noise(1, channels(subject), *self.canvas_hw)
        for first, second in zip(run(subject.model, images), run(subject.model, images), strict=True):
            assert torch.equal(first, second)

    def test_image_alone_gives_what_it_gives_in_a_batch(self, subject: Checkpoint) -> None:
        images = noise(3, channels(subject), *self.canvas_hw)
        batch = run(subject.model, images)
        for index in range(3):
            alone = run(subject.model, images[index : index + 1])
            assert largest_difference(tuple(t[index : index + 1] for t in batch), alone) < 1e-3

    def test_outputs_depend_on_the_image(self, subject: Checkpoint) -> None:
        first, second = (run(subject.model, noise(1, channels(subject), *self.canvas_hw, seed=seed)) for seed in (0, 1))
        for a, b in zip(first, second, strict=True):
            assert float((a - b).std()) > 1e-3

    @pytest.mark.parametrize('bad', [float('nan'), float('inf'), 1e30])
    def test_non_finite_images_end_in_finite_boxes(self, subject: Checkpoint, bad: float) -> None:
        images = noise(1, channels(subject), *self.canvas_hw)
        images[:, :, 40:60, 100:140] = bad
        with torch.no_grad():
            output = subject.model(images)
        placement = Placement((100, 200), scaled_hw=self.canvas_hw, canvas_hw=self.canvas_hw)
        if output.class_logits is not None:
            found = decode_detections(
                output.class_logits[0], output.box_regression[0], create_anchors(self.canvas_hw), placement,
                score_threshold=0.0, nms_iou_threshold=0.5, max_detections=100,
            )  # fmt: skip
            assert np.isfinite(found.boxes_xyxy).all()
            assert np.isfinite(found.scores).all()
        if output.semantic_logits is not None:
            logits = output.semantic_logits[0]
            sizes_hw = subject.model.semantic_sizes(tuple(logits.shape[1:]))
            ids, _ = decode_semantic(logits, placement, sizes_hw=sizes_hw, with_confidence=True)
            assert ids.max() < SEMANTIC_CLASSES

    @pytest.mark.parametrize(
        ('shape', 'words'),
        [
            ((1, 0, 100, 128), ('128', '100x128')),
            ((1, 0, 128, 192), ('128', '128x192')),
            ((1, 0, 0, 128), ('128', '0x128')),
            ((1, 4, 128, 128), ('(B, {channels}, H, W)', '(1, 4, 128, 128)')),
            ((3, 128, 128), ('(B, {channels}, H, W)', '(3, 128, 128)')),
            ((1, 1, 3, 128, 128), ('(B, {channels}, H, W)', '(1, 1, 3, 128, 128)')),
        ],
    )
    def test_wrong_shape_is_refused(self, subject: Checkpoint, shape: tuple[int, ...], words: tuple[str, ...]) -> None:
        count = channels(subject)
        if shape[1] == 0:  # as many as it takes
            shape = (shape[0], count, *shape[2:])
        with pytest.raises(InputError, match=r'^images: ') as caught:
            run(subject.model, torch.zeros(shape))
        for word in words:
            assert word.format(channels=count) in str(caught.value)

    def test_empty_batch_gives_empty_outputs(self, subject: Checkpoint) -> None:
        outputs = run(subject.model, torch.zeros(0, channels(subject), *self.canvas_hw))
        full = run(subject.model, torch.zeros(1, channels(subject), *self.canvas_hw))
        assert [t.shape for t in outputs] == [(0, *t.shape[1:]) for t in full]

    def test_bfloat16_runs_and_stays_close(self, subject: Checkpoint) -> None:
        images = noise(1, channels(subject), *self.canvas_hw)
        half = copy.deepcopy(subject.model).to(torch.bfloat16)
        outputs = run(half, images.to(torch.bfloat16))
        for tensor in outputs:
            assert tensor.dtype == torch.bfloat16
            assert torch.isfinite(tensor).all()
        # Every layer rounds its result too.
        for ratio in error_ratios(run(subject.model, images), outputs, run(shake(subject.model, BFLOAT16), images)):
            assert ratio < 1.7
