"""Pictures of a scene, for people."""

from __future__ import annotations

import cv2
import numpy as np

from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.types import Detections, Scene


def colorize(semantic: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Class ids (H, W) uint8 to the label set's colours (H, W, 3) uint8 rgb; unlabeled pixels are black."""
    return cv2.LUT(cv2.merge((semantic, semantic, semantic)), labels.color_table()[:, None])


def draw_boxes(image: np.ndarray, detections: Detections, labels: LabelSet, *, with_scores: bool = True) -> np.ndarray:
    """Draw boxes with class name and, unless they are ground truth, score onto an image.

    Args:
        image: (H, W, 3) uint8 rgb, drawn on in place.
        detections: boxes in pixels of the image, ids of `labels`.
        labels: names and colours.
        with_scores: whether scores stand beside the names.

    Returns:
        `image`.
    """
    line = max(1, round(min(image.shape[:2]) / 360))
    scale = max(0.35, min(image.shape[:2]) / 1100)
    for box, class_id, score in zip(detections.boxes_xyxy, detections.class_ids, detections.scores, strict=True):
        x0, y0, x1, y1 = (round(float(v)) for v in box)
        color = labels.palette[class_id]
        cv2.rectangle(image, (x0, y0), (x1, y1), color, line, cv2.LINE_AA)
        text = f'{labels.names[class_id]} {score:.2f}' if with_scores else labels.names[class_id]
        (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, line)
        top = max(y0, height + base)
        cv2.rectangle(image, (x0, top - height - base), (x0 + width, top), color, cv2.FILLED)
        # Black or white, whichever stands out from the box colour (ITU-R BT.601 luma).
        luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
        ink = (0, 0, 0) if luma > 128 else (255, 255, 255)
        cv2.putText(image, text, (x0, top - base // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, line, cv2.LINE_AA)
    return image


def draw_overlay(
    image: np.ndarray, scene: Scene, labels: SceneLabels, *, alpha: float, color: np.ndarray | None = None
) -> np.ndarray:
    """The image with class colours blended in and boxes on top.

    Args:
        image: (H, W, 3) uint8 rgb, left as it is.
        scene: what was seen in it; parts that are None are not drawn.
        labels: names and colours.
        alpha: weight of the colours, 0..1.
        color: `colorize` of the scene's semantic ids, where it is at hand already.

    Returns:
        (H, W, 3) uint8 rgb.
    """
    picture = image.copy()
    if scene.semantic is not None and labels.semantic is not None:
        color = colorize(scene.semantic, labels.semantic) if color is None else color
        picture = cv2.addWeighted(image, 1 - alpha, color, alpha, 0)
    if scene.detections is not None:
        draw_boxes(picture, scene.detections, labels.detection)
    return picture


def draw_legend(labels: LabelSet, class_ids: list[int], width: int) -> np.ndarray:
    """A strip (h, width, 3) uint8 rgb with a colour patch and the name of each class in `class_ids`."""
    column, row = 170, 24
    per_row = max(1, width // column)
    rows = max(1, -(-len(class_ids) // per_row))
    strip = np.full((rows * row + 8, width, 3), 255, np.uint8)
    for index, class_id in enumerate(class_ids):
        x, y = (index % per_row) * column + 8, (index // per_row) * row + 6
        cv2.rectangle(strip, (x, y), (x + 22, y + 16), labels.palette[class_id], cv2.FILLED)
        cv2.putText(
            strip, labels.names[class_id], (x + 30, y + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
        )
    return strip
