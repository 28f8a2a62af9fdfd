"""What the box head pays: sigmoid focal loss for the classes, smooth L1 for the corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError

IGNORED = -2  # as in sembox_ros.targets, which losses may not import


class Assigned(Protocol):
    """What an anchor assignment gives for one image: `sembox_ros.targets.AnchorTargets`."""

    @property
    def class_ids(self) -> Tensor:
        """(A,) int64, class 0..K-1, -1 for none, `IGNORED` for no loss."""

    @property
    def regression(self) -> Tensor:
        """(A, 4) float32, read only where the class is 0 or more."""


class AnchorAssigner(Protocol):
    """`sembox_ros.targets.assign_anchors`, or a partial of it with other thresholds."""

    def __call__(self, anchors_xyxy: Tensor, boxes_xyxy: Tensor, class_ids: Tensor, is_crowd: Tensor, /) -> Assigned:
        """Targets of the (A, 4) anchors of one image with (N, 4) boxes."""


@dataclass(frozen=True, kw_only=True)
class BoxLoss:
    """Focal loss over all anchors and smooth L1 over the positive ones.

    In each image both are divided by the number of its positive anchors (at least 1), the second by another 4 for the
    four numbers of a box; the batch's loss is the mean of its images', as in the PyTorch port of EfficientDet. So an
    image's loss depends on no other image, and several processes, or accumulated batches, give exactly the gradient
    of one large batch.

    Args:
        assign: which anchor learns which box; `sembox_ros.targets.assign_anchors`.
        alpha: weight of a positive anchor's own class, 1 - alpha for everything else (0.25 in RetinaNet, Lin et al.
            2017, and in EfficientDet).
        gamma: how much an anchor that is right already counts less (RetinaNet and the PyTorch port of EfficientDet: 2;
            google/automl's configuration of EfficientDet: 1.5); 0 switches it off.
        beta: error, in units of the regression, where smooth L1 turns from square to straight. google/automl: 0.1
            (its Huber loss is `beta` times this one, so its weight of 50 is a weight of 5 here); the port: 1/9.

    Raises:
        ConfigError: an option is out of range.
    """

    assign: AnchorAssigner
    alpha: float = 0.25
    gamma: float = 2.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f'alpha: expected a weight in 0..1, got {self.alpha}')
        if not 0 <= self.gamma < float('inf'):
            raise ConfigError(f'gamma: expected a finite number from 0, got {self.gamma}')
        if not 0 < self.beta < float('inf'):
            raise ConfigError(f'beta: expected a finite number above 0, got {self.beta}')

    def __call__(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        *,
        anchors_xyxy: Tensor,
        boxes_xyxy: Sequence[Tensor],
        class_ids: Sequence[Tensor],
        is_crowd: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The two terms of one batch.

        Args:
            class_logits: (B, A, K) before the sigmoid, of any float dtype.
            box_regression: (B, A, 4) dx, dy, dw, dh against the anchors.
            anchors_xyxy: (A, 4) float32 in pixels.
            boxes_xyxy: per image (N, 4) in pixels of the network's input.
            class_ids: per image (N,) int64 in 0..K-1.
            is_crowd: per image (N,) bool.

        Returns:
            `loss_box_cls` and `loss_box_reg`, float32 scalars.

        Raises:
            InputError: shapes do not fit each other or a class id is out of range.
        """
        images, classes = _check_outputs(class_logits, box_regression, anchors_xyxy)
        for name, parts in (('boxes_xyxy', boxes_xyxy), ('class_ids', class_ids), ('is_crowd', is_crowd)):
            if len(parts) != images:
                raise InputError(f'{name}: expected one tensor per image, {images}, got {len(parts)}')
        ids = torch.cat(tuple(class_ids))
        if ((ids < 0) | (ids >= classes)).any():
            raise InputError(
                f'class_ids: expected 0..{classes - 1}, got {int(ids.min())}..{int(ids.max())}; '
                'the model and the data set need the same labels'
            )
        targets = [self.assign(anchors_xyxy, *image) for image in zip(boxes_xyxy, class_ids, is_crowd, strict=True)]
        target_ids = torch.stack([target.class_ids for target in targets])
        positive = target_ids >= 0
        positives = positive.sum(dim=1).clamp(min=1)  # (B,)
        focal = focal_loss(class_logits, target_ids, alpha=self.alpha, gamma=self.gamma)
        wanted = torch.stack([target.regression for target in targets])
        corners = F.smooth_l1_loss(box_regression.float(), wanted, beta=self.beta, reduction='none').sum(dim=2)
        corners = corners.where(positive, 0).sum(dim=1)
        return {
            'loss_box_cls': (focal / positives).mean(),
            'loss_box_reg': (corners / (4 * positives)).mean(),
        }


def focal_loss(class_logits: Tensor, target_ids: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Sum of the sigmoid focal losses (Lin et al. 2017, eq. 5) of each image's anchors that are not ignored.

    With p the probability given to the truth of one (anchor, class) pair: -weight (1 - p)^gamma log p. It is
    computed from the logit of 1 - p, so that no logit, however large, gives infinity or NaN.

    Args:
        class_logits: (..., A, K) before the sigmoid.
        target_ids: (..., A) int64, class 0..K-1, -1 for no class at all, `IGNORED` for no loss.
        alpha: weight of the true class's pair, 1 - alpha for the others.
        gamma: exponent of 1 - p.

    Returns:
        (...) float32.
    """
    logits = class_logits.float()
    is_class = target_ids[..., None] == torch.arange(logits.shape[-1], device=logits.device)
    wrong_logits = torch.where(is_class, -logits, logits)
    weight = torch.where(is_class, alpha, 1 - alpha)
    pairs = weight * (gamma * F.logsigmoid(wrong_logits)).exp() * F.softplus(wrong_logits)
    return pairs.sum(dim=-1).masked_fill(target_ids == IGNORED, 0).sum(dim=-1)


def _check_outputs(class_logits: Tensor, box_regression: Tensor, anchors_xyxy: Tensor) -> tuple[int, int]:
    if class_logits.ndim != 3:
        raise InputError(f'class_logits: expected (B, A, K), got {tuple(class_logits.shape)}')
    images, anchors, classes = class_logits.shape
    if box_regression.shape != (images, anchors, 4):
        raise InputError(f'box_regression: expected {(images, anchors, 4)}, got {tuple(box_regression.shape)}')
    if anchors_xyxy.shape != (anchors, 4):
        raise InputError(
            f'anchors_xyxy: expected {(anchors, 4)}, one per output of the network, got {tuple(anchors_xyxy.shape)}; '
            'create them for the size of its input'
        )
    return images, classes
