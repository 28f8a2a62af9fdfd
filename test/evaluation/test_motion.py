from __future__ import annotations

import math

import numpy as np
import pytest

from sembox_ros.errors import InputError
from sembox_ros.evaluation.motion import MotionIoU


def test_by_hand() -> None:
    metric = MotionIoU()
    pred, gt = np.array([[True, True, False, False, True]]), np.array([[1, 0, 0, 1, 255]], np.uint8)
    metric.update_mask(pred, gt)
    scores = metric.scores()
    assert (scores.moving_iou, scores.static_iou, scores.motion_miou) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    metric.update_mask(np.zeros((1, 4), np.bool_), np.zeros((1, 4), np.uint8))
    assert metric.scores().static_iou == pytest.approx(5 / 7)


def test_nothing_moves() -> None:
    metric = MotionIoU()
    assert math.isnan(metric.scores().motion_miou)
    metric.update_mask(np.zeros((2, 2), np.bool_), np.zeros((2, 2), np.uint8))
    assert metric.scores().to_dict() == {'motion_miou': 1.0, 'moving_iou': None, 'static_iou': 1.0}


def test_what_does_not_fit_is_refused() -> None:
    metric, gt = MotionIoU(), np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match='pred: expected dtype bool'):
        metric.update_mask(gt, gt)
    with pytest.raises(InputError, match=r"gt: expected ids 0..1 of 'motion' or 255 \(ignored\), got \[2\]"):
        metric.update_mask(gt.astype(np.bool_), gt + np.uint8(2))
