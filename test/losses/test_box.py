from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses import box
from sembox_ros.losses.box import BoxLoss, focal_loss
from sembox_ros.targets import anchors as targets
from sembox_ros.targets.anchors import AnchorTargets, assign_anchors

ANCHORS = torch.tensor(
    [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 20.0], [0.0, 0.0, 10.0, 22.0], [50.0, 50.0, 60.0, 60.0]]
)
BOX = torch.tensor([[0.0, 0.0, 10.0, 10.0]])  # anchors 0 and 1 learn it, 2 is ignored, 3 negative
NO_BOX = torch.zeros(0, 4)


def ids(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def crowd(*values: bool) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def loss_of(
    loss: BoxLoss, logits: Tensor, regression: Tensor, *images: tuple[Tensor, Tensor, Tensor]
) -> dict[str, Tensor]:
    boxes, class_ids, is_crowd = zip(*images, strict=True)
    return loss(logits, regression, anchors_xyxy=ANCHORS, boxes_xyxy=boxes, class_ids=class_ids, is_crowd=is_crowd)


def test_both_modules_mean_the_same_by_ignored() -> None:
    assert (box.IGNORED, -1) == (targets.IGNORED, targets.NEGATIVE)


def test_focal_loss_by_hand() -> None:
    # Probabilities 0.8 for the true class, 0.5 for the other; a negative with 0.2 and 0.1; an ignored anchor.
    probs = torch.tensor([[0.8, 0.5], [0.2, 0.1], [0.9, 0.9]])
    expected = (
        0.25 * 0.2**2 * -math.log(0.8)
        + 0.75 * 0.5**2 * -math.log(0.5)
        + 0.75 * 0.2**2 * -math.log(0.8)
        + 0.75 * 0.1**2 * -math.log(0.9)
    )
    loss = focal_loss(probs.logit(), ids(0, -1, -2), alpha=0.25, gamma=2.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(('alpha', 'gamma'), [(0.25, 2.0), (0.25, 1.5), (0.6, 0.0), (0.5, 0.5)])
def test_focal_loss_agrees_with_torchvision(alpha: float, gamma: float) -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(1)) * 3
    target_ids = torch.arange(50) % 8 - 1
    one_hot = torch.nn.functional.one_hot(target_ids + 1, 8)[:, 1:].float()
    expected = sigmoid_focal_loss(logits, one_hot, alpha=alpha, gamma=gamma, reduction='sum')
    torch.testing.assert_close(focal_loss(logits, target_ids, alpha=alpha, gamma=gamma), expected)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 1.5, 2.0])
def test_extreme_logits_stay_finite(gamma: float) -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [0.0, -0.0]], requires_grad=True)
    loss = focal_loss(logits, ids(0, 0, -1, -2), alpha=0.25, gamma=gamma)
    # Anchor 0 is right. Anchor 1: 0.25 x 1e4 and 0.75 x 1e4; anchor 2: 0.75 x 1e4 twice.
    assert loss.item() == pytest.approx(2.5e4, rel=1e-5)
    loss.backward()
    # A wrong sure pair has slope weight; a right sure pair none; an ignored anchor none.
    torch.testing.assert_close(logits.grad, torch.tensor([[0, 0], [-0.25, 0.75], [0.75, 0.75], [0, 0]]))


def test_gradient_is_the_derivative() -> None:
    logits = torch.linspace(-3, 3, 12).reshape(4, 3).requires_grad_()
    loss = focal_loss(logits, ids(0, 2, -1, -2), alpha=0.25, gamma=2.0)
    loss.backward()
    step = 1e-2
    for row, column in ((0, 0), (0, 1), (1, 2), (2, 1), (3, 0)):
        moved = [logits.detach().clone() for _ in range(2)]
        moved[0][row, column] -= step
        moved[1][row, column] += step
        low, high = (focal_loss(m, ids(0, 2, -1, -2), alpha=0.25, gamma=2.0) for m in moved)
        assert logits.grad[row, column].item() == pytest.approx((high - low).item() / (2 * step), abs=2e-4)


def test_both_terms_by_hand() -> None:
    probs = torch.full((1, 4, 2), 0.5)
    regression = torch.zeros(1, 4, 4)
    regression[0, 0, 0] = 0.05  # below beta: 0.5 x 0.05^2 / 0.1 = 0.0125
    regression[0, 2:] = 100.0  # ignored and negative anchors pay nothing for it
    # Anchor 1 should give 0, -0.25, 0, log 0.5: 0.25 - 0.05 and 0.6931 - 0.05.
    loss = loss_of(BoxLoss(assign=assign_anchors), probs.logit(), regression, (BOX, ids(1), crowd(False)))
    assert loss['loss_box_reg'].item() == pytest.approx((0.0125 + 0.20 + math.log(2) - 0.05) / 8, rel=1e-5)
    # Two positive anchors with a true and a false class, one negative with two false ones; all at p = 0.5.
    weights = 2 * (0.25 + 0.75) + 2 * 0.75
    assert loss['loss_box_cls'].item() == pytest.approx(weights * 0.25 * math.log(2) / 2, rel=1e-5)
    assert all(term.dtype == torch.float32 and term.shape == () for term in loss.values())


