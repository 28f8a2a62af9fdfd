from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses import LOSSES, SceneLoss, combine, create_loss
from sembox_ros.losses.box import BoxLoss
from sembox_ros.losses.depth import DepthLoss
from sembox_ros.losses.motion import MotionLoss
from sembox_ros.losses.semantic import SemanticLoss
from sembox_ros.models.sembox import NetworkOutput
from sembox_ros.targets.anchors import assign_anchors

BOX, SEMANTIC = BoxLoss(assign=assign_anchors), SemanticLoss()
OUTPUT = NetworkOutput(
    class_logits=torch.zeros(1, 2, 3), box_regression=torch.zeros(1, 2, 4), semantic_logits=torch.zeros(1, 5, 2, 2)
)
BATCH: dict[str, Any] = {
    'anchors_xyxy': torch.tensor([[0.0, 0.0, 8.0, 8.0], [90.0, 90.0, 99.0, 99.0]]),
    'semantic': torch.tensor([[[0, 1], [2, 255]]]),
    'boxes_xyxy': (torch.tensor([[0.0, 0.0, 8.0, 8.0]]),),
    'class_ids': (torch.tensor([2]),),
    'is_crowd': (torch.tensor([False]),),
}
NO_BOXES = {'anchors_xyxy': None, 'boxes_xyxy': None, 'class_ids': None, 'is_crowd': None}


def test_combine_by_hand() -> None:
    losses = {'loss_box_cls': torch.tensor(2.0, requires_grad=True), 'loss_semantic': torch.tensor(3.0)}
    terms = combine(losses, {'loss_box_cls': 0.5})
    assert {name: term.item() for name, term in terms.items()} == {
        'loss_box_cls': 2.0, 'loss_semantic': 3.0, 'loss': 4.0,
    }  # fmt: skip
    terms['loss'].backward()
    assert losses['loss_box_cls'].grad.item() == 0.5


def test_combine_refuses_a_weight_without_a_term() -> None:
    with pytest.raises(ConfigError, match='weights: expected names among loss_region, got loss_regoin'):
        combine({'loss_region': torch.tensor(1.0)}, {'loss_regoin': 2.0})


def test_create_loss_passes_the_options_on() -> None:
    assert create_loss('box', {'assign': assign_anchors, 'gamma': 1.5}) == BoxLoss(assign=assign_anchors, gamma=1.5)
    loss = create_loss('semantic', {'class_weights': [1.0, 2.0], 'region': 'jaccard'})
    assert loss == SemanticLoss(class_weights=(1.0, 2.0), region='jaccard')
    assert set(LOSSES) == {'box', 'semantic', 'instance', 'depth', 'motion'}


def test_create_loss_names_what_it_knows() -> None:
    with pytest.raises(ConfigError, match="loss: expected one of box, semantic, instance, depth, motion, got 'boxes'"):
        create_loss('boxes', {})
    with pytest.raises(ConfigError, match=r'semantic: expected options among class_weights, .*, got gamma'):
        create_loss('semantic', {'gamma': 2.0})
    with pytest.raises(ConfigError, match='box: expected a value for assign, got none'):
        create_loss('box', {'gamma': 2.0})


