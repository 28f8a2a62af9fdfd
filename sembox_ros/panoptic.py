"""Panoptic ids: class and instance of a pixel in one number, and the table of the segments in an image.

A segment's id is its semantic class times 65536 plus the number of the instance, which is 0 for stuff. So the ids of
stuff are the same in every image, the low 16 bits are `Scene.instances`, and every id fits a 24-bit colour.
"""

from __future__ import annotations

import numpy as np

from sembox_ros.errors import InputError
from sembox_ros.labels import IGNORE_ID, SceneLabels
from sembox_ros.types import Detections, Segments, check_array

INSTANCES = 65536
VOID = IGNORE_ID * INSTANCES  # pixels that belong to no segment
# Stuff of less than this share of the image becomes void: EfficientPS's 2048 pixels of 1024x2048 (section 4.2).
MIN_STUFF_SHARE = 1 / 1024


def compose_panoptic(
    semantic: np.ndarray,
    instances: np.ndarray,
    detections: Detections,
    labels: SceneLabels,
    *,
    min_stuff_area: int = 0,
) -> np.ndarray:
    """The panoptic scene that a mask, an image of instances and their detections stand for.

    A pixel of an instance has the class that the instance's detection has in the mask's vocabulary, any other pixel its
    class in the mask. Pixels of a thing class that belong to no instance are void.

    Args:
        semantic: (H, W) uint8 ids of the semantic label set, 255 = unlabeled.
        instances: (H, W) uint16, `detections.ids`, 0 = none.
        detections: of the detection label set.
        labels: both.
        min_stuff_area: stuff with fewer pixels in the image becomes void (EfficientPS, section 3.4).

    Returns:
        (H, W) int32 segment ids.

    Raises:
        InputError: shapes or dtypes do not fit, or an instance has no detection or one whose class the mask lacks.
    """
    check_array('semantic', semantic, (None, None), np.uint8)
    check_array('instances', instances, semantic.shape, np.uint16)
    if labels.semantic is None:
        raise InputError('labels: expected a semantic label set, got none; this network only detects')
    stuff = np.full(256, VOID, np.int32)
    areas = np.bincount(semantic[instances == 0], minlength=256) if min_stuff_area else None
    for index, is_thing in enumerate(labels.semantic.is_thing):
        if not is_thing and (areas is None or areas[index] >= min_stuff_area):
            stuff[index] = index * INSTANCES
    table = np.full(int(instances.max(initial=0)) + 1, -1, np.int32)
    for number, class_id in zip(detections.ids.tolist(), detections.class_ids.tolist(), strict=True):
        if number < len(table) and class_id in labels.thing_links:
            table[number] = labels.thing_links[class_id] * INSTANCES + number
    things = table[instances]
    is_instance = instances > 0
    if (things[is_instance] < 0).any():
        number = int(instances[is_instance][things[is_instance] < 0][0])
        raise InputError(f'instances: expected ids of detections of linked classes, got {number}')
    return np.where(is_instance, things, stuff[semantic])


def compose_truth(
    semantic: np.ndarray, instances: np.ndarray, class_ids: np.ndarray, is_crowd: np.ndarray, labels: SceneLabels
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The panoptic scene that labels of an image stand for.

    A pixel of an object has the object's class, any other pixel its class in the mask. Pixels of a thing class that
    belong to no single object are a crowd, all of a class together; so are the pixels of rows that are crowds.

    Args:
        semantic: (H, W) uint8 ids of the semantic label set, 255 = unlabeled.
        instances: (H, W) uint16: k = pixels of row k - 1, 0 = none.
        class_ids: (N,) int64 ids of the detection label set; pixels of one without a link keep their class in the mask.
        is_crowd: (N,) bool, rows that are groups.
        labels: both label sets.

    Returns:
        (H, W) int32 segment ids, and those among them that are crowds, ascending.

    Raises:
        InputError: shapes or dtypes do not fit, or an instance has no row.
    """
    check_array('semantic', semantic, (None, None), np.uint8)
    check_array('instances', instances, semantic.shape, np.uint16)
    check_array('class_ids', class_ids, (None,), np.int64)
    check_array('is_crowd', is_crowd, class_ids.shape, np.bool_)
    if labels.semantic is None:
        raise InputError('labels: expected a semantic label set, got none; these labels have boxes only')
    if int(instances.max(initial=0)) > len(class_ids):
        raise InputError(f'instances: expected rows 1..{len(class_ids)} of class_ids, got {instances.max()}')
    as_mask = -1
    table = np.full(len(class_ids) + 1, as_mask, np.int32)
    for row, (class_id, crowd) in enumerate(zip(class_ids.tolist(), is_crowd.tolist(), strict=True)):
        if class_id in labels.thing_links:
            table[row + 1] = labels.thing_links[class_id] * INSTANCES + (0 if crowd else row + 1)
    objects = table[instances]
    panoptic = np.where(objects == as_mask, semantic.astype(np.int32) * INSTANCES, objects)  # unlabeled becomes VOID
    ids = panoptic.ravel()
    ends = np.flatnonzero(ids[1:] != ids[:-1])  # of runs, of which there are few
    present = {*ids[ends].tolist(), *ids[-1:].tolist()}
    groups = {index * INSTANCES for index, is_thing in enumerate(labels.semantic.is_thing) if is_thing}
    return panoptic, tuple(sorted(groups & present))


def tight_boxes(numbers: np.ndarray, count: int) -> np.ndarray:
    """Boxes around the pixels of each number.

    Args:
        numbers: (H, W) uint16.
        count: numbers 1..count are wanted.

    Returns:
        (count, 4) float32 xyxy in pixels, the right and the lower edge behind the last pixel; 0 for a number without
        pixels.
    """
    check_array('numbers', numbers, (None, None), np.uint16)
    values, _, found = _measure(numbers)
    wanted = (values > 0) & (values <= count)
    boxes = np.zeros((count, 4), np.float32)
    boxes[values[wanted] - 1] = found[wanted]
    return boxes


def list_segments(panoptic: np.ndarray, detections: Detections) -> Segments:
    """The table of a panoptic image.

    Args:
        panoptic: (H, W) int32 segment ids.
        detections: give the scores of the instances.

    Raises:
        InputError: shape or dtype of the image do not fit.
    """
    check_array('panoptic', panoptic, (None, None), np.int32)
    ids, areas, boxes = _measure(panoptic)
    known = ids != VOID
    scores = np.ones(INSTANCES, np.float32)
    scores[detections.ids] = detections.scores
    return Segments(
        ids=ids[known],
        class_ids=(ids[known] // INSTANCES).astype(np.int64),
        scores=scores[ids[known] % INSTANCES],
        areas=areas[known],
        boxes_xyxy=boxes[known],
    )


def _measure(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The M different values in (H, W) whole numbers, ascending; their (M,) int64 areas and (M, 4) float32 boxes.

    Runs of equal pixels are sorted, not pixels, of which there are a hundred times as many.
    """
    is_start = np.ones(image.shape, bool)  # each row begins a run of its own
    np.not_equal(image[:, 1:], image[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=image.size)
    values = image.ravel()[starts]
    order = np.argsort(values, kind='stable')
    values, lengths = values[order], lengths[order]
    y, x = np.divmod(starts[order], image.shape[1])
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    corners = (np.minimum.reduceat(x, first), np.minimum.reduceat(y, first))
    ends = (np.maximum.reduceat(x + lengths, first), np.maximum.reduceat(y, first) + 1)
    return values[first], np.add.reduceat(lengths, first), np.stack((*corners, *ends), axis=1).astype(np.float32)
