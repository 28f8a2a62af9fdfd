"""COCO's average precision of boxes, by pycocotools, image by image.

COCOeval wants all boxes of all images at once, as dicts. Its two halves are used apart here: each image is matched
when it comes, of which a few bytes per box are kept, and average precisions are accumulated from those.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from sembox_ros.errors import InputError
from sembox_ros.evaluation.arrays import check_counts, pack_json, unpack_json
from sembox_ros.evaluation.scores import BoxScores
from sembox_ros.labels import LabelSet
from sembox_ros.types import Detections, check_array

MAX_DETECTIONS = 100  # of one class in one image; more have no influence
AREAS = ('all', 'small', 'medium', 'large')  # in the order of COCOeval's params.areaRngLbl
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # of COCOeval's params.iouThrs

# What is kept of one predicted box: `flags` are the bits of (matched, ignored) x AREAS x IOU_THRESHOLDS.
_MATCHED_BOX = np.dtype([('class_id', np.uint8), ('score', np.float32), ('flags', np.uint8, (10,))])
_FLAGS_SHAPE = (2, len(AREAS), len(IOU_THRESHOLDS))


def check_class_ids(name: str, ids: np.ndarray, labels: LabelSet) -> None:
    """Raise an `InputError` that names the argument unless all ids belong to the label set."""
    if len(ids) and not 0 <= ids.min() <= ids.max() < len(labels):
        raise InputError(f"{name}: expected ids 0..{len(labels) - 1} of '{labels.name}', got {ids.min()}..{ids.max()}")


def to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """COCO's form of boxes: (N, 4) float64 x0 y0 width height, from (N, 4) float32."""
    corners = boxes_xyxy.astype(np.float64)
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


