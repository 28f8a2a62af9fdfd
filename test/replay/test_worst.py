from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from example_report import LABELS, example_frame

from sembox_ros.labels import CITYSCAPES_8, CITYSCAPES_19, COCO_90, SceneLabels
from sembox_ros.replay.worst import ERROR, FALSE_ALARM, find_wrong_pixels, match_boxes, render_worst
from sembox_ros.types import Detections, Scene


def detections(*rows: tuple[float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4].astype(np.int64), np.linspace(0.9, 0.1, len(table), dtype=np.float32))


def panels(picture: np.ndarray, cell_hw: tuple[int, int], rows: int) -> list[np.ndarray]:
    """The parts of a picture, row by row."""
    height, width = cell_hw
    assert picture.shape == (rows * (30 + height + 6), 6 + 2 * (width + 6), 3)
    corners = [(r * (height + 36) + 30, 6 + c * (width + 6)) for r in range(rows) for c in range(2)]
    return [picture[y : y + height, x : x + width].astype(int) for y, x in corners]


def test_wrong_pixels_are_those_whose_class_was_not_found():
    pred = np.array([[0, 1, 2, 255, 0]], np.uint8)
    truth = np.array([[0, 2, 2, 1, 255]], np.uint8)
    wrong = find_wrong_pixels(pred, truth, CITYSCAPES_19, CITYSCAPES_19)
    assert wrong.tolist() == [[False, True, False, True, False]]


def test_classes_of_two_label_sets_are_the_same_by_name():
    common = next(name for name in CITYSCAPES_8.names if name in CITYSCAPES_19.names)
    pred = np.full((1, 1), CITYSCAPES_19.names.index(common), np.uint8)
    truth = np.full((1, 1), CITYSCAPES_8.names.index(common), np.uint8)
    assert not find_wrong_pixels(pred, truth, CITYSCAPES_19, CITYSCAPES_8).any()
    assert find_wrong_pixels(pred, (truth + 1) % len(CITYSCAPES_8), CITYSCAPES_19, CITYSCAPES_8).all()


def test_boxes_find_one_object_of_their_class_each():
    car = LABELS.detection.names.index('car')
    coco_car, coco_bus = COCO_90.names.index('car'), COCO_90.names.index('bus')
    truth = detections((0, 0, 10, 10, car), (50, 0, 60, 10, car))
    pred = detections(
        (0, 0, 10, 9, coco_car), (0, 0, 10, 10, coco_car), (50, 0, 60, 10, coco_bus), (53, 0, 63, 10, coco_car)
    )
    found, taken = match_boxes(pred, truth, COCO_90, LABELS.detection)
    assert found.tolist() == [True, False, False, True]  # the second comes too late, 7 / 13 of the last overlap
    assert taken.tolist() == [True, True]
    for side in (detections(), truth):
        found, taken = match_boxes(detections(), side, COCO_90, LABELS.detection)
        assert (len(found), taken.tolist()) == (0, [False] * len(side))


def test_all_four_parts_are_there():
    frame = example_frame(0)
    picture = render_worst(**frame)
    assert picture.dtype == np.uint8
    image, truth, difference, prediction = panels(picture, (356, 711), 2)
    scale = 711 / 1024
    sky, sidewalk, wrong, missed, alarm = (
        (round(y * scale), round(x * scale)) for y, x in ((50, 500), (345, 560), (345, 560), (320, 980), (350, 420))
    )
    blue = np.array(frame['labels'].semantic.palette[10])
    assert np.abs(truth[sky] - (0.45 * image[sky] + 0.55 * blue)).max() < 3
    assert np.abs(truth[sidewalk] - prediction[sidewalk]).max() > 50
    assert np.ptp(difference[sky]) == 0  # grey where it is right
    assert difference[wrong][0] - difference[wrong][1] > 80  # red where it is wrong
    for place, color in ((missed, ERROR), (alarm, FALSE_ALARM)):
        around = difference[place[0] - 3 : place[0] + 4, place[1] - 3 : place[1] + 4].reshape(-1, 3)
        assert np.abs(around - color).max(axis=1).min() < 12


@pytest.mark.parametrize('without', ['truth_labels', 'both'])
def test_without_ground_truth_image_and_prediction_stand_alone(without: str):
    frame = dict(example_frame(0))
    frame |= {'truth_labels': None} if without == 'truth_labels' else {'truth_scene': Scene((512, 1024))}
    image, prediction = panels(render_worst(**frame), (356, 711), 1)
    assert np.abs(image - prediction).max() > 50


@pytest.mark.parametrize('missing', ['truth mask', 'truth boxes', 'pred mask', 'pred boxes', 'semantic labels'])
def test_any_part_may_be_missing(missing: str):
    frame = dict(example_frame(0))
    if missing == 'semantic labels':
        frame['labels'] = SceneLabels(None, LABELS.detection)
        frame['pred_scene'] = dataclasses.replace(frame['pred_scene'], semantic=None)
    else:
        side = f'{missing.split()[0]}_scene'
        part = {'semantic': None} if 'mask' in missing else {'detections': None}
        frame[side] = dataclasses.replace(frame[side], **part)
    assert len(panels(render_worst(**frame), (356, 711), 2)) == 4


@pytest.mark.parametrize(
    ('size_hw', 'cell_hw'),
    [((60, 120), (240, 480)), ((600, 600), (600, 600)), ((1600, 100), (711, 44)), ((1, 1), (480, 480))],
)
def test_images_of_any_size_fit(size_hw: tuple[int, int], cell_hw: tuple[int, int]):
    image = np.full((*size_hw, 3), 120, np.uint8)
    scene = Scene(size_hw, semantic=np.zeros(size_hw, np.uint8), detections=detections((0, 0, 1, 1, 0)))
    picture = render_worst(image, scene, scene, LABELS, LABELS)
    assert len(panels(picture, cell_hw, 2)) == 4
    assert (image == 120).all()
