"""The demo's grade from recorded messages, of which every number is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sembox_ros.data.streets import render_sequence
from sembox_ros.labels import SceneLabels, load_scene_labels
from sembox_ros.replay.bags import BagMessage
from sembox_ros.replay.demo_grade import Grader, Truths, render_grade

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
ROAD, PERSON, CAR = 0, 11, 13


def message_of_mask(mask: np.ndarray, stamp_ns: int) -> BagMessage:
    message = SimpleNamespace(encoding='mono8', height=mask.shape[0], width=mask.shape[1], data=mask.reshape(-1))
    return BagMessage('/segmentation/mask', stamp_ns, stamp_ns, message)


def message_of_boxes(rows: list[tuple], stamp_ns: int) -> BagMessage:
    """rows: (x0, y0, x1, y1, class id, score)."""
    detections = [
        SimpleNamespace(
            bbox=SimpleNamespace(
                center=SimpleNamespace(position=SimpleNamespace(x=(x0 + x1) / 2, y=(y0 + y1) / 2)),
                size_x=x1 - x0, size_y=y1 - y0,
            ),
            results=[SimpleNamespace(hypothesis=SimpleNamespace(class_id=str(class_id), score=score))],
        )
        for x0, y0, x1, y1, class_id, score in rows
    ]  # fmt: skip
    return BagMessage('/detections', stamp_ns, stamp_ns, SimpleNamespace(detections=detections))


def two_frames() -> Truths:
    truths = Truths(LABELS)
    mask = np.full((4, 10), ROAD, np.uint8)
    mask[:2] = CAR
    mask[:, 0] = 255
    for stamp_ns in (100, 200):
        truths.add(stamp_ns, mask, np.array([[1, 0, 10, 2]], np.float32), np.array([CAR], np.int64), np.zeros(1, bool))
    return truths


def test_only_processed_frames_count():
    truths, mask = two_frames(), np.full((4, 10), ROAD, np.uint8)
    grader = Grader(LABELS, truths)
    grader.add(BagMessage('/detections/label_info', 0, 0, SimpleNamespace(threshold=float(np.float32(0.4)))))
    grader.add(message_of_mask(mask, 100))  # all road: half of it is
    grader.add(message_of_boxes([(1, 0, 10, 2, LABELS.detection.names.index('car'), 0.7)], 100))
    grader.add(message_of_mask(mask, 150))  # no frame of ours
    grader.add(message_of_boxes([(0, 0, 5, 5, 0, 1.0)], 150))
    grade = grader.summarize()
    assert (grade['frames_played'], grade['masks_graded'], grade['detection_messages_graded']) == (2, 1, 1)
    assert grade['semantic']['iou_per_class']['road'] == 0.5
    assert grade['semantic']['miou'] == 0.25  # of road and car
    assert grade['semantic']['iou_per_class']['sky'] is None
    assert grade['boxes']['ap'] == pytest.approx(1)
    assert grade['notes'] == []
    assert render_grade(grade, trained=True) == [
        'grade     mIoU 25.0 %, AP 100.0 %, AP50 100.0 % against the street as rendered',
        '          1 of the 2 frames played were processed and count',
        '          AP by size: 100.0 below 32x32 px, - up to 96x96 px, - above',
        '          AP of the published boxes (score >= 0.4), which cuts its curve short',
    ]
    assert render_grade(grade, trained=False)[0].startswith('grade     UNTRAINED weights: mIoU 25.0 %')


def test_without_common_classes_the_reason_is_given():
    labels = load_scene_labels('voc_21+coco_80')
    grader = Grader(labels, two_frames())
    grader.add(message_of_mask(np.zeros((4, 10), np.uint8), 100))
    grade = grader.summarize()
    assert grade['semantic'] is None
    assert grade['boxes'] is None  # no boxes came
    lines = render_grade(grade, trained=True)
    assert lines[0].startswith("grade     no mIoU: the network's classes 'voc_21' lack road, sidewalk")
    assert len(lines) == 2


def test_a_network_that_only_detects_gets_its_ap():
    labels = SceneLabels(semantic=None, detection=load_scene_labels('voc_21+coco_90').detection)
    grader = Grader(labels, two_frames())
    grader.add(message_of_boxes([(1, 0, 10, 2, labels.detection.names.index('car'), 0.7)], 200))
    assert grader.summarize()['boxes']['ap50_per_class']['car'] == pytest.approx(1)
    lines = render_grade(grader.summarize(), trained=True)
    assert lines[0] == 'grade     AP 100.0 %, AP50 100.0 % against the street as rendered'


def test_a_perfect_network_on_the_street_gets_full_marks():
    truths, frames = Truths(LABELS), list(render_sequence(frames=2, size_hw=(64, 128), seed=1))
    assert len(truths) == 0
    grader = Grader(LABELS, truths)
    to_detection = {semantic: detection for detection, semantic in LABELS.thing_links.items()}
    for frame in frames:
        truths.add(frame.stamp_ns, frame.semantic, frame.boxes_xyxy, frame.class_ids, frame.is_crowd)
        assert np.array_equal(truths.find(frame.stamp_ns).semantic, frame.semantic)
        rows = [
            (*box, to_detection[i], 0.9)
            for box, i in zip(frame.boxes_xyxy.tolist(), frame.class_ids.tolist(), strict=True)
        ]
        grader.add(message_of_mask(frame.semantic, frame.stamp_ns))
        grader.add(message_of_boxes(rows, frame.stamp_ns))
    grade = grader.summarize()
    assert len(frames[0].boxes_xyxy) > 2
    assert grade['semantic']['miou'] == 1
    assert grade['boxes']['ap'] == pytest.approx(1)
    assert truths.find(12345) is None
    assert truths.find(None) is None