class BoxAP:
    """Matches the boxes of images one by one; keeps 15 bytes of each predicted box.

    The order of the images makes no difference, equal scores in different images included.

    Args:
        labels: the classes of both sides.
    """

    ARRAYS = ('image_ids', 'boxes_per_image', 'boxes', 'objects')  # of `to_arrays`

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        """Forget all boxes."""
        self._images: dict[str, np.ndarray] = {}  # image id -> (N,) of _MATCHED_BOX
        self._objects = np.zeros((len(self.labels), len(AREAS)), np.int64)  # that are asked for

    def update(
        self,
        image_id: str,
        pred: Detections,
        *,
        gt_boxes_xyxy: np.ndarray,
        gt_class_ids: np.ndarray,
        gt_is_crowd: np.ndarray,
    ) -> None:
        """Take the boxes of one image; both sides may be empty.

        Args:
            image_id: name of the image, each at most once.
            pred: what was found, in pixels of the image.
            gt_boxes_xyxy: (N, 4) float32, x0 y0 x1 y1 in pixels of the image.
            gt_class_ids: (N,) int64 ids of `labels`.
            gt_is_crowd: (N,) bool; a detection of the class inside such a box counts neither for nor against.

        Raises:
            InputError: shapes, dtypes, corners or ids do not fit, or the image was there before.
        """
        if image_id in self._images:
            raise InputError(f"image_id: '{image_id}' was given before; expected each image once")
        # Ground truth has the form of detections, scores aside, so the same checks hold for it.
        try:
            gt = Detections(gt_boxes_xyxy, gt_class_ids, np.ones(np.shape(gt_boxes_xyxy)[:1], np.float32))
        except InputError as error:
            raise InputError(f"ground truth of '{image_id}': {error}") from error
        if not isinstance(gt_is_crowd, np.ndarray) or gt_is_crowd.shape != (len(gt),) or gt_is_crowd.dtype != np.bool_:
            raise InputError(f"gt_is_crowd of '{image_id}': expected ({len(gt)},) bool, got {gt_is_crowd!r:.80}")
        if not np.isfinite(pred.scores).all():
            raise InputError(f"scores of '{image_id}': expected finite numbers, got NaN or infinity")
        check_class_ids(f"pred.class_ids of '{image_id}'", pred.class_ids, self.labels)
        check_class_ids(f"gt_class_ids of '{image_id}'", gt_class_ids, self.labels)
        boxes, objects = _match(pred, gt, gt_is_crowd, classes=len(self.labels))
        self._images[image_id] = boxes
        self._objects += objects

    def merge(self, other: BoxAP) -> None:
        """Take over another one's images, as if they had been given to this one.

        Raises:
            InputError: it has another label set, or an image that this one has too.
        """
        if other.labels != self.labels:
            raise InputError(f"other: expected the label set '{self.labels.name}', got '{other.labels.name}'")
        twice = sorted(self._images.keys() & other._images.keys())
        if twice:
            raise InputError(f"other: expected images of its own, {len(twice)} are in both, the first is '{twice[0]}'")
        self._images.update(other._images)
        self._objects += other._objects

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything it knows but the labels, the inverse of `restore`."""
        images = list(self._images.values())
        return {
            'image_ids': pack_json(list(self._images)),
            'boxes_per_image': np.array([len(boxes) for boxes in images], np.int64),
            'boxes': np.concatenate([np.zeros(0, _MATCHED_BOX), *images]),
            'objects': self._objects.copy(),
        }

    def restore(self, arrays: Mapping[str, np.ndarray], *, prefix: str = '') -> None:
        """Go on from where the metric was that gave these `to_arrays`.

        Args:
            arrays: of a metric of the same labels.
            prefix: goes before the names of its images.

        Raises:
            InputError: they are none of these labels.
        """
        image_ids, counts, boxes, objects = (arrays[name] for name in BoxAP.ARRAYS)
        ids = unpack_json('image_ids', image_ids)
        if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids) or len(set(ids)) < len(ids):
            raise InputError(f'image_ids: expected a list of different names, got {ids!r:.80}')
        check_counts('boxes_per_image', counts, (len(ids),))
        check_array('boxes', boxes, (sum(counts.tolist()),), _MATCHED_BOX)
        check_class_ids('boxes', boxes['class_id'], self.labels)
        if not np.isfinite(boxes['score']).all():
            raise InputError('boxes: expected finite scores, got NaN or infinity')
        check_counts('objects', objects, self._objects.shape)
        parts = np.split(boxes, np.cumsum(counts)[:-1]) if ids else []
        self._images = {f'{prefix}{name}': part.copy() for name, part in zip(ids, parts, strict=True)}
        self._objects = objects.copy()

    def compute(self) -> BoxScores:
        """The scores of all images so far; NaN where there is no ground truth (a crowd is none)."""
        precision = self._precision()

        def mean(part: np.ndarray) -> float:
            measured = part[part > -1]  # -1 marks classes without ground truth
            return float(measured.mean()) if measured.size else math.nan

        names = self.labels.names
        sizes = {name: mean(precision[..., AREAS.index(name)]) for name in AREAS}
        everything = precision[..., 0]
        return BoxScores(
            ap=sizes['all'],
            ap50=mean(everything[0]),
            ap75=mean(everything[5]),
            ap_small=sizes['small'],
            ap_medium=sizes['medium'],
            ap_large=sizes['large'],
            ap_per_class={name: mean(everything[:, :, k]) for k, name in enumerate(names)},
            ap50_per_class={name: mean(everything[0, :, k]) for k, name in enumerate(names)},
        )

    def precision_curves(self, iou: float = 0.5) -> dict[str, np.ndarray]:
        """The curves whose means are the average precisions of the classes.

        Args:
            iou: one of `IOU_THRESHOLDS`.

        Returns:
            Class name -> (101,) float64, the best precision 0..1 at a recall of at least 0, 0.01 ... 1; only classes
            that have ground truth.

        Raises:
            InputError: there is no such threshold.
        """
        if iou not in IOU_THRESHOLDS:
            raise InputError(f'iou: expected one of {", ".join(map(str, IOU_THRESHOLDS))}; got {iou}')
        curves = self._precision()[IOU_THRESHOLDS.index(iou), :, :, AREAS.index('all')]
        asked = np.flatnonzero(self._objects[:, AREAS.index('all')])
        return {self.labels.names[k]: curves[:, k].copy() for k in asked}

    def _precision(self) -> np.ndarray:
        """COCOeval's table (10 IoU thresholds, 101 recalls, K, 4 areas) float64, -1 without ground truth."""
        # Images in the order of their names; within an image and a class, the best score comes first already.
        images = [self._images[image_id] for image_id in sorted(self._images)]
        boxes = np.concatenate([np.zeros(0, _MATCHED_BOX), *images])
        # One class at a time: unpacked flags and COCOeval's sums take some 500 bytes per box.
        return np.concatenate(
            [_accumulate(boxes[boxes['class_id'] == k], objects) for k, objects in enumerate(self._objects)], axis=2
        )


