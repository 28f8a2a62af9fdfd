"""How well the node saw the demo's own street, of which the truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.scores import sizes_line
from sembox_ros.labels import SceneLabels
from sembox_ros.replay.bags import BagMessage
from sembox_ros.replay.scene_messages import read_detections, view_image


@dataclass(frozen=True)
class Truth:
    """What is to be seen in one image.

    Attributes:
        semantic: (H, W) uint8 ids of the truth's semantic label set, 255 = unlabeled.
        boxes_xyxy: (N, 4) float32 in pixels.
        class_ids: (N,) int64 ids of the truth's detection label set.
        is_crowd: (N,) bool, True for what is too small to be asked for.
    """

    semantic: np.ndarray
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    is_crowd: np.ndarray


class Truths:
    """The truth of every image that is played, by stamp; masks are kept as PNG, some 10 to 30 kB each.

    Args:
        labels: what the ids mean; a thing's detection class is the one that `thing_links` links to its semantic class.
    """

    def __init__(self, labels: SceneLabels) -> None:
        self.labels = labels
        self._detection_ids = {semantic: detection for detection, semantic in labels.thing_links.items()}
        self._frames: dict[int, tuple[np.ndarray, ...]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def add(
        self,
        stamp_ns: int,
        semantic: np.ndarray,
        boxes_xyxy: np.ndarray,
        semantic_ids: np.ndarray,
        is_crowd: np.ndarray,
    ) -> None:
        """Keep one image's truth.

        Args:
            stamp_ns: stamp of the image, nanoseconds.
            semantic: (H, W) uint8 semantic ids.
            boxes_xyxy: (N, 4) float32 boxes of the things in it, in pixels.
            semantic_ids: (N,) int64 semantic ids of those things.
            is_crowd: (N,) bool, which of them are too small to be asked for.
        """
        class_ids = np.array([self._detection_ids[int(i)] for i in semantic_ids], np.int64)
        self._frames[stamp_ns] = (cv2.imencode('.png', semantic)[1], boxes_xyxy, class_ids, is_crowd)

    def find(self, stamp_ns: int | None) -> Truth | None:
        """The truth of the image with that stamp, None if there is no such image."""
        if stamp_ns is None or stamp_ns not in self._frames:
            return None
        png, boxes_xyxy, class_ids, is_crowd = self._frames[stamp_ns]
        semantic = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
        assert semantic is not None  # our own PNG
        return Truth(semantic, boxes_xyxy, class_ids, is_crowd)


class Grader:
    """Compares recorded messages with the truth, one by one.

    Args:
        labels: label sets of the checkpoint that ran.
        truths: of the images that were played.
    """

    def __init__(self, labels: SceneLabels, truths: Truths) -> None:
        self._labels = labels
        self._truths = truths
        self._grade = SceneGrade(labels, truths.labels)
        self._score_threshold: float | None = None

    def add(self, entry: BagMessage) -> None:
        """Take one message into account, if its image was played."""
        if entry.topic == '/detections/label_info':
            self._score_threshold = round(float(entry.message.threshold), 4)  # float32 in the message
        truth = self._truths.find(entry.stamp_ns) if entry.topic in ('/segmentation/mask', '/detections') else None
        if truth is None:
            return
        if entry.topic == '/segmentation/mask':
            self._grade.add_mask(view_image(entry.message), truth.semantic)
        else:
            self._grade.add_boxes(
                str(entry.stamp_ns),
                read_detections(entry.message, self._labels.detection),
                gt_boxes_xyxy=truth.boxes_xyxy,
                gt_class_ids=truth.class_ids,
                gt_is_crowd=truth.is_crowd,
            )

    def summarize(self) -> dict[str, Any]:
        """The scores for summary.json; `semantic` and `boxes` are None where `notes` says why."""
        semantic, boxes = self._grade.compute()
        return {
            'frames_played': len(self._truths),
            'masks_graded': self._grade.masks,
            'detection_messages_graded': self._grade.images,
            'score_threshold': self._score_threshold,
            'semantic': None if semantic is None else semantic.to_dict(),
            'boxes': None if boxes is None else boxes.to_dict(),
            'notes': self._grade.notes,
        }


def render_grade(grade: dict[str, Any], *, trained: bool) -> list[str]:
    """Lines for the terminal."""
    parts, indent = [], ' ' * 10
    if grade['semantic'] is not None:
        parts.append(f'mIoU {_percent(grade["semantic"]["miou"])}')
    if grade['boxes'] is not None:
        parts += [f'{name} {_percent(grade["boxes"][key])}' for name, key in (('AP', 'ap'), ('AP50', 'ap50'))]
    graded = max(grade['masks_graded'], grade['detection_messages_graded'])
    lines = []
    if parts:
        whose = '' if trained else 'UNTRAINED weights: '
        lines.append(f'{whose}{", ".join(parts)} against the street as rendered')
        lines.append(f'{graded} of the {grade["frames_played"]} frames played were processed and count')
    if grade['boxes'] is not None:
        lines.append(sizes_line(grade['boxes']))
    if grade['boxes'] is not None and grade['score_threshold']:
        lines.append(f'AP of the published boxes (score >= {grade["score_threshold"]:g}), which cuts its curve short')
    lines += grade['notes']
    return [('grade     ' if i == 0 else indent) + line for i, line in enumerate(lines)]


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.1f} %'
