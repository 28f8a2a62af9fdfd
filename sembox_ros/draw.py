"""Pictures of a scene, for people."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from sembox_ros.errors import InputError
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.types import Detections, Scene

Color = tuple[int, int, int]
BORDER: Color = (255, 255, 255)
MOTION: Color = (255, 255, 0)  # far from what large areas have in the usual palettes
DEPTH_RANGE_M = (2.0, 100.0)  # that colours tell apart; always the same, so that videos do not flicker
_GOLDEN = 0.618034  # multiples of it, without their whole parts, lie far from those shortly before
_TONES = 255  # instances of different colours; more share them


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
    for box, class_id, score in zip(detections.boxes_xyxy, detections.class_ids, detections.scores, strict=True):
        corners = [round(float(v)) for v in box]
        color = labels.palette[class_id]
        cv2.rectangle(image, corners[:2], corners[2:], color, _line_width(image), cv2.LINE_AA)
        text = f'{labels.names[class_id]} {score:.2f}' if with_scores else labels.names[class_id]
        _draw_label(image, text, corners[0], corners[1], color)
    return image


def _line_width(image: np.ndarray) -> int:
    return max(1, round(min(image.shape[:2]) / 360))


def _draw_label(image: np.ndarray, text: str, x0: int, y0: int, color: Color) -> None:
    """Text on a patch of colour that stands on the upper left corner of a box."""
    line = _line_width(image)
    scale = max(0.35, min(image.shape[:2]) / 1100)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, line)
    top = max(y0, height + base)
    cv2.rectangle(image, (x0, top - height - base), (x0 + width, top), color, cv2.FILLED)
    # Black or white, whichever stands out from the patch (ITU-R BT.601 luma).
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    ink = (0, 0, 0) if luma > 128 else (255, 255, 255)
    cv2.putText(image, text, (x0, top - base // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, line, cv2.LINE_AA)


def draw_overlay(
    image: np.ndarray,
    scene: Scene,
    labels: SceneLabels,
    *,
    alpha: float,
    color: np.ndarray | None = None,
    with_scores: bool = True,
) -> np.ndarray:
    """The image with class colours blended in and boxes on top.

    Where the scene has instances, these have tones of their own, a border, and a label with the number that they have
    in `Scene.instances`; of the boxes, only those without pixels are drawn. What moves in the world is outlined.

    Args:
        image: (H, W, 3) uint8 rgb, left as it is.
        scene: what was seen in it; parts that are None are not drawn.
        labels: names and colours.
        alpha: weight of the colours, 0..1.
        color: `colorize` of the scene's semantic ids, where it is at hand already.
        with_scores: whether scores stand beside the names; those of ground truth say nothing.

    Returns:
        (H, W, 3) uint8 rgb.
    """
    if scene.semantic is not None and labels.semantic is not None:
        color = colorize(scene.semantic, labels.semantic) if color is None else color
    instances, detections = scene.instances, scene.detections
    if instances is None or detections is None:
        picture = image.copy() if color is None else cv2.addWeighted(image, 1 - alpha, color, alpha, 0)
        _outline_motion(picture, scene.motion)
        if detections is not None:
            draw_boxes(picture, detections, labels.detection, with_scores=with_scores)
        return picture
    tones = instance_colors(detections, labels)
    places = _places(instances, detections)
    picture = cv2.addWeighted(image, 1 - alpha, _tint(image if color is None else color, places, tones), alpha, 0)
    _draw_borders(picture, places)
    _outline_motion(picture, scene.motion)
    pixels = cv2.calcHist([places], [0], None, [256], [0, 256]).ravel()
    seen = pixels[1 + np.arange(len(detections)) % _TONES] > 0
    draw_boxes(picture, detections.only(~seen), labels.detection, with_scores=with_scores)
    for row in seen.nonzero()[0].tolist()[::-1]:  # the best on top
        x0, y0 = (round(float(v)) for v in detections.boxes_xyxy[row, :2])
        name = labels.detection.names[detections.class_ids[row]]
        text = f'{name} {detections.ids[row]}' + (f' {detections.scores[row]:.2f}' if with_scores else '')
        _draw_label(picture, text, x0, y0, tones[row])
    return picture


def colorize_depth(depth: np.ndarray) -> np.ndarray:
    """Depth as colours from red (near) over yellow and green to blue (far), in equal ratios of distance.

    Args:
        depth: (H, W) float32 metres; what is not positive is unknown, and black.

    Returns:
        (H, W, 3) uint8 rgb.
    """
    near, far = np.log(DEPTH_RANGE_M)
    known = depth > 0  # not so for NaN
    logs = np.log(depth, out=np.full_like(depth, far), where=known)
    closeness = np.rint(np.clip((far - logs) / (far - near), 0, 1) * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(closeness, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    colors[~known] = 0
    return colors


def colorize_panoptic(scene: Scene, labels: SceneLabels) -> np.ndarray:
    """Stuff in the colours of its classes, instances in tones of theirs with white borders, what is void in black.

    Args:
        scene: with semantic, instances and detections.
        labels: names and colours.

    Returns:
        (H, W, 3) uint8 rgb.

    Raises:
        InputError: one of the three is missing.
    """
    semantic, instances, detections = scene.semantic, scene.instances, scene.detections
    if semantic is None or instances is None or detections is None or labels.semantic is None:
        given = [name for name in ('semantic', 'instances', 'detections') if getattr(scene, name) is not None]
        raise InputError(f'scene: expected semantic, instances and detections, got {given or "none"}; ask for them')
    table = labels.semantic.color_table()
    table[: len(labels.semantic)][list(labels.semantic.is_thing)] = 0
    color = cv2.LUT(cv2.merge((semantic, semantic, semantic)), table[:, None])
    places = _places(instances, detections)
    picture = _tint(color, places, instance_colors(detections, labels))
    _draw_borders(picture, places)
    return picture


def instance_colors(detections: Detections, labels: SceneLabels) -> list[Color]:
    """A tone of its class's colour for each detection, the same for the same id in every image."""
    colors = []
    for number, class_id in zip(detections.ids.tolist(), detections.class_ids.tolist(), strict=True):
        thing = labels.thing_links.get(class_id)
        base = labels.detection.palette[class_id]
        if thing is not None and labels.semantic is not None:
            base = labels.semantic.palette[thing]
        hue, lightness, saturation = colorsys.rgb_to_hls(*(value / 255 for value in base))
        step = number * _GOLDEN % 1
        hue = (hue + 0.16 * (step - 0.5)) % 1
        lightness = 0.3 + 0.45 * ((step * 7) % 1)
        tone = colorsys.hls_to_rgb(hue, lightness, max(saturation, 0.4))
        colors.append((round(tone[0] * 255), round(tone[1] * 255), round(tone[2] * 255)))
    return colors


