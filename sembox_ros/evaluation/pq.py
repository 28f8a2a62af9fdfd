"""Panoptic quality (Kirillov et al. 2019, Panoptic Segmentation), by the rules of COCO's and Cityscapes' evaluators."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from sembox_ros.errors import InputError
from sembox_ros.evaluation.arrays import check_counts
from sembox_ros.evaluation.miou import mean_measured
from sembox_ros.evaluation.scores import PanopticScores
from sembox_ros.labels import IGNORE_ID, LabelSet
from sembox_ros.panoptic import INSTANCES
from sembox_ros.types import check_array

# IoUs are summed as whole multiples of this share: sums of whole numbers do not depend on their order, so the parts of
# a data set give exactly the score of the whole. A sum has room for 2^27 segments of a class.
_UNIT = 2.0**-36
_ID_BITS = 24  # of a panoptic id


def check_panoptic(name: str, panoptic: np.ndarray, size_hw: tuple[int | None, ...] = (None, None)) -> None:
    """Raise an `InputError` that names the argument unless it is (H, W) int32 panoptic ids."""
    check_array(name, panoptic, size_hw, np.int32)
    low, high = int(panoptic.min(initial=0)), int(panoptic.max(initial=0))
    if low < 0 or high >> _ID_BITS:
        raise InputError(f'{name}: expected panoptic ids 0..{(1 << _ID_BITS) - 1}, got {low}..{high}')


class PanopticQuality:
    """Collects panoptic scenes one by one; what it keeps does not grow with their number.

    A predicted and a true segment of one class match if their IoU is above 0.5. Void pixels of the truth count towards
    no union, and a predicted segment of which more than half is void, or a crowd of its class, is no false positive.
    All crowds of a class are one region, which nothing matches and nobody misses.

    Args:
        labels: the classes of both sides.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        """Forget all scenes."""
        self._counts = np.zeros((len(self.labels), 4), np.int64)

    def update(self, pred: np.ndarray, gt: np.ndarray, *, gt_crowd: Collection[int] = ()) -> float:
        """Count one image.

        Args:
            pred: (H, W) int32 panoptic ids (see `sembox_ros.panoptic`); every id is a segment, void ones aside.
            gt: (H, W) int32 panoptic ids.
            gt_crowd: ids of `gt` that are groups, not one object.

        Returns:
            The PQ of this image alone, 0..1, over the classes that either side has in it; NaN where there are none.

        Raises:
            InputError: shapes or dtypes do not fit, or an id is of a class that the label set lacks.
        """
        check_panoptic('gt', gt)
        check_panoptic('pred', pred, gt.shape)
        gt_ids, gt_rows, pred_ids, pred_rows, areas = _count_pairs(gt, pred)
        gt_classes, pred_classes = self._classes_of('gt', gt_ids), self._classes_of('pred', pred_ids)
        is_crowd = np.isin(gt_ids, list(gt_crowd))
        is_asked = (gt_classes != IGNORE_ID) & ~is_crowd
        same_class = gt_classes[gt_rows] == pred_classes[pred_rows]
        excused = gt_classes[gt_rows] == IGNORE_ID
        gt_areas, pred_areas = np.bincount(gt_rows, areas), np.bincount(pred_rows, areas)
        void_areas = np.bincount(pred_rows, areas * excused)
        excused_areas = np.bincount(pred_rows, areas * (excused | (is_crowd[gt_rows] & same_class)))

        unions = pred_areas[pred_rows] + gt_areas[gt_rows] - areas - void_areas[pred_rows]
        candidates = same_class & is_asked[gt_rows]  # of one class that is not void
        iou = np.divide(areas, unions, out=np.zeros(len(areas)), where=candidates)
        matched = iou > 0.5
        is_missed, is_wrong = is_asked.copy(), (pred_classes != IGNORE_ID) & (excused_areas <= pred_areas / 2)
        is_missed[gt_rows[matched]] = is_wrong[pred_rows[matched]] = False

        counts = np.zeros_like(self._counts)
        found = gt_classes[gt_rows[matched]]
        np.add.at(counts[:, 0], found, np.rint(iou[matched] / _UNIT).astype(np.int64))
        for column, classes in enumerate((found, pred_classes[is_wrong], gt_classes[is_missed]), 1):
            counts[:, column] = np.bincount(classes, minlength=len(counts))
        self._counts += counts
        return mean_measured(_qualities(counts)[0])

    def merge(self, other: PanopticQuality) -> None:
        """Take over what another one counted, as if its scenes had been given to this one.

        Raises:
            InputError: it has another label set.
        """
        if other.labels != self.labels:
            raise InputError(f"other: expected the label set '{self.labels.name}', got '{other.labels.name}'")
        self._counts += other._counts

    def counts(self) -> np.ndarray:
        """What the scores are made of.

        Returns:
            (K, 4) int64, a row for each class: the sum of the IoUs of its matches in units of 2^-36, its matches (true
            positives), its wrong segments (false positives) and its missed ones (false negatives).
        """
        return self._counts.copy()

    def restore(self, counts: np.ndarray) -> None:
        """Go on from where the metric was that gave these `counts`.

        Raises:
            InputError: they are no (K, 4) int64 of counts, or a sum of IoUs is none of that many matches.
        """
        check_counts('panoptic', counts, (len(self.labels), 4))
        matches = counts[:, 1].astype(np.float64)
        if ((counts[:, 0] * _UNIT > matches) | (counts[:, 0] * _UNIT < matches / 2)).any():
            raise InputError('panoptic: expected IoUs of matches between 0.5 and 1, got other sums')
        self._counts = counts.copy()

    def compute(self) -> PanopticScores:
        """The scores of all scenes so far; NaN where there was nothing to measure."""
        pq, sq, rq = _qualities(self._counts)
        things = np.array(self.labels.is_thing)
        return PanopticScores(
            pq=mean_measured(pq),
            sq=mean_measured(sq),
            rq=mean_measured(rq),
            pq_things=mean_measured(pq[things]),
            sq_things=mean_measured(sq[things]),
            rq_things=mean_measured(rq[things]),
            pq_stuff=mean_measured(pq[~things]),
            sq_stuff=mean_measured(sq[~things]),
            rq_stuff=mean_measured(rq[~things]),
            pq_per_class=dict(zip(self.labels.names, pq.tolist(), strict=True)),
            sq_per_class=dict(zip(self.labels.names, sq.tolist(), strict=True)),
            rq_per_class=dict(zip(self.labels.names, rq.tolist(), strict=True)),
        )

    def _classes_of(self, name: str, ids: np.ndarray) -> np.ndarray:
        """(N,) int64 classes of ids, `IGNORE_ID` for void; raises an `InputError` if the label set lacks one."""
        classes = ids // INSTANCES
        unknown = (classes != IGNORE_ID) & (classes >= len(self.labels))
        if unknown.any():
            raise InputError(
                f"{name}: expected classes 0..{len(self.labels) - 1} of '{self.labels.name}' or {IGNORE_ID} (void), "
                f'got class {classes[unknown][0]} of id {ids[unknown][0]}; map the classes first'
            )
        return classes


