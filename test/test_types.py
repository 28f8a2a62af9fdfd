from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from sembox_ros.errors import InputError
from sembox_ros.types import Detections, Scene


def detections(**changes: Any) -> Detections:
    values = {
        'boxes_xyxy': np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.float32),
        'class_ids': np.array([0, 1], np.int64),
        'scores': np.array([0.9, 0.8], np.float32),
    }
    return Detections(**{**values, **changes})


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'boxes_xyxy': [[0, 1, 2, 3]]}, ('boxes_xyxy', 'numpy array', 'list')),
        ({'boxes_xyxy': np.zeros((2, 5), np.float32)}, ('boxes_xyxy', "('any', 4)", '(2, 5)')),
        ({'boxes_xyxy': np.zeros(4, np.float32)}, ('boxes_xyxy', "('any', 4)", '(4,)')),
        ({'boxes_xyxy': np.zeros((2, 4), np.float64)}, ('boxes_xyxy', 'float32', 'float64')),
        ({'class_ids': np.zeros(3, np.int64)}, ('class_ids', '(2,)', '(3,)')),
        ({'class_ids': np.zeros(2, np.int32)}, ('class_ids', 'int64', 'int32')),
        ({'class_ids': None}, ('class_ids', 'NoneType')),
        ({'scores': np.zeros((2, 1), np.float32)}, ('scores', '(2,)', '(2, 1)')),
        ({'scores': np.zeros(2, np.float64)}, ('scores', 'float32', 'float64')),
        ({'boxes_xyxy': np.array([[0, 0, np.nan, 1]] * 2, np.float32)}, ('boxes_xyxy', 'finite')),
        ({'boxes_xyxy': np.array([[0, 0, np.inf, 1]] * 2, np.float32)}, ('boxes_xyxy', 'finite')),
        ({'boxes_xyxy': np.array([[0, 0, 1, 1], [2, 0, 1, 1]], np.float32)}, ('boxes_xyxy', 'swapped')),
        ({'boxes_xyxy': np.array([[0, 0, 1, 1], [0, 2, 1, 1]], np.float32)}, ('boxes_xyxy', 'swapped')),
    ],
)
def test_detections_refuse(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        detections(**changes)
    for word in words:
        assert word in str(caught.value)


def test_detections_count_boxes() -> None:
    assert len(detections()) == 2
    assert len(Detections.empty()) == 0
    assert Detections.empty().boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ('part', 'array', 'words'),
    [
        ('semantic', np.zeros((3, 2), np.uint8), ('(2, 3)', '(3, 2)')),
        ('semantic', np.zeros((2, 3, 1), np.uint8), ('(2, 3)', '(2, 3, 1)')),
        ('semantic', np.zeros((2, 3), np.int64), ('uint8', 'int64')),
        ('confidence', np.zeros((2, 3), np.float32), ('uint8', 'float32')),
        ('confidence', np.zeros((2, 2), np.uint8), ('(2, 3)', '(2, 2)')),
        ('panoptic', np.zeros((2, 3), np.uint8), ('int32', 'uint8')),
        ('panoptic', [[0]], ('numpy array', 'list')),
    ],
)
def test_scene_refuses(part: str, array: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        Scene((2, 3), **{part: array})
    for word in (part, *words):
        assert word in str(caught.value)


def test_scene_takes_parts_that_fit_and_leaves_the_others_none() -> None:
    semantic = np.zeros((2, 3), np.uint8)
    scene = Scene((2, 3), semantic=semantic, panoptic=np.zeros((2, 3), np.int32), detections=detections())
    assert scene.semantic is semantic
    assert scene.confidence is None
    assert dict(scene.timings_ms) == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.semantic = None  # type: ignore[misc]
