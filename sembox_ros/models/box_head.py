"""EfficientDet's box head: convolutions shared over the levels, a batch norm for each level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sembox_ros.models.layers import SeparableConv, create_norm
from sembox_ros.ops.anchors import ANCHORS_PER_CELL

PRIOR_PROBABILITY = 0.01  # of an object at an anchor, before any training (RetinaNet, section 3.3)


class LevelSharedHead(nn.Module):
    """Tower of separable convolutions that all levels share, and a last one without norm.

    Args:
        channels: channels of the tower.
        outputs: values per anchor.
        depth: convolutions before the last one.
        levels: number of pyramid levels.
        in_channels: channels of the pyramid; 0: those of the tower.
        per_cell: anchors of each place in the maps.
        initial_bias: of every output before training.
        initial_std: of the last convolution's weights before training.
    """

    def __init__(
        self,
        *,
        channels: int,
        outputs: int,
        depth: int,
        levels: int,
        in_channels: int = 0,
        per_cell: int = ANCHORS_PER_CELL,
        initial_bias: float = 0.0,
        initial_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.per_cell = per_cell
        widths = (in_channels or channels, *(channels,) * (depth - 1))
        self.convs = nn.ModuleList(SeparableConv(width, channels, norm=False) for width in widths)
        self.norms = nn.ModuleList(nn.ModuleList(create_norm(channels) for _ in range(depth)) for _ in range(levels))
        self.last = SeparableConv(channels, per_cell * outputs, norm=False)
        # Small at first, so that boxes start as their anchors and scores at their prior (RetinaNet, section 4.1).
        pointwise: Any = self.last[1]
        nn.init.normal_(pointwise.weight, std=initial_std)
        nn.init.constant_(pointwise.bias, initial_bias)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """[(B, C, h, w) of each level] to (B, A, outputs), anchors in the order of `create_anchors`."""
        flat = []
        for level, x in enumerate(pyramid):
            norms: Any = self.norms[level]
            for conv, norm in zip(self.convs, norms, strict=True):
                x = F.silu(norm(conv(x)))
            flat.append(_flatten_anchors(self.last(x), self.per_cell))
        return torch.cat(flat, dim=1)

    def folded(self) -> FoldedLevelHead:
        """The same function with a tower for each level, ready for its norms to be folded away."""
        return FoldedLevelHead(self)


class FoldedLevelHead(nn.Module):
    """`LevelSharedHead` for evaluation: each level has its own pointwise convolutions, into which its norms fold."""

    def __init__(self, source: LevelSharedHead) -> None:
        super().__init__()
        self.per_cell = source.per_cell
        convs: Any = source.convs
        levels: Any = source.norms
        self.towers = nn.ModuleList(
            nn.Sequential(
                *(nn.Sequential(*conv, norm, nn.SiLU(inplace=True)) for conv, norm in zip(convs, norms, strict=True))
            )
            for norms in levels
        )
        self.last = source.last

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """As `LevelSharedHead.forward`."""
        flat = [self.last(tower(x)) for tower, x in zip(self.towers, pyramid, strict=True)]
        return torch.cat([_flatten_anchors(x, self.per_cell) for x in flat], dim=1)


def _flatten_anchors(x: Tensor, per_cell: int) -> Tensor:
    """(B, per_cell x outputs, h, w) to (B, h w per_cell, outputs)."""
    return x.permute(0, 2, 3, 1).unflatten(-1, (per_cell, -1)).flatten(1, 3)


class BoxHead(nn.Module):
    """Class logits and box regressions for every anchor.

    Args:
        channels: channels of the pyramid.
        classes: detection classes K.
        depth: convolutions before the last one in each of the two towers.
        levels: number of pyramid levels.
    """

    def __init__(self, *, channels: int, classes: int, depth: int, levels: int) -> None:
        super().__init__()
        prior = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)
        self.classify = LevelSharedHead(
            channels=channels, outputs=classes, depth=depth, levels=levels, initial_bias=prior
        )
        self.regress = LevelSharedHead(channels=channels, outputs=4, depth=depth, levels=levels)

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """p3..p7 to class logits (B, A, K) and regressions (B, A, 4): dx, dy, dw, dh against the anchors."""
        return self.classify(pyramid), self.regress(pyramid)
