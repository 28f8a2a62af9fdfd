from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses.depth import DepthLoss
from sembox_ros.losses.maps import fit_labels


def test_by_hand() -> None:
    log_depth = torch.tensor([[[[math.log(10.0), math.log(20.0)], [0.0, 5.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    depth = torch.tensor([[[20.0, 10.0], [0.0, 81.0]], [[math.e, 0.0], [0.0, 0.0]]])
    # Of the first image two pixels are known, both wrong by a factor of 2; of the second one, wrong by e.
    assert DepthLoss()(log_depth, depth)['loss_depth'].item() == pytest.approx((math.log(2) + 1) / 2)
    farther = DepthLoss(max_depth_m=100.0)(log_depth, depth)['loss_depth'].item()
    assert farther == pytest.approx(((2 * math.log(2) + 5 - math.log(81)) / 3 + 1) / 2)


def test_unknown_pixels_have_no_gradient_and_an_image_without_others_none_at_all() -> None:
    log_depth = torch.zeros(2, 1, 2, 2, requires_grad=True)
    depth = torch.tensor([[[5.0, 0.0], [0.0, 200.0]], [[0.0, 0.0], [0.0, 0.0]]])
    loss = DepthLoss()(log_depth, depth)['loss_depth']
    assert loss.item() == pytest.approx(math.log(5) / 2)
    loss.backward()
    assert log_depth.grad.nonzero().tolist() == [[0, 0, 0, 0]]
    none = DepthLoss()(log_depth, torch.zeros(2, 2, 2))['loss_depth']
    none.backward()
    assert none.item() == 0


@given(factor=st.floats(0.1, 10.0), metres=st.floats(0.5, 8.0))
def test_an_error_costs_the_same_near_and_far(factor: float, metres: float) -> None:
    loss = DepthLoss()(torch.tensor([[[[math.log(factor * metres)]]]]), torch.tensor([[[metres]]]))['loss_depth']
    assert loss.item() == pytest.approx(abs(math.log(factor)), abs=1e-5)


def test_half_precision_gives_full_precision() -> None:
    loss = DepthLoss()(torch.ones(1, 1, 1, 1, dtype=torch.bfloat16), torch.ones(1, 1, 1))['loss_depth']
    assert (loss.dtype, loss.item()) == (torch.float32, 1.0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r'log_depth: expected \(B, 1, H, W\), got \(1, 2, 4, 4\)'):
        DepthLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4))
    for depth in (torch.zeros(1, 8, 8), torch.zeros(1, 4, 4, dtype=torch.float64)):
        with pytest.raises(InputError, match=r'depth: expected \(1, 4, 4\) torch.float32 like log_depth, got'):
            DepthLoss()(torch.zeros(1, 1, 4, 4), depth)
    with pytest.raises(ConfigError, match='max_depth_m: expected a finite number above 0, got 0'):
        DepthLoss(max_depth_m=0)


def test_labels_take_the_size_of_their_map() -> None:
    labels = torch.arange(16).view(1, 4, 4)
    assert fit_labels(labels, torch.zeros(1, 7, 2, 2)).tolist() == [[[5, 7], [13, 15]]]
    assert fit_labels(labels, torch.zeros(1, 7, 4, 4)) is labels
    assert fit_labels(labels, None) is labels
    assert fit_labels(None, torch.zeros(1, 7, 4, 4)) is None
    assert fit_labels(labels.float() / 2, torch.zeros(1, 1, 2, 2)).tolist() == [[[2.5, 3.5], [6.5, 7.5]]]