def _count_pairs(gt: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, ...]:
    """The pairs of ids that occur, P of them, and in how many pixels each.

    Segments are runs of pixels: finding those and sorting some ten thousand of them takes a tenth of the time that
    sorting two million pixels does.

    Returns:
        (G,) int64 ids of `gt`, (P,) row among them of each pair; the same of `pred`; (P,) int64 pixels.
    """
    gt, pred = gt.ravel(), pred.ravel()
    is_start = np.ones(gt.size, np.bool_)
    np.logical_or(gt[1:] != gt[:-1], pred[1:] != pred[:-1], out=is_start[1:])
    starts = np.flatnonzero(is_start)
    runs = gt[starts].astype(np.int64) << _ID_BITS | pred[starts]
    # np.unique without an inverse hashes, which takes seconds for noise, and with one it takes twice as long as this.
    order = np.argsort(runs)
    runs = runs[order]
    is_first = np.diff(runs, prepend=-1) != 0
    pairs = runs[is_first]
    areas = np.bincount(np.cumsum(is_first) - 1, np.diff(starts, append=gt.size)[order]).astype(np.int64)
    gt_ids, gt_rows = np.unique(pairs >> _ID_BITS, return_inverse=True)
    pred_ids, pred_rows = np.unique(pairs & ((1 << _ID_BITS) - 1), return_inverse=True)
    return gt_ids, gt_rows, pred_ids, pred_rows, areas


def _qualities(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PQ, SQ and RQ, (K,) float64 each, of (K, 4) counts; NaN for a class that neither side has."""
    iou_sum, matched, wrong, missed = counts.T.astype(np.float64)
    iou_sum *= _UNIT
    segments = matched + 0.5 * wrong + 0.5 * missed
    unknown = np.full(len(counts), np.nan)
    pq = np.divide(iou_sum, segments, out=unknown.copy(), where=segments > 0)
    rq = np.divide(matched, segments, out=unknown.copy(), where=segments > 0)
    sq = np.divide(iou_sum, matched, out=np.where(segments > 0, 0.0, unknown), where=matched > 0)
    return pq, sq, rq