def test_both_heads_by_hand() -> None:
    terms = SceneLoss(box=BOX, semantic=SEMANTIC, weights={'loss_box_reg': 50.0, 'loss_semantic': 2.0})(OUTPUT, **BATCH)
    focal = (0.25 + 5 * 0.75) * 0.25 * math.log(2)  # one true pair and five false ones at p = 0.5, one positive
    dice = 1 - 2 * 0.2 / (3 * 0.04 + 1)  # for each of three classes: one pixel of three, p = 0.2
    expected = {
        'loss_box_cls': focal,
        'loss_box_reg': 0.0,
        'loss_semantic': math.log(5),
        'loss_region': dice,
        'loss': focal + 2 * math.log(5) + dice,
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_semantics_only() -> None:
    loss = SceneLoss(box=None, semantic=SEMANTIC, weights={'loss_box_reg': 50.0, 'loss_region': 0.0})
    terms = loss(OUTPUT, **{**BATCH, **NO_BOXES})
    assert list(terms) == ['loss_semantic', 'loss_region', 'loss']
    assert terms['loss'].item() == pytest.approx(math.log(5), rel=1e-5)


def test_boxes_only() -> None:
    loss = SceneLoss(box=BOX, semantic=None, weights={})
    terms = loss(OUTPUT._replace(semantic_logits=None), **{**BATCH, 'semantic': None})
    assert list(terms) == ['loss_box_cls', 'loss_box_reg', 'loss']
    assert terms['loss'].item() == pytest.approx((0.25 + 5 * 0.75) * 0.25 * math.log(2), rel=1e-5)


def test_depth_and_motion_beside_masks() -> None:
    weights = {'loss_depth': 3.0, 'loss_box_reg': 9.0}
    loss = SceneLoss(box=None, semantic=SEMANTIC, depth=DepthLoss(), motion=MotionLoss(), weights=weights)
    assert loss.reads_maps
    assert not SceneLoss(box=BOX, semantic=None, weights={}).reads_maps
    output = OUTPUT._replace(log_depth=torch.zeros(1, 1, 2, 2), motion_logits=torch.zeros(1, 1, 2, 2))
    given = {**BATCH, **NO_BOXES, 'depth': torch.full((1, 2, 2), math.e), 'motion': torch.tensor([[[1, 1], [1, 255]]])}
    terms = loss(output, **given)
    assert list(terms) == ['loss_semantic', 'loss_region', 'loss_depth', 'loss_motion', 'loss']
    assert terms['loss_depth'].item() == pytest.approx(1.0)
    assert terms['loss_motion'].item() == pytest.approx(math.log(2) + 1 - 2 * 1.5 / (3 * 0.25 + 3))
    total = sum(terms[name] for name in ('loss_semantic', 'loss_region', 'loss_motion')) + 3 * terms['loss_depth']
    assert terms['loss'].item() == pytest.approx(float(total))
    with pytest.raises(InputError, match='log_depth: expected a value, got None; without it train with depth=None'):
        loss(OUTPUT, **given)
    with pytest.raises(InputError, match='motion: expected a value, got None'):
        loss(output, **{**given, 'motion': None})


def test_half_precision_gives_full_precision_and_gradients() -> None:
    tensors = {n: value.bfloat16().requires_grad_() for n, value in OUTPUT._asdict().items() if value is not None}
    loss = SceneLoss(box=BOX, semantic=SEMANTIC, weights={})
    with torch.autocast('cpu', dtype=torch.bfloat16):
        terms = loss(SimpleNamespace(**tensors), **BATCH)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    terms['loss'].backward()
    # The regression of the positive anchor is right already.
    assert [name for name, tensor in tensors.items() if tensor.grad.any()] == ['class_logits', 'semantic_logits']


def test_missing_parts_are_named() -> None:
    loss = SceneLoss(box=BOX, semantic=SEMANTIC, weights={})
    with pytest.raises(InputError, match=r'^semantic_logits: expected a value, got None'):
        loss(OUTPUT._replace(semantic_logits=None), **BATCH)
    with pytest.raises(InputError, match=r'^semantic: expected a value, got None'):
        loss(OUTPUT, **{**BATCH, 'semantic': None})
    with pytest.raises(InputError, match=r'^anchors_xyxy, boxes_xyxy, class_ids, is_crowd: .* train with box=None'):
        loss(OUTPUT, **{**BATCH, **NO_BOXES})


def test_a_criterion_needs_a_loss_and_known_weights() -> None:
    with pytest.raises(ConfigError, match=r'box, semantic, .*, motion: expected at least one loss, got none'):
        SceneLoss(box=None, semantic=None, weights={})
    with pytest.raises(ConfigError, match=r'weights: expected names among loss_box_cls, .*, got loss_boxes'):
        SceneLoss(box=BOX, semantic=None, weights={'loss_boxes': 1.0})
