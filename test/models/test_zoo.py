"""Every model of the zoo keeps the shared contract."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.profile import profile_model
from sembox_ros.models.zoo import MODELS, create_model, find_model

pytest.register_assert_rewrite('contract')
from contract import ModelContract, create_subject  # noqa: E402  (asserts explain themselves only if told before)

SHARED_NECK = dataclasses.replace(MODELS['sembox_b1'].config, separate_semantic_neck=False)
# The published D7's way of fusing and its anchors, at a size that a test can afford.
SMALL_D7 = dataclasses.replace(
    MODELS['efficientdet_d7'].config, encoder='efficientnet-b0', neck_channels=32, neck_cells=2, box_head_depth=2
)
BOTH_HEADS = dataclasses.replace(
    MODELS['sembox_b0'].config, instance_channels=16, instance_head_channels=24, instance_head_depth=1,
    instance_grids=(8, 8, 4, 4, 2), instance_grid_aspect=2.0,
)  # fmt: skip
# One of each kind of encoder and decoder; below are the others of these kinds, most of them larger.
DECODED = (
    'mobilenetv2_s16_deeplabv3plus_lite', 'mobilenetv2_unet_lite', 'fd_mobilenetv2_fpn_lite', 'regnetx_400mf_fpn_lite',
    'resnext50_fpn', 'efficientdet_seg_d0', 'mobilenetv2_s16_multitask',
)  # fmt: skip
SUBJECTS = {
    **{name: MODELS[name].config for name in ('sembox_b0', 'sembox_b1', 'efficientdet_d0')},
    'sembox_b1_solo': MODELS['sembox_b1_solo'].config,
    'sembox_b1-shared_neck': SHARED_NECK,
    'efficientdet_d7-small': SMALL_D7,
    **{name: MODELS[name].config for name in DECODED},
    'unet-mobilenetv2': dataclasses.replace(MODELS['resnext50_unet'].config, encoder='mobilenetv2'),
    'sembox_b0-regnet': dataclasses.replace(MODELS['sembox_b0'].config, encoder='regnetx-400mf'),
    'sembox_b0-both_heads': BOTH_HEADS,
}


# `semanticboxnet_v1`, of one size only, has the contract in its own file.
LARGER = {n: entry.config for n, entry in MODELS.items() if n not in SUBJECTS and n != 'semanticboxnet_v1'}
SLOW = (pytest.mark.slow, pytest.mark.timeout(3000))


@pytest.fixture(scope='module', params=[*SUBJECTS, *(pytest.param(name, marks=SLOW) for name in LARGER)])
def subject(request: pytest.FixtureRequest) -> Checkpoint:
    return create_subject((SUBJECTS | LARGER)[request.param])


class TestZoo(ModelContract):
    pass


@pytest.mark.parametrize('name', MODELS)
def test_entry_carries_its_own_name(name: str) -> None:
    assert find_model(name).config.name == name


# For 90 classes, with the original's modules counted.
@pytest.mark.parametrize(('name', 'parameters'), [('efficientdet_d0', 3_880_067), ('efficientdet_d1', 6_625_898)])
def test_efficientdet_has_the_parameters_of_the_original(name: str, parameters: int) -> None:
    assert sum(part.parameters for part in profile_model(MODELS[name].config, (128, 128))) == parameters


@pytest.mark.parametrize('name', MODELS)
def test_every_model_can_be_built(name: str) -> None:
    with torch.device('meta'):
        model = create_model(MODELS[name].config)
    assert sum(p.numel() for p in model.parameters()) > 1_000_000


@pytest.mark.parametrize(('name', 'classes'), [('efficientdet_d0', 19), ('sembox_b0', 0)])
def test_semantic_classes_must_suit_the_model(name: str, classes: int) -> None:
    with pytest.raises(ConfigError, match=f'semantic_classes.*got {classes}'):
        create_model(dataclasses.replace(MODELS[name].config, semantic_classes=classes))


def test_unknown_model_names_a_close_one_and_all() -> None:
    with pytest.raises(ConfigError, match=r"'sembox_b9'.*did you mean sembox_b\d.*sembox_b0, sembox_b1"):
        create_model(ModelConfig(name='sembox_b9'))


def test_weights_follow_from_the_seed_alone() -> None:
    config = MODELS['sembox_b0'].config
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = create_model(config, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second, third = create_model(config, seed=3).state_dict(), create_model(config, seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first['encoder.stem.1.weight'], third['encoder.stem.1.weight'])


def test_sembox_b1_stays_in_its_budget() -> None:
    config = dataclasses.replace(MODELS['sembox_b1'].config, detection_classes=90)
    parts = profile_model(config, (768, 768))
    assert sum(part.parameters for part in parts) <= 12.5e6
    assert sum(part.multiply_adds for part in parts) <= 20e9


def test_shared_neck_is_one_neck() -> None:
    separate, shared = (
        {part.name: part.parameters for part in profile_model(config, (128, 128))}
        for config in (MODELS['sembox_b1'].config, SHARED_NECK)
    )
    assert 'semantic_neck' not in shared
    assert separate['box_neck'] == shared['box_neck']
    # Its last cell makes p3 to p5 only, which is all that the semantic head reads.
    assert 0 < separate['semantic_neck'] < separate['box_neck']


@pytest.mark.parametrize('name', ['efficientdet_d0', 'semanticboxnet_v1'])
@pytest.mark.parametrize('heads', [{'box_head': False}, {'instance_channels': 64}])
def test_heads_must_be_those_of_the_model(name: str, heads: dict[str, int]) -> None:
    config = dataclasses.replace(MODELS[name].config, semantic_classes=19, **heads)
    with pytest.raises(ConfigError, match=f'^box_head, instance_channels: expected true and 0, as {name} '):
        create_model(config)
