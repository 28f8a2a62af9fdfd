from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.ops.placement import Placement
from sembox_ros.postprocess.detections import decode_detections
from sembox_ros.types import Detections

# An image of 60 x 200 shown at half size in the top left of a 128 x 128 canvas: padding below row 30 and right of 100.
HALF = Placement((60, 200), scaled_hw=(30, 100), canvas_hw=(128, 128))
SURE = 8.0
NO = -8.0


def decode(
    logits: list[list[float]], regression: list[list[float]], anchors: list[list[float]], placement: Placement = HALF,
    *, score: float = 0.5, iou: float = 0.5, most: int = 100,
) -> Detections:  # fmt: skip
    return decode_detections(
        torch.tensor(logits), torch.tensor(regression), torch.tensor(anchors), placement,
        score_threshold=score, nms_iou_threshold=iou, max_detections=most,
    )  # fmt: skip


def test_letterboxed_box_comes_out_in_image_pixels() -> None:
    # Anchor 20 x 10 around (50, 15); moved by half its width to the right, twice as wide: 40 x 10 around (60, 15).
    found = decode([[NO, SURE]], [[0.5, 0.0, math.log(2), 0.0]], [[40.0, 10.0, 60.0, 20.0]])
    np.testing.assert_allclose(found.boxes_xyxy, [[80, 20, 160, 40]], atol=1e-3)
    assert found.class_ids.tolist() == [1]
    assert found.scores[0] == pytest.approx(1 / (1 + math.exp(-SURE)))


def test_scales_of_the_two_axes_differ_when_stretched() -> None:
    stretched = Placement((300, 50), scaled_hw=(100, 100), canvas_hw=(128, 128))
    found = decode([[SURE]], [[0.0] * 4], [[10.0, 20.0, 30.0, 40.0]], stretched)
    np.testing.assert_allclose(found.boxes_xyxy, [[5, 60, 15, 120]], atol=1e-3)


def test_box_over_the_border_is_cut_there() -> None:
    found = decode([[SURE]], [[0.0] * 4], [[-10.0, -10.0, 120.0, 25.0]])
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 200, 50]], atol=1e-3)


@pytest.mark.parametrize(
    'anchor',
    [
        [10.0, 31.0, 30.0, 60.0],  # below the image
        [101.0, 5.0, 120.0, 20.0],  # right of it
        [10.0, 30.0, 30.0, 60.0],  # touching its lower edge
        [-20.0, 5.0, 0.0, 20.0],  # touching its left edge
    ],
)
def test_box_in_the_padding_is_dropped(anchor: list[float]) -> None:
    assert len(decode([[SURE]], [[0.0] * 4], [anchor])) == 0


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', range(4))
def test_non_finite_regression_harms_no_other_box(bad: float, place: int) -> None:
    regression = [0.0] * 4
    regression[place] = bad
    good = [10.0, 5.0, 30.0, 25.0]
    found = decode([[SURE], [SURE - 1]], [regression, [0.0] * 4], [[60.0, 5.0, 80.0, 25.0], good])
    assert np.isfinite(found.boxes_xyxy).all()
    assert [20, 10, 60, 50] in found.boxes_xyxy.round().tolist()


def test_dropped_boxes_do_not_suppress_others_and_ids_stay_with_their_boxes() -> None:
    # The best box lies wholly in the padding; the next two are of different classes, in falling order of score.
    found = decode(
        [[9.0, NO], [NO, 3.0], [2.0, NO]],
        [[0.0] * 4] * 3,
        [[0.0, 40.0, 20.0, 60.0], [0.0, 0.0, 20.0, 20.0], [50.0, 0.0, 60.0, 20.0]],
    )
    assert found.class_ids.tolist() == [1, 0]
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 40, 40], [100, 0, 120, 40]], atol=1e-3)


def test_thresholds_are_the_arguments() -> None:
    logits = [[2.0], [1.0], [-1.0]]
    anchors = [[0.0, 0.0, 20.0, 20.0], [2.0, 0.0, 22.0, 20.0], [60.0, 0.0, 80.0, 20.0]]
    zero = [[0.0] * 4] * 3
    assert len(decode(logits, zero, anchors, score=0.5, iou=0.5)) == 1
    assert len(decode(logits, zero, anchors, score=0.5, iou=0.9)) == 2
    assert len(decode(logits, zero, anchors, score=0.2, iou=0.9)) == 3
    assert len(decode(logits, zero, anchors, score=0.2, iou=0.9, most=2)) == 2


def test_no_anchor_above_the_threshold() -> None:
    assert len(decode([[NO]], [[0.0] * 4], [[0.0, 0.0, 9.0, 9.0]])) == 0


NUMBER = st.floats(width=32) | st.floats(-5, 5, width=32)


@settings(deadline=None)
@given(data=st.data(), image_hw=st.tuples(st.integers(1, 3000), st.integers(1, 3000)), count=st.integers(1, 12))
def test_whatever_the_network_says_boxes_lie_in_the_image(
    data: st.DataObject, image_hw: tuple[int, int], count: int
) -> None:
    scaled_hw = data.draw(st.tuples(st.integers(1, 128), st.integers(1, 256)))
    placement = Placement(image_hw, scaled_hw=scaled_hw, canvas_hw=(128, 256))
    rows = st.lists(NUMBER, min_size=4, max_size=4)
    logits = data.draw(st.lists(st.lists(NUMBER, min_size=2, max_size=2), min_size=count, max_size=count))
    regression = data.draw(st.lists(rows, min_size=count, max_size=count))
    corner = st.lists(st.floats(-100, 300, width=32), min_size=2, max_size=2)
    anchors = [
        [*c, c[0] + 32, c[1] + 16] for c in data.draw(st.lists(corner, min_size=count, max_size=count))
    ]  # fmt: skip
    found = decode(logits, regression, anchors, placement, score=0.0)
    height, width = image_hw
    boxes = found.boxes_xyxy
    assert np.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= width).all()
    assert (boxes[:, [1, 3]] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert np.isin(found.class_ids, (0, 1)).all()
