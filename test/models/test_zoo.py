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
SUBJECTS = {**{name: entry.config for name, entry in MODELS.items()}, 'sembox_b1-shared_neck': SHARED_NECK}


@pytest.fixture(scope='module', params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Checkpoint:
    return create_subject(SUBJECTS[request.param])


class TestZoo(ModelContract):
    pass


@pytest.mark.parametrize('name', MODELS)
def test_entry_carries_its_own_name(name: str) -> None:
    assert find_model(name).config.name == name


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