def _match(
    pred: Detections, gt: Detections, gt_is_crowd: np.ndarray, *, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Match one image's boxes by COCOeval's rules, which do not depend on other images.

    Returns:
        (N,) of _MATCHED_BOX, at most `MAX_DETECTIONS` of each class, by class and with the best score first; and
        (classes, 4) int64, the number of objects that are asked for in each of the `AREAS`.
    """
    evaluation = COCOeval(iouType='bbox')
    for box in _annotations(gt, gt_is_crowd):
        evaluation._gts[0, box['category_id']].append(box)
    for box in _annotations(pred, np.zeros(len(pred), np.bool_)):
        evaluation._dts[0, box['category_id']].append(box)
    objects = np.zeros((classes, len(AREAS)), np.int64)
    parts = [np.zeros(0, _MATCHED_BOX)]
    for key in sorted(evaluation._gts.keys() | evaluation._dts.keys()):
        _, class_id = key
        overlaps = np.array(evaluation.computeIoU(*key))  # (boxes, objects); empty if one side is
        boxes = sorted(evaluation._dts[key], key=lambda box: -box['score'])[:MAX_DETECTIONS]  # the order of the rows
        flags = np.zeros((*_FLAGS_SHAPE, len(boxes)), np.bool_)
        flags[1] = _outside([box['area'] for box in boxes], evaluation.params.areaRng)[:, None]
        # Most boxes touch no object of their class; without them COCOeval's loops are several times as fast.
        best = overlaps.max(axis=1) if overlaps.size else np.zeros(len(boxes))
        near = np.flatnonzero(best >= IOU_THRESHOLDS[0])
        evaluation._dts[key] = [boxes[i] for i in near]
        evaluation.ious[key] = overlaps[near] if len(near) else []
        for area, limits in enumerate(evaluation.params.areaRng):
            matches = evaluation.evaluateImg(*key, limits, MAX_DETECTIONS)
            if matches is None:  # neither objects nor boxes near one
                continue
            objects[class_id, area] = np.count_nonzero(matches['gtIgnore'] == 0)
            flags[0, area][:, near] = matches['dtMatches']
            flags[1, area][:, near] = matches['dtIgnore']
        part = np.zeros(len(boxes), _MATCHED_BOX)
        part['class_id'], part['score'] = class_id, [box['score'] for box in boxes]
        part['flags'] = np.packbits(flags.reshape(np.prod(_FLAGS_SHAPE), -1), axis=0).T  # bits of a box side by side
        parts.append(part)
    return np.concatenate(parts), objects


def _outside(box_areas: Sequence[float], limits: Sequence[Sequence[float]]) -> np.ndarray:
    """(4, N) bool: which boxes are smaller or larger than each range of areas, whose ends belong to it."""
    areas = np.array(box_areas, np.float64)
    return np.array([(areas < low) | (areas > high) for low, high in limits])


def _accumulate(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """COCOeval's table of one class, as if all its boxes had been in one image.

    Args:
        boxes: (N,) of _MATCHED_BOX, images one after the other.
        objects: (4,) int64, how many are asked for in each of the `AREAS`.

    Returns:
        (10 IoU thresholds, 101 recalls, 1, 4 areas) float64, -1 without ground truth.
    """
    matched, ignored = np.unpackbits(boxes['flags'], axis=1).T.reshape(*_FLAGS_SHAPE, len(boxes)).astype(np.bool_)
    scores = boxes['score'].astype(np.float64)
    evaluation = COCOeval(iouType='bbox')
    params = evaluation.params
    params.imgIds, params.catIds, params.maxDets = [0], [0], [len(boxes)]  # the limit per image was applied before
    evaluation._paramsEval = params
    evaluation.evalImgs = [
        {'dtScores': scores, 'dtMatches': matched[a], 'dtIgnore': ignored[a], 'gtIgnore': np.zeros(count, np.bool_)}
        for a, count in enumerate(objects)
    ]
    with redirect_stdout(io.StringIO()):  # it reports its progress there
        evaluation.accumulate()
    return evaluation.eval['precision'][..., 0]


def _annotations(boxes: Detections, is_crowd: np.ndarray) -> list[dict[str, Any]]:
    """COCO's form of one image's boxes; ids start above 0, which COCOeval reads as 'not matched'."""
    xywh = to_xywh(boxes.boxes_xyxy)
    rows = zip(
        xywh.tolist(),
        xywh[:, 2:].prod(axis=1).tolist(),
        boxes.class_ids.tolist(),
        is_crowd.tolist(),
        boxes.scores.tolist(),
        strict=True,
    )
    return [
        {
            'id': number,
            'category_id': class_id,
            'bbox': box,
            'area': area,
            'iscrowd': int(crowd),
            'ignore': int(crowd),
            'score': score,
        }
        for number, (box, area, class_id, crowd, score) in enumerate(rows, 1)
    ]
