from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.boxes import decode_boxes
from sembox_ros.targets.anchors import IGNORED, NEGATIVE, AnchorTargets, assign_anchors

SIZE_HW = (128, 256)
ANCHORS = create_anchors(SIZE_HW)


def assign(
    anchors: list[list[float]] | Tensor,
    boxes: list[list[float]],
    class_ids: list[int] | None = None,
    crowd: list[bool] | None = None,
    **thresholds: float,
) -> AnchorTargets:
    return assign_anchors(
        torch.as_tensor(anchors, dtype=torch.float32),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(list(range(len(boxes))) if class_ids is None else class_ids, dtype=torch.int64),
        torch.tensor([False] * len(boxes) if crowd is None else crowd, dtype=torch.bool),
        **thresholds,
    )


def test_thresholds_by_hand() -> None:
    box = [0, 0, 10, 10]
    anchors = [
        [0, 0, 10, 10],  # IoU 1
        [0, 0, 10, 20],  # 100 / 200: exactly positive_iou
        [0, 0, 10, 22],  # 100 / 220 = 0.45
        [0, 0, 10, 26],  # 100 / 260 = 0.38
        [50, 50, 60, 60],  # 0
    ]
    targets = assign(anchors, [box], [7])
    assert targets.class_ids.tolist() == [7, 7, IGNORED, NEGATIVE, NEGATIVE]
    # Anchor 1 is 10 x 20 around (5, 10), the box 10 x 10 around (5, 5): dy = -5 / 20, dh = log(10 / 20).
    expected = torch.zeros(5, 4)
    expected[1] = torch.tensor([0, -0.25, 0, math.log(0.5)])
    torch.testing.assert_close(targets.regression, expected)
    assert (targets.class_ids.dtype, targets.regression.dtype) == (torch.int64, torch.float32)


def test_thresholds_can_be_chosen() -> None:
    anchors = [[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 22], [0, 0, 10, 26]]
    targets = assign(anchors, [[0, 0, 10, 10]], positive_iou=0.6, negative_iou=0.48)
    assert targets.class_ids.tolist() == [0, IGNORED, NEGATIVE, NEGATIVE]


def test_an_anchor_learns_the_box_that_overlaps_it_most() -> None:
    anchors = [[0, 0, 10, 10], [0, 0, 10, 8]]
    targets = assign(anchors, [[0, 0, 10, 9.5], [0, 0, 10, 8]], [3, 4])
    assert targets.class_ids.tolist() == [3, 4]  # 0.95 against 0.8; 0.84 against 1


def test_a_tiny_box_gets_its_best_anchor_below_the_threshold() -> None:
    # 8 x 8 in a 32 x 32 anchor: IoU 1/16.
    anchors = [[0, 0, 32, 32], [100, 100, 132, 132]]
    targets = assign(anchors, [[12, 12, 20, 20]], [5])
    assert targets.class_ids.tolist() == [5, NEGATIVE]
    torch.testing.assert_close(targets.regression[0], torch.tensor([0, 0, math.log(0.25), math.log(0.25)]))


def test_a_tiny_box_keeps_its_best_anchor_though_a_large_one_overlaps_it_more() -> None:
    anchors = [[0, 0, 32, 32], [0, 0, 32, 30]]
    boxes = [[0, 0, 32, 31], [15, 15, 17, 17]]  # IoU with anchor 1: 0.97 and 0.004
    assert assign(anchors, boxes, [1, 2]).class_ids.tolist() == [1, 2]


def test_anchors_that_overlap_a_small_box_equally_all_learn_it() -> None:
    anchors = [[0, 0, 32, 32], [8, 0, 40, 32], [24, 0, 56, 32]]
    assert assign(anchors, [[16, 16, 20, 20]], [2]).class_ids.tolist() == [2, 2, NEGATIVE]


def test_contested_anchors_go_to_the_nearer_box() -> None:
    anchors = [[0, 0, 32, 32], [8, 0, 40, 32]]  # both hold both boxes
    boxes = [[12, 14, 16, 18], [25, 14, 29, 18]]  # centers at x = 14 and 27; anchors at 16 and 24
    assert assign(anchors, boxes, [1, 2]).class_ids.tolist() == [1, 2]


