"""What the semantic head pays: cross-entropy per pixel and overlap per class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError

IGNORED_PIXEL = 255

_PIXELS = (2, 3)


@dataclass(frozen=True, kw_only=True)
class SemanticLoss:
    """Cross-entropy over the labeled pixels and a soft overlap loss over the classes that are present.

    Pixels of value 255 are ignored by both. Each term is computed image by image, and the batch's is the mean: an image's
    loss depends on no other image, and several processes, or accumulated batches, give exactly the gradient of one
    large batch. Without any labeled pixel an image counts zero, and is still part of the graph, so that `backward` works.

    Args:
        class_weights: K numbers from 0, one per class; None counts every class alike. The cross-entropy is divided by
            the sum of its pixels' weights, as PyTorch does for a batch.
        hard_pixels: take the cross-entropy only over hard pixels (online hard example mining, Shrivastava et al.
            2016): those whose true class got a probability below `hard_threshold`, and at least the hardest
            `hard_min_share` of the image's labeled pixels.
        hard_threshold: probability in 0..1; 0.7 is usual in segmentation.
        hard_min_share: share in 0..1.
        region: 'dice' (V-Net, Milletari et al. 2016, with squares in the denominator) or 'jaccard' (soft intersection
            over union, Rahman & Wang 2016).

    Raises:
        ConfigError: an option is out of range.
    """

    class_weights: tuple[float, ...] | None = None
    hard_pixels: bool = False
    hard_threshold: float = 0.7
    hard_min_share: float = 1 / 16
    region: str = 'dice'

    def __post_init__(self) -> None:
        weights = self.class_weights
        if weights is not None:
            object.__setattr__(self, 'class_weights', tuple(weights))  # a YAML file gives a list
            if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
                raise ConfigError(f'class_weights: expected finite numbers from 0, not all zero, got {tuple(weights)}')
        for name in ('hard_threshold', 'hard_min_share'):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'{name}: expected a number in 0..1, got {getattr(self, name)}')
        if self.region not in REGIONS:
            raise ConfigError(f'region: expected one of {", ".join(REGIONS)}, got {self.region!r}')

    def __call__(self, semantic_logits: Tensor, semantic: Tensor) -> dict[str, Tensor]:
        """The two terms of one batch.

        Args:
            semantic_logits: (B, K, H, W) before the softmax, of any float dtype.
            semantic: (B, H, W) int64 class ids 0..K-1, 255 = ignored.

        Returns:
            `loss_semantic` and `loss_region`, float32 scalars.

        Raises:
            InputError: shapes do not fit each other or a class id is out of range.
        """
        _check_pixels(semantic_logits, semantic)
        log_probs = semantic_logits.float().log_softmax(dim=1)
        labeled = semantic != IGNORED_PIXEL
        return {
            'loss_semantic': self._cross_entropy(log_probs, semantic),
            'loss_region': region_loss(log_probs.exp(), semantic, labeled, region=self.region).mean(),
        }

    def _cross_entropy(self, log_probs: Tensor, semantic: Tensor) -> Tensor:
        if self.class_weights is not None and len(self.class_weights) != log_probs.shape[1]:
            raise InputError(
                f'class_weights: expected {log_probs.shape[1]}, one per class, got {len(self.class_weights)}'
            )
        losses = F.nll_loss(log_probs, semantic, ignore_index=IGNORED_PIXEL, reduction='none')
        weights = (semantic != IGNORED_PIXEL).float()
        if self.class_weights is not None:
            table = losses.new_tensor((*self.class_weights, *(0.0,) * (IGNORED_PIXEL + 1 - len(self.class_weights))))
            weights = table[semantic]
        if self.hard_pixels:
            weights = weights * torch.stack([self._hard(*image) for image in zip(losses.detach(), semantic, strict=True)])
        total = weights.sum(dim=(1, 2))
        return ((weights * losses).sum(dim=(1, 2)) / torch.where(total > 0, total, 1)).mean()

    def _hard(self, losses: Tensor, semantic: Tensor) -> Tensor:
        """Which pixels (H, W) of an image count, from their cross-entropy (H, W)."""
        labeled = semantic != IGNORED_PIXEL
        hard = (losses.neg().exp() < self.hard_threshold) & labeled
        least = math.ceil(self.hard_min_share * int(labeled.sum()))
        if least and hard.sum() < least:
            hard = (losses >= losses[labeled].topk(least).values[-1]) & labeled
        return hard


def _dice(probs: Tensor, common: Tensor, gt: Tensor) -> Tensor:
    return 2 * common / (probs.square().sum(dim=_PIXELS) + gt)


def _jaccard(probs: Tensor, common: Tensor, gt: Tensor) -> Tensor:
    return common / (probs.sum(dim=_PIXELS) + gt - common)


# name -> overlap per class (B, K), from the probabilities (B, K, H, W), their sum (B, K) where the class is the true one,
# and the number (B, K) of its pixels.
REGIONS = {'dice': _dice, 'jaccard': _jaccard}


def region_loss(probs: Tensor, semantic: Tensor, labeled: Tensor, *, region: str) -> Tensor:
    """1 - overlap of prediction and truth of each image, averaged over the classes that its truth has.

    Args:
        probs: (B, K, H, W) float32 in 0..1.
        semantic: (B, H, W) int64 class ids.
        labeled: (B, H, W) bool, False where `semantic` does not count.
        region: a key of `REGIONS`.

    Returns:
        (B,) float32 in 0..1; zero for an image without a labeled pixel.
    """
    probs = probs * labeled[:, None]
    is_class = torch.zeros_like(probs, dtype=torch.bool)
    is_class.scatter_(1, semantic.where(labeled, 0)[:, None], labeled[:, None])
    gt = is_class.sum(dim=_PIXELS)
    common = probs.where(is_class, 0).sum(dim=_PIXELS)
    overlap = REGIONS[region](probs, common, gt.clamp(min=1))
    present = gt > 0
    return ((1 - overlap) * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


def _check_pixels(semantic_logits: Tensor, semantic: Tensor) -> None:
    if semantic_logits.ndim != 4:
        raise InputError(f'semantic_logits: expected (B, K, H, W), got {tuple(semantic_logits.shape)}')
    images, classes, height, width = semantic_logits.shape
    if semantic.shape != (images, height, width):
        raise InputError(
            f'semantic: expected {(images, height, width)} like the logits, got {tuple(semantic.shape)}; '
            "bring both to the size of the network's input"
        )
    if semantic.dtype != torch.int64:
        raise InputError(f'semantic: expected int64, got {semantic.dtype}; convert it with .long()')
    if (((semantic < 0) | (semantic >= classes)) & (semantic != IGNORED_PIXEL)).any():
        raise InputError(
            f'semantic: expected class ids 0..{classes - 1} or {IGNORED_PIXEL}, got {semantic.unique().tolist()}; '
            'the model and the data set need the same labels'
        )