def test_an_image_costs_the_same_in_any_batch() -> None:
    """Each image divides by its own positives, and the batch is the mean: gradients of processes simply average."""
    logits, regression = torch.zeros(2, 4, 2), torch.ones(2, 4, 4)
    full, empty = (BOX, ids(1), crowd(False)), (NO_BOX, ids(), crowd())
    loss = BoxLoss(assign=assign_anchors)
    both = loss_of(loss, logits, regression, full, empty)
    one, other = (loss_of(loss, logits[:1], regression[:1], image) for image in (full, empty))
    assert other['loss_box_cls'].item() == pytest.approx(4 * 2 * 0.75 * 0.25 * math.log(2))
    for name, term in both.items():
        assert term.item() == pytest.approx((one[name].item() + other[name].item()) / 2)


def test_images_without_objects_divide_by_one() -> None:
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    regression = torch.ones(1, 4, 4, requires_grad=True)
    loss = loss_of(BoxLoss(assign=assign_anchors), logits, regression, (NO_BOX, ids(), crowd()))
    assert loss['loss_box_cls'].item() == pytest.approx(8 * 0.75 * 0.25 * math.log(2), rel=1e-5)
    assert loss['loss_box_reg'].item() == 0
    (loss['loss_box_cls'] + loss['loss_box_reg']).backward()
    assert not regression.grad.any()
    assert logits.grad.all()


def test_a_crowd_over_everything_costs_nothing() -> None:
    everything = torch.tensor([[-10.0, -10.0, 100.0, 100.0]])
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    loss = loss_of(BoxLoss(assign=assign_anchors), logits, torch.ones(1, 4, 4), (everything, ids(0), crowd(True)))
    assert [term.item() for term in loss.values()] == [0, 0]
    loss['loss_box_cls'].backward()
    assert not logits.grad.any()


def test_the_assignment_is_the_one_that_was_handed_in() -> None:
    loss = BoxLoss(assign=partial(assign_anchors, positive_iou=0.9))

    def everything_is_class_1(anchors: Tensor, boxes: Tensor, class_ids: Tensor, is_crowd: Tensor) -> AnchorTargets:
        return AnchorTargets(torch.ones(len(anchors), dtype=torch.int64), torch.zeros(len(anchors), 4))

    logits, regression, image = torch.zeros(1, 4, 2), torch.ones(1, 4, 4), (BOX, ids(1), crowd(False))
    # Only anchor 0, which is the box itself, with four errors of 1; and all four anchors alike.
    assert loss_of(loss, logits, regression, image)['loss_box_reg'].item() == pytest.approx(0.95)
    everything = BoxLoss(assign=everything_is_class_1, beta=0.5)
    assert loss_of(everything, logits, regression, image)['loss_box_reg'].item() == pytest.approx(0.75)


def test_half_precision_is_computed_in_full() -> None:
    logits, regression = torch.full((1, 4, 2), -4.0), torch.full((1, 4, 4), 0.5)
    loss, image = BoxLoss(assign=assign_anchors), (BOX, ids(1), crowd(False))
    full = loss_of(loss, logits, regression, image)
    half = loss_of(loss, logits.bfloat16(), regression.bfloat16(), image)
    assert {name: term.item() for name, term in half.items()} == {name: term.item() for name, term in full.items()}
    with torch.autocast('cpu', dtype=torch.bfloat16):
        autocast = loss_of(loss, logits.bfloat16(), regression.bfloat16(), image)
    assert autocast['loss_box_cls'].dtype == torch.float32
    assert autocast['loss_box_cls'].item() == full['loss_box_cls'].item()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'alpha': 1.5}, 'alpha: expected a weight in 0..1, got 1.5'),
        ({'gamma': -1.0}, 'gamma: expected a finite number from 0, got -1.0'),
        ({'gamma': math.nan}, 'gamma: expected'),
        ({'beta': 0.0}, 'beta: expected a finite number above 0, got 0.0'),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BoxLoss(assign=assign_anchors, **options)


def test_inputs_that_do_not_fit() -> None:
    loss, image = BoxLoss(assign=assign_anchors), (BOX, ids(1), crowd(False))
    logits, regression = torch.zeros(1, 4, 2), torch.zeros(1, 4, 4)
    with pytest.raises(InputError, match=r'class_logits: expected \(B, A, K\), got \(4, 2\)'):
        loss_of(loss, logits[0], regression, image)
    with pytest.raises(InputError, match=r'box_regression: expected \(1, 4, 4\), got \(1, 3, 4\)'):
        loss_of(loss, logits, regression[:, :3], image)
    with pytest.raises(InputError, match=r'anchors_xyxy: expected \(3, 4\).*got \(4, 4\)'):
        loss_of(loss, logits[:, :3], regression[:, :3], image)
    with pytest.raises(InputError, match='boxes_xyxy: expected one tensor per image, 1, got 2'):
        loss_of(loss, logits, regression, image, image)
    with pytest.raises(InputError, match=r'class_ids: expected 0\.\.1, got 2\.\.2; .* same labels'):
        loss_of(loss, logits, regression, (BOX, ids(2), crowd(False)))