def test_equal_boxes_share_the_anchors() -> None:
    anchors = [[0, 0, 32, 32], [0, 0, 40, 40]]
    assert sorted(assign(anchors, [[0, 0, 4, 4]] * 2, [1, 2]).class_ids.tolist()) == [1, 2]


def test_more_boxes_than_anchors_end() -> None:
    assert assign([[0, 0, 32, 32]], [[0, 0, 4, 4], [0, 0, 5, 5], [16, 16, 18, 18]]).class_ids.tolist() == [2]


def test_a_box_that_touches_no_anchor_gets_none() -> None:
    targets = assign([[0, 0, 32, 32]], [[40, 40, 50, 50]])
    assert targets.class_ids.tolist() == [NEGATIVE]


def test_no_boxes_make_everything_negative() -> None:
    targets = assign(ANCHORS, [])
    assert torch.equal(targets.class_ids, torch.full((len(ANCHORS),), NEGATIVE))
    assert not targets.regression.any()


def test_crowds_ignore_the_anchors_inside_and_nothing_else() -> None:
    anchors = [
        [0, 0, 10, 10],  # all inside
        [0, 35, 10, 45],  # half inside
        [0, 36, 10, 46],  # 0.4 inside
        [0, 0, 9, 20],  # inside, but learns the object: IoU 162 / 198
    ]
    targets = assign(anchors, [[0, 0, 40, 40], [0, 0, 10, 18]], [1, 2], [True, False])
    # Anchor 0 has IoU 100 / 180 with the object.
    assert targets.class_ids.tolist() == [2, IGNORED, NEGATIVE, 2]
    beside = assign(anchors, [[0, 0, 40, 40], [0, 0, 10, 45]], [1, 2], [True, False])
    # The object's best is anchor 3 (180 / 459); 100 / 450 and less for the others, which the crowd covers or not.
    assert beside.class_ids.tolist() == [IGNORED, IGNORED, NEGATIVE, 2]


def test_only_crowds_give_no_positive() -> None:
    targets = assign(ANCHORS, [[0, 0, 64, 64], [100, 20, 180, 90]], crowd=[True, True])
    assert (targets.class_ids < 0).all()
    assert not targets.regression.any()
    centers = (ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2
    small = (ANCHORS[:, 2] - ANCHORS[:, 0]) == 32
    inside = small & ((centers > 16) & (centers < 48)).all(dim=1)
    assert inside.any()
    assert (targets.class_ids[inside] == IGNORED).all()


@pytest.mark.parametrize('box', [[5, 5, 5, 9], [5, 5, 9, 5], [5, 5, 5, 5], [9, 9, 5, 5]])
def test_boxes_without_area_are_left_out(box: list[float]) -> None:
    targets = assign([[0, 0, 32, 32], [50, 50, 82, 82]], [box, [50, 50, 82, 82]], [0, 1])
    assert targets.class_ids.tolist() == [NEGATIVE, 1]
    assert targets.regression.isfinite().all()


def test_extreme_boxes_stay_finite() -> None:
    targets = assign(ANCHORS, [[10, 10, 10 + 1e-5, 10 + 1e-5], [-1e30, -1e30, 1e30, 1e30], [0, 0, 1e-30, 1e-30]])
    assert targets.regression.isfinite().all()
    assert 0 in targets.class_ids


def test_overlaps_agree_with_torchvision() -> None:
    """On random boxes: positive exactly where box_iou says 0.5, but for the forced anchors."""
    generator = torch.Generator().manual_seed(0)
    center = torch.rand(50, 2, generator=generator) * torch.tensor([256.0, 128.0])
    half = torch.rand(50, 2, generator=generator) * 40 + 2
    boxes = torch.cat((center - half, center + half), dim=1)
    targets = assign_anchors(ANCHORS, boxes, torch.arange(50), torch.zeros(50, dtype=torch.bool))
    iou, best = box_iou(ANCHORS, boxes).max(dim=1)
    positive = targets.class_ids >= 0
    assert positive[iou >= 0.5].all()
    assert ((targets.class_ids == IGNORED) == ((iou >= 0.4) & ~positive)).all()
    ordinary = (iou >= 0.5) & (targets.class_ids == best)
    assert ordinary.sum() > 300
    forced = positive & ~ordinary
    overlap = box_iou(ANCHORS, boxes)
    for anchor in forced.nonzero()[:, 0].tolist():
        box = int(targets.class_ids[anchor])
        taken_by_others = positive & (targets.class_ids != box)
        assert overlap[anchor, box] >= overlap[~taken_by_others, box].max() * 0.999


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[list[float]], list[int], list[bool]]:
    count = draw(st.integers(0, 12))
    boxes = []
    for _ in range(count):
        x, y = draw(st.floats(0, 250, width=32)), draw(st.floats(0, 120, width=32))
        width, height = draw(st.floats(1, 200, width=32)), draw(st.floats(1, 120, width=32))
        boxes.append([x, y, x + width, y + height])
    if boxes and draw(st.booleans()):
        boxes.append(boxes[0])
    crowd = draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes)))
    return boxes, list(range(len(boxes))), crowd


