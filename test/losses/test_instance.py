from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses.instance import InstanceLoss
from sembox_ros.ops.grids import POSITION_WEIGHTS, create_grids
from sembox_ros.targets.grids import assign_cells

CANVAS = (64, 128)
SHAPES = ((8, 16), (4, 8), (2, 4), (2, 2), (1, 1))
GRIDS = create_grids(SHAPES, CANVAS)
CELLS, CLASSES, FEATURES = len(GRIDS.reach), 3, 4
LOSS = InstanceLoss(assign=assign_cells)


def batch(images: int = 1) -> dict[str, Any]:
    """One object of 12 x 12 pixels, of class 2, in each image."""
    instances = torch.zeros(images, *CANVAS, dtype=torch.int32)
    instances[:, 16:28, 40:52] = 1
    return {
        'grids': GRIDS,
        'instances': instances,
        'boxes_xyxy': (torch.tensor([[40.0, 16.0, 52.0, 28.0]]),) * images,
        'class_ids': (torch.tensor([2]),) * images,
        'is_crowd': (torch.tensor([False]),) * images,
    }


def outputs(images: int = 1) -> dict[str, torch.Tensor]:
    return {
        'category_logits': torch.full((images, CELLS, CLASSES), -20.0),
        'mask_kernels': torch.zeros(images, CELLS, FEATURES + POSITION_WEIGHTS),
        'mask_features': torch.zeros(images, FEATURES, 16, 32),
    }


def perfect() -> dict[str, torch.Tensor]:
    """The right class in the object's cells, and the object itself as the first feature."""
    found, given = outputs(), batch()
    targets = assign_cells(GRIDS, *(part[0] for name, part in given.items() if name != 'grids'))
    found['category_logits'][0, targets.class_ids == 2, 2] = 20.0
    found['mask_kernels'][0, :, 0] = 1.0
    found['mask_features'][0, 0] = -20.0
    found['mask_features'][0, 0, 4:7, 10:13] = 20.0
    return found


def test_a_perfect_answer_costs_nothing() -> None:
    losses = LOSS(**perfect(), **batch())
    assert losses.keys() == {'loss_category', 'loss_mask'}
    assert losses['loss_category'].item() == pytest.approx(0, abs=1e-6)
    assert losses['loss_mask'].item() == pytest.approx(0, abs=1e-6)


def test_mask_loss_by_hand() -> None:
    found = perfect()
    found['mask_features'][0, 0, 4:7, 13] = 20.0  # one column too many: 9 of 12 cells are right
    assert LOSS(**found, **batch())['loss_mask'].item() == pytest.approx(1 - 2 * 9 / (12 + 9), abs=1e-6)


def test_edges_count_by_their_share() -> None:
    given = batch()
    given['instances'][0] = 0
    given['instances'][0, 16:28, 42:54] = 1  # half a cell further to the right
    found = perfect()
    found['mask_features'][0, 0, 4:7, 10:14] = torch.tensor([0.0, 20.0, 20.0, 0.0])  # a half on either side
    assert LOSS(**found, **given)['loss_mask'].item() == pytest.approx(0, abs=1e-6)


def test_category_loss_by_hand() -> None:
    found = perfect()
    missed = found['category_logits'][0, :, 2] > 0
    count = int(missed.sum())
    found['category_logits'][0, missed, 2] = 0.0  # probability a half
    wanted = 0.25 * 0.5**2 * math.log(2)  # of each; the sum is divided by their number
    assert count > 1
    assert LOSS(**found, **batch())['loss_category'].item() == pytest.approx(wanted, rel=1e-4)


def test_images_count_alike_and_alone() -> None:
    found = {name: torch.cat((tensor, outputs()[name])) for name, tensor in perfect().items()}
    both, first = LOSS(**found, **batch(2)), LOSS(**perfect(), **batch())
    second = LOSS(**outputs(), **batch())
    for name in both:
        assert both[name].item() == pytest.approx((first[name].item() + second[name].item()) / 2)


def test_an_image_without_objects_is_part_of_the_graph() -> None:
    found = {name: tensor.requires_grad_() for name, tensor in outputs().items()}
    empty = (torch.zeros(0, 4),), (torch.zeros(0, dtype=torch.int64),), (torch.zeros(0, dtype=torch.bool),)
    given = batch() | {
        'instances': torch.zeros(1, *CANVAS, dtype=torch.int32),
        **dict(zip(('boxes_xyxy', 'class_ids', 'is_crowd'), empty, strict=True)),
    }
    losses = LOSS(**found, **given)
    assert losses['loss_mask'].item() == 0
    sum(losses.values()).backward()
    assert all(tensor.grad is not None and torch.isfinite(tensor.grad).all() for tensor in found.values())


def test_gradients_reach_kernels_and_features_in_half_precision() -> None:
    found = {name: (tensor.bfloat16() + 0.1).requires_grad_() for name, tensor in outputs().items()}
    losses = LOSS(**found, **batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    assert all(tensor.grad.any() for tensor in found.values())


def test_no_more_than_max_cells_pay_for_masks() -> None:
    few = InstanceLoss(assign=assign_cells, max_cells=1)
    found = {name: tensor.requires_grad_() for name, tensor in perfect().items()}
    few(**found, **batch())['loss_mask'].backward()
    assert (found['mask_kernels'].grad[0].abs().sum(dim=1) > 0).sum() == 1


@pytest.mark.parametrize(
    ('options', 'words'), [({'alpha': 2.0}, 'alpha'), ({'gamma': -1.0}, 'gamma'), ({'max_cells': 0}, 'max_cells')]
)
def test_bad_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f'^{words}: expected'):
        InstanceLoss(assign=assign_cells, **options)


@pytest.mark.parametrize(
    ('name', 'tensor'),
    [
        ('category_logits', torch.zeros(1, CELLS + 1, CLASSES)),
        ('mask_kernels', torch.zeros(1, CELLS, FEATURES)),
        ('mask_features', torch.zeros(1, FEATURES, 16, 16)),
        ('instances', torch.zeros(1, 32, 64, dtype=torch.int32)),
    ],
)
def test_shapes_that_do_not_fit_are_named(name: str, tensor: torch.Tensor) -> None:
    given = {**outputs(), **batch(), name: tensor}
    with pytest.raises(InputError, match=rf'^{name}: expected \('):
        LOSS(**given)
