"""The published SemanticBoxNet's function, from reference outputs of the original network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sembox_ros.labels import CITYSCAPES_20, COCO_90
from sembox_ros.models.folding import fold
from sembox_ros.models.importers import find_plan
from sembox_ros.models.importers.verification import Golden, read_golden, verify_golden
from sembox_ros.models.zoo import create_model

GOLDEN = Path(__file__).parents[2] / 'goldens' / 'golden_semanticboxnet_seed0.npz'


@pytest.fixture(scope='module')
def golden() -> Golden:
    return read_golden(GOLDEN)


def test_plan_fills_the_whole_network_from_all_of_the_original_s_keys(golden: Golden) -> None:
    plan = find_plan('semanticboxnet')
    with torch.device('meta'):
        model = create_model(plan.config)
    filled = plan.key_map.apply(golden.state, model)  # refuses missing and left-over keys
    assert filled.keys() == model.state_dict().keys()
    assert len(golden.state) == 1660
    assert sum(p.numel() for p in model.parameters()) == 12_187_138


def test_every_output_and_intermediate_is_the_original_s(golden: Golden) -> None:
    report = verify_golden(golden)
    assert report.skipped == []
    assert {d.name for d in report.differences} == golden.outputs.keys()
    assert [d for d in report.differences if d.absolute > 2e-4] == []


def test_folded_network_is_the_original_too(golden: Golden) -> None:
    report = verify_golden(golden, lambda checkpoint: fold(checkpoint.model))
    # The five last convolutions are two now; what lay between them is gone, and nothing else.
    assert set(report.skipped) == {f'mid:semhead.{name}' for name in ('last1_1', 'last1_2', 'last1_4', 'last2')}
    assert [d for d in report.differences if d.absolute > 2e-4] == []
    assert next(d.absolute for d in report.differences if d.name == 'sem_argmax') == 0


def test_plan_says_what_the_classes_and_the_input_are() -> None:
    plan = find_plan('semanticboxnet')
    assert plan.labels.semantic == CITYSCAPES_20
    assert plan.labels.semantic.names[19] == 'void'
    assert plan.labels.detection == COCO_90
    linked = {COCO_90.names[box]: CITYSCAPES_20.names[mask] for box, mask in plan.labels.thing_links.items()}
    assert {'person': 'person', 'car': 'car', 'bicycle': 'bicycle'}.items() <= linked.items()
    assert plan.input.size_hw == (768, 768)
    assert (plan.input.resize, plan.input.semantic_extent) == ('letterbox_fixed', 'image')
    assert plan.input.channel_order == 'rgb'
