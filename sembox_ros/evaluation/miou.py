"""Mean intersection over union of masks, as Cityscapes' own evaluation defines it."""

from __future__ import annotations

import math

import numpy as np

from sembox_ros.errors import InputError
from sembox_ros.evaluation.arrays import check_counts
from sembox_ros.evaluation.scores import SemanticScores
from sembox_ros.labels import LabelSet


def check_mask(name: str, mask: np.ndarray) -> None:
    """Raise an `InputError` that names the argument unless it is (H, W) uint8."""
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8:
        got = f'{mask.dtype} {mask.shape}' if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(f'{name}: expected (H, W) uint8 class ids, got {got}')


def mean_measured(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if measured.size else math.nan


class SemanticIoU:
    """Collects masks one by one; what it keeps does not grow with their number.

    Pixels with the ground truth `labels.ignore_id` do not count. A predicted id outside the label set on a pixel that
    counts is a miss of the pixel's class and a false alarm of none.

    Args:
        labels: the classes of both masks.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        """Forget all masks."""
        count = len(self.labels)
        # [ground truth, prediction]; the last column counts ids outside the label set.
        self._confusion = np.zeros((count, count + 1), np.int64)

    def update(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Count one image.

        Args:
            pred: (H, W) uint8 class ids.
            gt: (H, W) uint8 class ids, `labels.ignore_id` where unlabeled.

        Returns:
            The mIoU of this image alone, 0..1, over the classes that either side has in it; NaN where nothing is
            labeled.

        Raises:
            InputError: shapes or dtypes do not fit, or the ground truth has an id that the label set lacks.
        """
        check_mask('pred', pred)
        check_mask('gt', gt)
        if pred.shape != gt.shape:
            raise InputError(f'pred: expected the size {gt.shape} of gt, got {pred.shape}; resize the prediction')
        # All 256 x 256 pairs at once: one pass over the pixels and no masks.
        pairs = gt.astype(np.uint16) << 8 | pred
        counts = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        classes = len(self.labels)
        unknown = [int(i) for i in np.flatnonzero(counts.any(axis=1)) if i >= classes and i != self.labels.ignore_id]
        if unknown:
            raise InputError(
                f"gt: expected ids 0..{classes - 1} of '{self.labels.name}' or {self.labels.ignore_id} (ignored), "
                f'got {unknown}; map the ids of the data set first'
            )
        inside, outside = counts[:classes, :classes], counts[:classes, classes:].sum(axis=1)
        confusion = np.column_stack((inside, outside))
        self._confusion += confusion
        return mean_measured(_iou_per_class(confusion))

    def merge(self, other: SemanticIoU) -> None:
        """Take over what another one counted, as if its masks had been given to this one.

        Raises:
            InputError: it has another label set.
        """
        if other.labels != self.labels:
            raise InputError(f"other: expected the label set '{self.labels.name}', got '{other.labels.name}'")
        self._confusion += other._confusion

    def restore(self, confusion: np.ndarray) -> None:
        """Go on from where the metric was that gave this `confusion`.

        Raises:
            InputError: it is no (K, K + 1) int64 of counts.
        """
        check_counts('confusion', confusion, (len(self.labels), len(self.labels) + 1))
        self._confusion = confusion.copy()

    def confusion(self) -> np.ndarray:
        """How many pixels of each class were given which class.

        Returns:
            (K, K + 1) int64, a row for each class of the ground truth and a column for each predicted one; the last
            column counts predicted ids outside the label set. Unlabeled pixels are not in it.
        """
        return self._confusion.copy()

    def compute(self) -> SemanticScores:
        """The scores of all masks so far; NaN where there was nothing to measure."""
        iou = _iou_per_class(self._confusion)
        total = int(self._confusion.sum())
        return SemanticScores(
            miou=mean_measured(iou),
            iou_per_class=dict(zip(self.labels.names, iou.tolist(), strict=True)),
            pixel_accuracy=int(self._confusion.diagonal().sum()) / total if total else math.nan,
        )


def _iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """(K,) float64 of a (K, K + 1) confusion matrix; NaN for a class that neither side has."""
    hits = confusion.diagonal()
    union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - hits
    return np.divide(hits, union, out=np.full(len(confusion), np.nan), where=union > 0)