@settings(deadline=None, max_examples=60)
@given(scene=scenes())
def test_every_object_has_an_anchor_and_decodes_from_it(scene: tuple[list[list[float]], list[int], list[bool]]) -> None:
    boxes, class_ids, crowd = scene
    targets = assign(ANCHORS, boxes, class_ids, crowd)
    positive = targets.class_ids >= 0
    assert set(targets.class_ids[positive].tolist()) == {k for k, c in zip(class_ids, crowd, strict=True) if not c}
    assert not targets.regression[~positive].any()
    if positive.any():
        decoded = decode_boxes(targets.regression[positive], ANCHORS[positive])
        wanted = torch.tensor(boxes)[targets.class_ids[positive]]
        # A side from 1000 / 16 times the anchor's on is capped; none here is.
        torch.testing.assert_close(decoded, wanted, atol=1e-2, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(scene=scenes(), data=st.data())
def test_the_order_of_the_boxes_changes_nothing(
    scene: tuple[list[list[float]], list[int], list[bool]], data: st.DataObject
) -> None:
    boxes, class_ids, crowd = scene
    order = data.draw(st.permutations(range(len(boxes))))
    one = assign(ANCHORS, boxes, class_ids, crowd)
    other = assign(ANCHORS, *([part[i] for i in order] for part in (boxes, class_ids, crowd)))
    assert torch.equal(one.class_ids, other.class_ids)
    assert torch.equal(one.regression, other.regression)


@pytest.mark.parametrize(('positive', 'negative'), [(0.4, 0.5), (0.0, 0.0), (1.2, 0.4), (0.5, -0.1), (math.nan, 0.4)])
def test_thresholds_that_do_not_fit(positive: float, negative: float) -> None:
    with pytest.raises(ConfigError, match='positive_iou, negative_iou: expected'):
        assign(ANCHORS, [], positive_iou=positive, negative_iou=negative)


def test_inputs_that_do_not_fit() -> None:
    box, crowd = torch.tensor([[0.0, 0.0, 5.0, 5.0]]), torch.tensor([False])
    with pytest.raises(InputError, match=r'boxes_xyxy: expected shape \(N, 4\), got \(4,\)'):
        assign_anchors(ANCHORS, box[0], torch.tensor([0]), crowd)
    with pytest.raises(InputError, match=r'class_ids: expected \(1,\) torch.int64, one per box, got \(2,\)'):
        assign_anchors(ANCHORS, box, torch.tensor([0, 1]), crowd)
    with pytest.raises(InputError, match=r'is_crowd: expected .* torch\.bool'):
        assign_anchors(ANCHORS, box, torch.tensor([0]), crowd.long())
    with pytest.raises(InputError, match='boxes_xyxy: expected finite coordinates'):
        assign_anchors(ANCHORS, box * math.nan, torch.tensor([0]), crowd)
