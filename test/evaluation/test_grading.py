"""Grades across label sets: the same class has another id on each side."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from sembox_ros.errors import InputError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.labels import CITYSCAPES_19, LabelSet, SceneLabels, load_scene_labels
from sembox_ros.types import Detections


def label_set(name: str, *names: str) -> LabelSet:
    return LabelSet(name=name, names=names, palette=((0, 0, 0),) * len(names), is_thing=(True,) * len(names))


GT = SceneLabels(semantic=label_set('truth', 'road', 'car'), detection=label_set('things', 'car', 'rider'))
NETWORK = SceneLabels(
    semantic=label_set('masks', 'car', 'moon', 'road'), detection=label_set('boxes', 'tree', 'person', 'car')
)


def found(*rows: tuple[float, float, float, float, int, float]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.int64), table[:, 5].astype(np.float32))


def add_boxes(grade: SceneGrade, image_id: str, pred: Detections, class_ids: list[int]) -> None:
    boxes = np.array([[50 * i, 0, 50 * i + 40, 40] for i in range(len(class_ids))], np.float32).reshape(-1, 4)
    grade.add_boxes(
        image_id, pred, gt_boxes_xyxy=boxes, gt_class_ids=np.array(class_ids, np.int64),
        gt_is_crowd=np.zeros(len(class_ids), np.bool_),
    )  # fmt: skip


def test_masks_are_compared_by_name():
    grade = SceneGrade(NETWORK, GT)
    # network: car 0, moon 1, road 2. truth: road 0, car 1.
    miou = grade.add_mask(np.array([[2, 2, 0, 1, 0]], np.uint8), np.array([[0, 0, 1, 1, 255]], np.uint8))
    assert miou == 0.75
    assert grade.confusion().tolist() == [[2, 0, 0], [0, 1, 1]]
    semantic, boxes = grade.compute()
    assert semantic.iou_per_class == {'road': 1.0, 'car': 0.5}  # the moon is a miss of a car
    assert boxes is None
    assert (grade.masks, grade.images) == (1, 0)


def test_boxes_are_compared_by_name_in_the_classes_that_both_know():
    grade = SceneGrade(NETWORK, GT)
    assert grade.notes == ["AP without rider, which the network's 'boxes' lacks"]
    # The tree (no class of the truth) scores best and still does no harm; the rider (unknown to the network) neither.
    add_boxes(grade, 'a', found((0, 0, 40, 40, 0, 0.9), (0, 0, 40, 40, 2, 0.5)), [0, 1])
    semantic, boxes = grade.compute()
    assert semantic is None
    assert boxes.ap_per_class['car'] == pytest.approx(1)
    assert math.isnan(boxes.ap_per_class['rider'])
    assert boxes.ap == pytest.approx(1)
    assert grade.images == 1
    assert {name: curve.min() for name, curve in grade.precision_curves().items()} == {'car': pytest.approx(1)}
    assert grade.confusion() is None


@pytest.mark.parametrize(
    ('pred', 'gt', 'notes'),
    [
        (
            SceneLabels(semantic=None, detection=GT.detection),
            GT,
            ['no mIoU: the network only detects'],
        ),
        (GT, SceneLabels(semantic=None, detection=GT.detection), ['no mIoU: the ground truth has no masks']),
        (
            SceneLabels(semantic=label_set('s', 'road'), detection=label_set('d', 'tree')),
            GT,
            [
                "no mIoU: the network's classes 's' lack car of 'truth'",
                "no AP: the boxes' classes 'd' and 'things' have no name in common",
            ],
        ),
        (
            load_scene_labels('kitti_road_2+coco_90'),
            load_scene_labels('cityscapes_19+cityscapes_things_8'),
            [
                "no mIoU: the network's classes 'kitti_road_2' lack sidewalk, building, wall, fence and 14 more "
                "of 'cityscapes_19'",
                "AP without rider, which the network's 'coco_90' lacks",
            ],
        ),
        (load_scene_labels('cityscapes_20+cityscapes_things_8'), load_scene_labels('kitti_19+coco_80'), None),
    ],
)
def test_what_is_left_out_is_said(pred: SceneLabels, gt: SceneLabels, notes: list[str] | None):
    grade = SceneGrade(pred, gt)
    if notes is not None:
        assert grade.notes == notes
        miou = grade.add_mask(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
        assert math.isnan(miou) == (grade.confusion() is None) == any('no mIoU' in note for note in notes)
        add_boxes(grade, 'a', Detections.empty(), [0])
        assert (grade.precision_curves() is None) == any('no AP' in note for note in notes)
        assert [part is None for part in grade.compute()] == [
            any('no mIoU' in note for note in notes), any('no AP' in note for note in notes),
        ]  # fmt: skip
    else:
        assert [note.split(',')[0] for note in grade.notes] == ['AP without airplane']


def test_equal_label_sets_change_nothing():
    labels = load_scene_labels('cityscapes_19+cityscapes_things_8')
    grade, mask = SceneGrade(labels, labels), np.arange(19, dtype=np.uint8)[None]
    grade.add_mask(mask, mask)
    assert grade.notes == []
    assert grade.compute()[0].iou_per_class == dict.fromkeys(CITYSCAPES_19.names, 1.0)


def test_merged_parts_equal_the_whole_and_a_refused_merge_changes_nothing():
    whole, one, two = (SceneGrade(NETWORK, GT) for _ in range(3))
    for name, part, mask in (('a', one, [[2, 0]]), ('b', two, [[1, 0]])):
        for grade in (whole, part):
            grade.add_mask(np.array(mask, np.uint8), np.array([[0, 1]], np.uint8))
            add_boxes(grade, name, found((0, 0, 40, 30, 2, 0.5)), [0, 0])
    one.merge(pickle.loads(pickle.dumps(two)))
    assert [part.to_dict() for part in one.compute()] == [part.to_dict() for part in whole.compute()]
    assert (one.masks, one.images) == (2, 2)
    with pytest.raises(InputError, match="the first is 'b'"):
        one.merge(two)
    assert one.compute()[0] == whole.compute()[0]
    assert (one.masks, one.images) == (2, 2)
    with pytest.raises(InputError, match='the same label sets'):
        one.merge(SceneGrade(GT, GT))


def test_ids_outside_the_sets_are_refused():
    grade = SceneGrade(NETWORK, GT)
    with pytest.raises(InputError, match=r"pred.class_ids of 'a': expected ids 0\.\.2 of 'boxes', got 3\.\.3"):
        add_boxes(grade, 'a', found((0, 0, 1, 1, 3, 0.5)), [])
    with pytest.raises(InputError, match=r"gt_class_ids of 'a': expected ids 0\.\.1 of 'things', got -1\.\.-1"):
        add_boxes(grade, 'a', Detections.empty(), [-1])
    with pytest.raises(InputError, match=r'pred: expected .* uint8 class ids, got int64'):
        grade.add_mask(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.uint8))
    assert (grade.masks, grade.images) == (0, 0)
