"""How well a network knows what moves in the world."""

from __future__ import annotations

import numpy as np

from sembox_ros.evaluation.miou import SemanticIoU
from sembox_ros.evaluation.scores import MotionScores
from sembox_ros.labels import LabelSet
from sembox_ros.types import check_array

MOTION = LabelSet(
    name='motion', names=('static', 'moving'), palette=((0, 0, 0), (255, 255, 255)), is_thing=(False, False)
)


class MotionIoU(SemanticIoU):
    """Collects masks of what moves: IoU of two classes."""

    def __init__(self) -> None:
        super().__init__(MOTION)

    def update_mask(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Count one image.

        Args:
            pred: (H, W) bool.
            gt: (H, W) uint8, 1 = moves, 0 = does not, 255 = ignored.

        Returns:
            The mean IoU of this mask alone, see `SemanticIoU.update`.

        Raises:
            InputError: shapes or dtypes do not fit, or the ground truth has another number.
        """
        check_array('pred', pred, (None, None), np.bool_)
        return self.update(pred.view(np.uint8), gt)

    def scores(self) -> MotionScores:
        """The scores of all masks so far; NaN where there was nothing to measure."""
        found = self.compute()
        static, moving = (found.iou_per_class[name] for name in MOTION.names)
        return MotionScores(motion_miou=found.miou, moving_iou=moving, static_iou=static)
