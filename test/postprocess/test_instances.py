from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from made_instances import CANVAS_HW, CLASSES, GRIDS, SURE, raw_tensors, rectangle
from torch import Tensor

from sembox_ros.ops.placement import Placement
from sembox_ros.postprocess.instances import Instances, decode_instances

WHOLE = Placement(CANVAS_HW, CANVAS_HW, CANVAS_HW)


def decode(
    objects: list[tuple[Tensor, int, int, float]], placement: Placement = WHOLE, *, score: float = 0.3, most: int = 100
) -> Instances:
    return decode_instances(*raw_tensors(objects), GRIDS, placement, score_threshold=score, max_detections=most)


def test_masks_come_out_with_boxes_finer_than_their_places() -> None:
    found = decode([(rectangle(41.5, 21.0, 99.0, 62.3), 0, 3, SURE), (rectangle(150, 70, 171, 101), 20, 5, SURE + 1)])
    assert found.detections.class_ids.tolist() == [5, 3]
    np.testing.assert_allclose(found.detections.boxes_xyxy, [[150, 70, 171, 101], [41.5, 21.0, 99.0, 62.3]], atol=1e-3)
    assert found.mask_logits.shape == (2, 32, 64)
    torch.testing.assert_close(found.mask_logits[1], rectangle(41.5, 21.0, 99.0, 62.3))


def test_score_is_the_categorys_times_the_mean_probability_inside() -> None:
    mask = torch.full((32, 64), -3.0)
    mask[4:8, 4:8] = 2.0
    mask[4:8, 8:12] = 1.0
    found = decode([(mask, 0, 0, 1.5)])
    sigmoid = [1 / (1 + math.exp(-x)) for x in (1.5, 2.0, 1.0)]
    assert found.detections.scores.tolist() == pytest.approx([sigmoid[0] * (sigmoid[1] + sigmoid[2]) / 2])
    assert len(decode([(mask, 0, 0, 1.5)], score=0.7).detections) == 0


def test_boxes_are_in_pixels_of_the_image_and_end_at_its_border() -> None:
    # 200 x 60 pixels, shown at half size: 100 x 30 of the canvas.
    placement = Placement((60, 200), scaled_hw=(30, 100), canvas_hw=CANVAS_HW)
    found = decode([(rectangle(10, 5, 30, 200), 0, 0, SURE), (rectangle(-50, 8, 300, 16), 9, 1, SURE)], placement)
    boxes = dict(zip(found.detections.class_ids.tolist(), found.detections.boxes_xyxy.tolist(), strict=True))
    assert boxes[0] == pytest.approx([20, 10, 60, 60])
    assert boxes[1] == pytest.approx([0, 16, 200, 32])


def test_a_mask_in_the_padding_alone_or_nowhere_is_dropped() -> None:
    placement = Placement((60, 200), scaled_hw=(30, 100), canvas_hw=CANVAS_HW)
    nowhere = torch.full((32, 64), -1.0)
    found = decode([(rectangle(10, 40, 90, 120), 0, 0, SURE), (nowhere, 9, 1, SURE)], placement)
    assert len(found.detections) == 0
    assert found.mask_logits.shape == (0, 32, 64)


def test_of_neighbouring_cells_the_best_speaks_and_of_copies_elsewhere_too() -> None:
    mask = rectangle(40, 20, 100, 60)
    # Cells 9 and 10 are neighbours in the first grid; 38 lies in the second and says the same a little less surely.
    found = decode([(mask, 9, 3, SURE), (mask, 10, 3, SURE - 1), (mask, 38, 3, SURE - 2)])
    assert len(found.detections) == 1
    assert found.detections.scores[0] > 0.9
    several = decode([(mask, 9, 3, SURE), (mask, 10, 4, SURE - 1), (mask, 38, 3, SURE - 2)], score=0.1)
    assert several.detections.class_ids.tolist() == [3, 4, 3]  # another class, and a copy whose score decayed
    assert several.detections.scores[2] == pytest.approx(several.detections.scores[1] * math.exp(-2), rel=0.05)


def test_neighbours_at_the_end_of_a_row_are_not_neighbours() -> None:
    left, right = rectangle(4, 20, 60, 60), rectangle(190, 20, 250, 60)
    found = decode([(right, 7, 3, SURE), (left, 8, 3, SURE - 1)])  # last of the first row, first of the second
    assert len(found.detections) == 2


def test_most_are_the_best() -> None:
    objects = [(rectangle(10 + 40 * i, 20, 30 + 40 * i, 60), 2 * i, 0, SURE - i) for i in range(4)]
    found = decode(objects, most=2)
    np.testing.assert_allclose(found.detections.boxes_xyxy[:, 0], [10, 50], atol=1e-3)
    assert found.mask_logits.shape[0] == 2


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_non_finite_tensors_give_finite_boxes(bad: float) -> None:
    objects = [(rectangle(10, 20, 60, 60), 0, 0, SURE), (rectangle(100, 20, 160, 60), 4, 1, SURE)]
    for place in range(3):
        tensors = [t.clone() for t in raw_tensors(objects)]
        tensors[place][0] = bad
        found = decode_instances(*tensors, GRIDS, WHOLE, score_threshold=0.3, max_detections=10)
        assert np.isfinite(found.detections.boxes_xyxy).all()
        assert np.isfinite(found.detections.scores).all()
        assert torch.isfinite(found.mask_logits).all()
    categories, kernels, features = raw_tensors(objects)
    categories[0] = math.nan
    found = decode_instances(categories, kernels, features, GRIDS, WHOLE, score_threshold=0.3, max_detections=10)
    assert found.detections.class_ids.tolist() == [1]


def test_half_precision_is_computed_in_float() -> None:
    tensors = [t.half() for t in raw_tensors([(rectangle(10, 20, 60, 60), 0, CLASSES - 1, SURE)])]
    found = decode_instances(*tensors, GRIDS, WHOLE, score_threshold=0.3, max_detections=10)
    assert found.mask_logits.dtype == torch.float32
    np.testing.assert_allclose(found.detections.boxes_xyxy, [[10, 20, 60, 60]], atol=0.1)
