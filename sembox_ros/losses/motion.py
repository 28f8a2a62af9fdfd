"""What the mask of what moves pays: cross-entropy of its pixels, and overlap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.errors import InputError
from sembox_ros.losses.maps import check_map, mean_of_images
from sembox_ros.losses.semantic import IGNORED_PIXEL, region_loss


class MotionLoss:
    """Binary cross-entropy over the labeled pixels and Dice of what moves and of what does not.

    Little moves in most images. The Dice term, which is that of the pixel classes, weighs both sides alike wherever
    they are, so that no weight of the rare one has to be chosen.
    """

    def __call__(self, motion_logits: Tensor, motion: Tensor) -> dict[str, Tensor]:
        """The term of one batch.

        Args:
            motion_logits: (B, 1, H, W) before the sigmoid, of any float dtype.
            motion: (B, H, W) int64, 1 = moves, 0 = does not, 255 = ignored.

        Returns:
            `loss_motion`, a float32 scalar.

        Raises:
            InputError: shapes or dtypes do not fit each other, or a label is another number.
        """
        check_map('motion_logits', motion_logits, 'motion', motion, torch.int64)
        labeled = motion != IGNORED_PIXEL
        if ((motion != 0) & (motion != 1) & labeled).any():
            raise InputError(f'motion: expected 0, 1 or {IGNORED_PIXEL}, got {motion.unique().tolist()}')
        logits = motion_logits.float()
        truth = motion.where(labeled, 0)
        cross_entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth.float(), reduction='none')
        probs = torch.cat((-logits, logits), dim=1).sigmoid()  # static, moving
        overlap = region_loss(probs, motion, labeled, region='dice').mean()
        return {'loss_motion': mean_of_images(cross_entropy, labeled) + overlap}
