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


def tight_boxes(numbers: np.ndarray, count: int) -> np.ndarray:
    """Boxes around the pixels of each number.

    One pass over the image for all: one for each of the 80 objects of a busy street takes longer than decoding it.

    Args:
        numbers: (H, W) uint16; 0 is passed over.
        count: numbers 1..count are wanted, all of which occur.

    Returns:
        (count, 4) float32 xyxy in pixels, the right and the lower edge behind the last pixel.
    """
    pixels = np.flatnonzero(numbers)
    order = np.argsort(numbers.ravel()[pixels], kind='stable')  # a radix sort for 16 bits
    pixels = pixels[order]
    starts = np.searchsorted(numbers.ravel()[pixels], np.arange(1, count + 1))
    if not count:
        return np.zeros((0, 4), np.float32)
    y, x = np.divmod(pixels, numbers.shape[1])
    corners = (np.minimum.reduceat(x, starts), np.minimum.reduceat(y, starts))
    ends = (np.maximum.reduceat(x, starts) + 1, np.maximum.reduceat(y, starts) + 1)
    return np.stack((*corners, *ends), axis=1).astype(np.float32)


def list_segments(panoptic: np.ndarray, detections: Detections) -> Segments:
    """The table of a panoptic image.

    Args:
        panoptic: (H, W) int32 segment ids.
        detections: give the scores of the instances.
    """
    check_array('panoptic', panoptic, (None, None), np.int32)
    classes, numbers = panoptic // INSTANCES, (panoptic % INSTANCES).astype(np.uint16)
    present = np.unique(numbers)
    # Numbers of instances, then of stuff classes, side by side: few enough for 16 bits.
    places = np.zeros(INSTANCES, np.uint16)
    places[present[present > 0]] = np.arange(1, np.count_nonzero(present) + 1)
    compact = np.where(numbers > 0, places[numbers], np.count_nonzero(present) + 1 + classes).astype(np.uint16)
    found, first, areas = np.unique(compact, return_index=True, return_counts=True)
    ids = panoptic.ravel()[first]
    kept = (ids // INSTANCES != IGNORE_ID).nonzero()[0]
    order = kept[np.argsort(ids[kept])]
    renumber = np.zeros(int(compact.max(initial=0)) + 1, np.uint16)
    renumber[found[order]] = np.arange(1, len(order) + 1)
    ids = ids[order]
    scores = np.ones(INSTANCES, np.float32)
    scores[detections.ids] = detections.scores
    scores[0] = 1
    return Segments(
        ids=ids,
        class_ids=(ids // INSTANCES).astype(np.int64),
        scores=scores[ids % INSTANCES],
        areas=areas[order].astype(np.int64),
        boxes_xyxy=tight_boxes(renumber[compact], len(order)),
    )
