"""Errors of depth, as monocular depth is graded since Eigen et al. 2014."""

from __future__ import annotations

import math

import numpy as np

from sembox_ros.errors import InputError
from sembox_ros.evaluation.arrays import check_counts
from sembox_ros.evaluation.scores import DepthScores
from sembox_ros.types import check_array

MIN_DEPTH_M, MAX_DEPTH_M = 1e-3, 80.0  # usual for streets: truth beyond is not graded, predictions are clipped
MAX_RATIO = 1.25
# Errors are summed as whole multiples of this, so that the parts of a dataset give exactly the score of the whole; a
# sum has room for 65,536 images that are as wrong as can be.
_UNIT = 2.0**-30


class DepthError:
    """Collects depth maps one by one; what it keeps does not grow with their number.

    Each error is the mean over images of an image's own, so that all count alike however much of them is known.
    Nothing is scaled to fit: the network says metres.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._counts = np.zeros(4, np.int64)

    def update(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Count one image; one without a known depth counts as none.

        Args:
            pred: (H, W) float32 metres.
            gt: (H, W) float32 metres, 0 = unknown; what is farther than `MAX_DEPTH_M` does not count.

        Returns:
            The mean relative error of this image alone; NaN without a known depth.

        Raises:
            InputError: shapes or dtypes do not fit, or a prediction is no number.
        """
        check_array('gt', gt, (None, None), np.float32)
        check_array('pred', pred, gt.shape, np.float32)
        known = (gt >= MIN_DEPTH_M) & (gt <= MAX_DEPTH_M)
        if not known.any():
            return math.nan
        truth, found = gt[known].astype(np.float64), pred[known].astype(np.float64)
        if np.isnan(found).any():
            raise InputError('pred: expected metres, got NaN')
        found = found.clip(MIN_DEPTH_M, MAX_DEPTH_M)
        difference = found - truth
        errors = (
            float(np.abs(difference / truth).mean()),
            math.sqrt(np.square(difference).mean()),
            (np.maximum(found / truth, truth / found) < MAX_RATIO).mean(),
        )
        self._counts[0] += 1
        self._counts[1:] += np.rint(np.array(errors) / _UNIT).astype(np.int64)
        return errors[0]

    def merge(self, other: DepthError) -> None:
        """Take over what another one counted, as if its images had been given to this one."""
        self._counts += other._counts

    def counts(self) -> np.ndarray:
        """What the scores are made of.

        Returns:
            (4,) int64: images, and in units of 2^-30 the sums of their relative errors, of their root mean square
            errors in metres, and of their shares of pixels that are nearly right.
        """
        return self._counts.copy()

    def restore(self, counts: np.ndarray) -> None:
        """Go on from where the metric was that gave these `counts`.

        Raises:
            InputError: they are no (4,) int64 of counts.
        """
        check_counts('depth', counts, (4,))
        self._counts = counts.copy()

    def compute(self) -> DepthScores:
        """The scores of all images so far; NaN without any."""
        count, *sums = self._counts.tolist()
        abs_rel, rmse_m, delta1 = (total * _UNIT / count if count else math.nan for total in sums)
        return DepthScores(abs_rel=abs_rel, rmse_m=rmse_m, delta1=delta1)
