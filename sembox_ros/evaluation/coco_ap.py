"""COCO's average precision of boxes, by pycocotools, from arrays in memory."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sembox_ros.errors import InputError
from sembox_ros.evaluation.scores import BoxScores
from sembox_ros.labels import LabelSet
from sembox_ros.types import Detections

MAX_DETECTIONS = 100  # of one class in one image; more have no influence
AREAS = ('all', 'small', 'medium', 'large')  # in the order of COCOeval's params.areaRngLbl


@dataclass(frozen=True)
class _ImageBoxes:
    """Both sides of one image, in arrays of their own."""

    pred: Detections
    gt: Detections
    gt_is_crowd: np.ndarray


def check_class_ids(name: str, ids: np.ndarray, labels: LabelSet) -> None:
    """Raise an `InputError` that names the argument unless all ids belong to the label set."""
    if len(ids) and not 0 <= ids.min() <= ids.max() < len(labels):
        raise InputError(f"{name}: expected ids 0..{len(labels) - 1} of '{labels.name}', got {ids.min()}..{ids.max()}")


class BoxAP:
    """Collects the boxes of images one by one; keeps them as arrays until `compute`.

    The order of the images makes no difference, equal scores in different images included.

    Args:
        labels: the classes of both sides.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        """Forget all boxes."""
        self._images: dict[str, _ImageBoxes] = {}

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
        # Copies, so that views do not keep larger arrays alive and later changes do no harm.
        self._images[image_id] = _ImageBoxes(
            pred=Detections(pred.boxes_xyxy.copy(), pred.class_ids.copy(), pred.scores.copy()),
            gt=Detections(gt.boxes_xyxy.copy(), gt.class_ids.copy(), gt.scores),
            gt_is_crowd=gt_is_crowd.copy(),
        )

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

    def compute(self) -> BoxScores:
        """The scores of all images so far; NaN where there is no ground truth (a crowd is none)."""
        with redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
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

    def _precision(self) -> np.ndarray:
        """COCOeval's table (10 IoU thresholds, 101 recalls, K, 4 areas) float64, -1 without ground truth."""
        ground_truth: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        for index, image_id in enumerate(sorted(self._images)):
            image = self._images[image_id]
            no_crowd = np.zeros(len(image.pred), np.bool_)
            ground_truth += _annotations(index, image.gt, image.gt_is_crowd, first_id=1 + len(ground_truth))
            results += _annotations(index, image.pred, no_crowd, first_id=1 + len(results))
        evaluation = COCOeval(self._as_coco(ground_truth), self._as_coco(results), 'bbox')
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation.eval['precision'][..., 0]

    def _as_coco(self, annotations: list[dict[str, Any]]) -> COCO:
        coco = COCO()
        coco.dataset = {
            'images': [{'id': index} for index in range(len(self._images))],
            'categories': [{'id': index, 'name': name} for index, name in enumerate(self.labels.names)],
            'annotations': annotations,
        }
        coco.createIndex()
        return coco


def _annotations(image: int, boxes: Detections, is_crowd: np.ndarray, *, first_id: int) -> list[dict[str, Any]]:
    """COCO's form of one image's boxes; ids must start above 0, which COCOeval reads as 'not matched'."""
    corners = boxes.boxes_xyxy.astype(np.float64)
    sizes = corners[:, 2:] - corners[:, :2]
    xywh = np.concatenate((corners[:, :2], sizes), axis=1)
    rows = zip(
        xywh.tolist(),
        sizes.prod(axis=1).tolist(),
        boxes.class_ids.tolist(),
        is_crowd.tolist(),
        boxes.scores.tolist(),
        strict=True,
    )
    return [
        {
            'id': number,
            'image_id': image,
            'category_id': class_id,
            'bbox': box,
            'area': area,
            'iscrowd': int(crowd),
            'score': score,
        }
        for number, (box, area, class_id, crowd, score) in enumerate(rows, first_id)
    ]
