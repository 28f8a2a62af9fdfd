"""What the instance head pays: focal loss for the cells' categories, Dice for the masks of their kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.losses.box import focal_loss
from sembox_ros.ops.grids import MASK_STRIDE, POSITION_WEIGHTS, Grids, evaluate_kernels


class CellTargets(Protocol):
    """What an assignment gives; see `targets.grids.GridTargets`."""

    @property
    def class_ids(self) -> Tensor:
        """(G,) int64."""

    @property
    def rows(self) -> Tensor:
        """(G,) int64."""


@dataclass(frozen=True, kw_only=True)
class InstanceLoss:
    """SOLOv2's two terms (Wang et al. 2020, section 3.2).

    As all losses here each is computed image by image, and the batch's is the mean. The focal loss is divided by the
    number of cells that have an object. The masks are compared at a quarter of the canvas, where a pixel on an edge
    belongs to an object by the share of its area.

    Args:
        assign: which cell learns which object, `targets.grids.assign_cells`.
        alpha: weight of the true class's pair in the focal loss, in 0..1.
        gamma: exponent of the focal loss, from 0.
        max_cells: of an image with more cells that have an object, so many pay for their masks.

    Raises:
        ConfigError: an option is out of range.
    """

    assign: Callable[[Grids, Tensor, Tensor, Tensor, Tensor], CellTargets]
    alpha: float = 0.25
    gamma: float = 2.0
    max_cells: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f'alpha: expected a weight in 0..1, got {self.alpha}')
        if not 0 <= self.gamma < float('inf'):
            raise ConfigError(f'gamma: expected a finite number from 0, got {self.gamma}')
        if self.max_cells < 1:
            raise ConfigError(f'max_cells: expected at least 1, got {self.max_cells}')

    def __call__(
        self,
        category_logits: Tensor,
        mask_kernels: Tensor,
        mask_features: Tensor,
        *,
        grids: Grids,
        instances: Tensor,
        boxes_xyxy: Sequence[Tensor],
        class_ids: Sequence[Tensor],
        is_crowd: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The two terms of one batch.

        Args:
            category_logits: (B, G, K) before the sigmoid, of any float dtype.
            mask_kernels: (B, G, E + 5).
            mask_features: (B, E, H / 4, W / 4).
            grids: of the canvas.
            instances: (B, H, W) int32, k on the pixels of row k - 1 of the image's boxes.
            boxes_xyxy: per image (N, 4) in pixels of the canvas.
            class_ids: per image (N,) int64 in 0..K-1.
            is_crowd: per image (N,) bool.

        Returns:
            `loss_category` and `loss_mask`, float32 scalars.

        Raises:
            InputError: shapes do not fit each other.
        """
        _check_shapes(category_logits, mask_kernels, mask_features, grids, instances)
        targets = [
            self.assign(grids, *image) for image in zip(instances, boxes_xyxy, class_ids, is_crowd, strict=True)
        ]
        target_ids = torch.stack([target.class_ids for target in targets])
        positives = (target_ids >= 0).sum(dim=1).clamp(min=1)  # (B,)
        focal = focal_loss(category_logits, target_ids, alpha=self.alpha, gamma=self.gamma)
        masks = [
            self._dice(kernels, features, grids, target.rows, map_)
            for kernels, features, target, map_ in zip(mask_kernels, mask_features, targets, instances, strict=True)
        ]
        return {'loss_category': (focal / positives).mean(), 'loss_mask': torch.stack(masks).mean()}

    def _dice(self, kernels: Tensor, features: Tensor, grids: Grids, rows: Tensor, instances: Tensor) -> Tensor:
        """1 - Dice of one image's masks (Milletari et al. 2016), averaged; zero, in the graph, without any."""
        cells = (rows >= 0).nonzero()[:, 0]
        if not len(cells):
            return kernels.sum().float() * 0 + features.sum().float() * 0
        cells = cells[:: -(-len(cells) // self.max_cells)]
        probs = evaluate_kernels(kernels[cells], cells, features, grids).sigmoid()
        owners, place = rows[cells].unique(return_inverse=True)
        shares = F.avg_pool2d((instances == owners[:, None, None] + 1).float(), MASK_STRIDE)[place]
        common = (probs * shares).sum(dim=(1, 2))
        total = probs.square().sum(dim=(1, 2)) + shares.square().sum(dim=(1, 2))
        return (1 - 2 * common / total.clamp(min=1e-6)).mean()


def _check_shapes(categories: Tensor, kernels: Tensor, features: Tensor, grids: Grids, instances: Tensor) -> None:
    images, count = len(categories), len(grids.reach)
    height, width = grids.canvas_hw
    for name, tensor, shape in (
        ('category_logits', categories, (images, count, categories.shape[-1])),
        ('mask_kernels', kernels, (images, count, features.shape[1] + POSITION_WEIGHTS)),
        ('mask_features', features, (images, features.shape[1], height // MASK_STRIDE, width // MASK_STRIDE)),
        ('instances', instances, (images, height, width)),
    ):
        if tuple(tensor.shape) != shape:
            raise InputError(f'{name}: expected {shape} for a canvas of {height}x{width}, got {tuple(tensor.shape)}')
