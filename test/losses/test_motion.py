from __future__ import annotations

import math

import pytest
import torch

from sembox_ros.errors import InputError
from sembox_ros.losses.motion import MotionLoss


def loss_of(logits: list[list[float]], motion: list[list[int]]) -> float:
    return float(MotionLoss()(torch.tensor([[logits]]), torch.tensor([motion]))['loss_motion'])


def test_by_hand() -> None:
    # p = 1/2 everywhere, one pixel of three moves, one is ignored.
    dice = [1 - 2 * 0.5 / (3 * 0.25 + 1), 1 - 2 * 1.0 / (3 * 0.25 + 2)]
    assert loss_of([[0.0, 0.0], [0.0, 9.0]], [[1, 0], [0, 255]]) == pytest.approx(math.log(2) + sum(dice) / 2)


def test_certainty_costs_nothing_if_right_and_stays_finite_if_wrong() -> None:
    assert loss_of([[100.0, -100.0]], [[1, 0]]) == pytest.approx(0.0, abs=1e-6)
    assert loss_of([[100.0, -100.0]], [[0, 1]]) == pytest.approx(101.0)
    assert loss_of([[1e4]], [[0]]) == pytest.approx(1e4 + 1)


def test_what_moves_counts_although_it_is_rare() -> None:
    motion = [[1] + [0] * 99]
    missed, found = loss_of([[-5.0] * 100], motion), loss_of([[5.0] + [-5.0] * 99], motion)
    assert missed - found > 0.5


def test_an_image_without_labels_counts_zero() -> None:
    logits = torch.randn(2, 1, 3, 3, requires_grad=True)
    motion = torch.full((2, 3, 3), 255)
    loss = MotionLoss()(logits, motion)['loss_motion']
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
    motion[0, 0, 0] = 1
    half = MotionLoss()(logits, motion)['loss_motion'].item()
    assert half == pytest.approx(MotionLoss()(logits[:1], motion[:1])['loss_motion'].item() / 2)


def test_what_does_not_fit_is_refused() -> None:
    logits = torch.zeros(1, 1, 2, 2)
    with pytest.raises(InputError, match=r'motion: expected 0, 1 or 255, got \[0, 7\]'):
        MotionLoss()(logits, torch.tensor([[[0, 7], [0, 0]]]))
    with pytest.raises(InputError, match=r'motion: expected \(1, 2, 2\) torch.int64 like .*, got .* torch.uint8'):
        MotionLoss()(logits, torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(InputError, match='motion_logits: expected'):
        MotionLoss()(logits[0], torch.zeros(1, 2, 2, dtype=torch.int64))
