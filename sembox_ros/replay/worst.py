"""Pictures of the frames that went worst: image, ground truth, prediction, and where the two differ."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from sembox_ros.draw import draw_overlay
from sembox_ros.labels import IGNORE_ID, LabelSet, SceneLabels
from sembox_ros.replay.media import contact_sheet
from sembox_ros.types import Detections, Scene

CELL_SIDE = 711  # pixels: two beside each other fill a page, and the names of boxes can still be read
MIN_CELL_SIDE = 480  # small images grow to it, because the names of boxes need room
ALPHA = 0.55  # weight of the class colours
MATCH_IOU = 0.5
ERROR, FALSE_ALARM = (225, 45, 40), (255, 190, 40)  # rgb


def render_worst(
    image: np.ndarray,
    pred_scene: Scene,
    truth_scene: Scene | None,
    labels: SceneLabels,
    truth_labels: SceneLabels | None,
) -> np.ndarray:
    """One frame as a picture for people, each part below its title.

    Above the image and its ground truth, below them, under the ground truth, the prediction and, beside it, their
    difference: wrong pixels in red over the grey image, missed boxes red, false alarms yellow. Without ground truth,
    the image and the prediction alone.

    Args:
        image: (H, W, 3) uint8 rgb.
        pred_scene: what the network saw in it.
        truth_scene: what is to be seen, with ids of `truth_labels`, without crowds, which nobody can miss; scores are
            not shown; None: not known.
        labels: the network's label sets.
        truth_labels: those of the ground truth; needed only where there is any.

    Returns:
        (H, W, 3) uint8 rgb, at most 1440 pixels wide.
    """
    scale = _scale(image)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    cell_hw = (small.shape[0], small.shape[1])
    pred = _scaled(pred_scene, scale, cell_hw)
    panels = {'image': small, 'prediction': draw_overlay(small, pred, labels, alpha=ALPHA)}
    if truth_labels is None or truth_scene is None or (truth_scene.semantic is None and truth_scene.detections is None):
        return _sheet([panels], cell_hw)
    truth = _scaled(truth_scene, scale, cell_hw)
    seen = draw_overlay(small, truth, truth_labels, alpha=ALPHA, with_scores=False)
    difference = _draw_difference(small, pred, truth, labels, truth_labels)
    return _sheet(
        [
            {'image': small, 'ground truth': seen},
            {'difference': difference, 'prediction': panels['prediction']},
        ],
        cell_hw,
    )


def find_wrong_pixels(pred: np.ndarray, truth: np.ndarray, labels: LabelSet, truth_labels: LabelSet) -> np.ndarray:
    """Where the class of a labeled pixel was not found, by name.

    Args:
        pred: (H, W) uint8 ids of `labels`.
        truth: (H, W) uint8 ids of `truth_labels`; other ids are unlabeled.

    Returns:
        (H, W) bool.
    """
    table = np.full(256, IGNORE_ID, np.uint8)
    for index, name in enumerate(labels.names):
        if name in truth_labels.names:
            table[index] = truth_labels.names.index(name)
    return (truth < len(truth_labels)) & (table[pred] != truth)


def match_boxes(
    pred: Detections, truth: Detections, labels: LabelSet, truth_labels: LabelSet
) -> tuple[np.ndarray, np.ndarray]:
    """Find the object that each box belongs to: one of its class, IoU at least 0.5; the best scores choose first.

    Args:
        pred: boxes with ids of `labels`, best score first.
        truth: objects with ids of `truth_labels`.

    Returns:
        (N,) bool, which boxes have an object; (M,) bool, which objects have a box.
    """
    found, taken = np.zeros(len(pred), np.bool_), np.zeros(len(truth), np.bool_)
    if not len(pred) or not len(truth):
        return found, taken
    sides = [np.concatenate((b[:, :2], b[:, 2:] - b[:, :2]), axis=1) for b in (pred.boxes_xyxy, truth.boxes_xyxy)]
    iou = coco_mask.iou(*(side.astype(np.float64) for side in sides), [0] * len(truth))
    truth_names = np.array([truth_labels.names[i] for i in truth.class_ids])
    for index, class_id in enumerate(pred.class_ids):
        candidates = np.where((truth_names == labels.names[class_id]) & ~taken, iou[index], 0.0)
        best = int(candidates.argmax())
        if candidates[best] >= MATCH_IOU:
            found[index] = taken[best] = True
    return found, taken


def _scale(image: np.ndarray) -> float:
    """The factor that brings an image to the size of a cell."""
    longest = max(image.shape[:2])
    return min(max(longest, MIN_CELL_SIDE), CELL_SIDE) / longest


def _scaled(scene: Scene, scale: float, size_hw: tuple[int, int]) -> Scene:
    """A scene at the size of the picture."""
    planes = {
        name: cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_NEAREST)
        for name in ('semantic', 'instances')
        if (plane := getattr(scene, name)) is not None
    }
    boxes = scene.detections
    if boxes is not None:
        boxes = dataclasses.replace(boxes, boxes_xyxy=(boxes.boxes_xyxy * scale).astype(np.float32))
    return Scene(size_hw, detections=boxes, **planes)


def _draw_difference(
    image: np.ndarray, pred: Scene, truth: Scene, labels: SceneLabels, truth_labels: SceneLabels
) -> np.ndarray:
    """The image in grey, what is wrong in colour."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = cv2.addWeighted(grey, 0.75, np.full_like(grey, 255), 0.15, 0)
    has_masks = pred.semantic is not None and truth.semantic is not None
    if has_masks and labels.semantic is not None and truth_labels.semantic is not None:
        assert pred.semantic is not None and truth.semantic is not None  # noqa: PT018
        wrong = find_wrong_pixels(pred.semantic, truth.semantic, labels.semantic, truth_labels.semantic)
        picture[wrong] = (0.25 * picture[wrong] + 0.75 * np.array(ERROR)).astype(np.uint8)
    if pred.detections is not None and truth.detections is not None:
        found, taken = match_boxes(pred.detections, truth.detections, labels.detection, truth_labels.detection)
        _outline(picture, pred.detections.boxes_xyxy[~found], FALSE_ALARM)
        _outline(picture, truth.detections.boxes_xyxy[~taken], ERROR)
    return picture


def _outline(picture: np.ndarray, boxes_xyxy: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw boxes with a dark border, so that they stand out from pixels of any colour."""
    for box in boxes_xyxy.round().astype(int).tolist():
        for ink, width in (((0, 0, 0), 5), (color, 3)):
            cv2.rectangle(picture, box[:2], box[2:], ink, width, cv2.LINE_AA)


def _sheet(rows: list[dict[str, np.ndarray]], cell_hw: tuple[int, int]) -> np.ndarray:
    """Rows of pictures, each below its title."""
    return np.concatenate([contact_sheet([row.values()], list(row), cell_hw) for row in rows])