def _tint(color: np.ndarray, places: np.ndarray, tones: list[Color]) -> np.ndarray:
    """A copy of (H, W, 3) colours in which the pixels of instances have their tones."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[1 : 1 + len(tones), 0] = np.array(tones[:_TONES], np.uint8).reshape(-1, 3)
    tinted: np.ndarray = cv2.copyTo(cv2.LUT(cv2.merge((places, places, places)), table), places, color.copy())
    return tinted


def _draw_borders(image: np.ndarray, places: np.ndarray) -> None:
    """Mark the pixels of instances whose neighbours are not theirs."""
    size = 2 * _line_width(image) - 1
    kernel = np.ones((size + size % 2 + 1, size + size % 2 + 1), np.uint8)
    border = (cv2.dilate(places, kernel) != cv2.erode(places, kernel)) & (places > 0)
    image[border] = BORDER


def _outline_motion(image: np.ndarray, motion: np.ndarray | None) -> None:
    """Draw a line around what moves."""
    if motion is not None:
        contours, _ = cv2.findContours(motion.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, MOTION, _line_width(image), cv2.LINE_AA)


def _places(instances: np.ndarray, detections: Detections) -> np.ndarray:
    """(H, W) uint8: 0 where there is no instance, else a number from 1, the same for an instance's pixels.

    Pixels whose number no detection has count as none.
    """
    table = np.zeros(int(max(instances.max(initial=0), detections.ids.max(initial=0))) + 1, np.uint8)
    table[detections.ids] = 1 + np.arange(len(detections)) % _TONES
    places: np.ndarray = table[instances]
    return places


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
