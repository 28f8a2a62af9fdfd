"""SOLOv2's instance head (Wang et al. 2020), with separable convolutions: a category, a kernel, mask features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sembox_ros.models.box_head import PRIOR_PROBABILITY, LevelSharedHead
from sembox_ros.models.layers import SeparableConv, upsample_bilinear
from sembox_ros.ops.grids import POSITION_WEIGHTS

# Before any training every mask is a blob around its cell: weights of dx^2, dy^2 and the constant.
INITIAL_POSITION = (0.0, 0.0, -8.0, -8.0, 1.0)


class MaskFeatures(nn.Module):
    """The unified mask features: c2 and p3..p5 brought to stride 4 and added, from coarse to fine.

    Args:
        in_channels: channels of c2, p3, p4, p5.
        channels: channels inside.
        outputs: channels E of the result.
    """

    def __init__(self, *, in_channels: Sequence[int], channels: int, outputs: int) -> None:
        super().__init__()
        *finer, coarsest = in_channels
        # Coordinates at the coarsest level, as in the paper.
        self.levels = nn.ModuleList(
            SeparableConv(count, channels, activation=True) for count in (*finer, coarsest + 2)
        )
        self.merge = SeparableConv(channels, channels, activation=True)
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """[c2, p3, p4, p5] to (B, E, H / 4, W / 4) of a network input of (H, W)."""
        *finer, coarsest = features
        x = self.levels[-1](torch.cat((coarsest, coordinates(coarsest)), dim=1))
        for level, finer_map in zip(list(self.levels)[-2::-1], finer[::-1], strict=True):
            x = level(finer_map) + upsample_bilinear(x)
        return self.last(self.merge(x))


class InstanceHead(nn.Module):
    """Categories and kernels of all grid cells, and the features that the kernels turn into masks.

    Args:
        pyramid_channels: channels of p3..p7.
        c2_channels: channels of the encoder's stride 4.
        channels: channels of both towers.
        depth: convolutions of each tower before the last one.
        features: channels E of the mask features.
        classes: detection classes K.
        shapes: rows and columns of each level's grid.
    """

    def __init__(
        self,
        *,
        pyramid_channels: int,
        c2_channels: int,
        channels: int,
        depth: int,
        features: int,
        classes: int,
        shapes: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        prior = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)
        tower: dict[str, Any] = {'channels': channels, 'depth': depth, 'levels': len(shapes), 'per_cell': 1}
        self.classify = LevelSharedHead(
            **tower, in_channels=pyramid_channels, outputs=classes, initial_bias=prior
        )
        self.kernels = LevelSharedHead(
            **tower, in_channels=pyramid_channels + 2, outputs=features + POSITION_WEIGHTS, initial_std=0.03
        )
        pointwise: Any = self.kernels.last[1]
        with torch.no_grad():
            pointwise.bias[-POSITION_WEIGHTS:] = torch.tensor(INITIAL_POSITION, device=pointwise.bias.device)
        self.features = MaskFeatures(
            in_channels=(c2_channels, *(pyramid_channels,) * 3), channels=features, outputs=features
        )

    def forward(self, c2: Tensor, pyramid: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Run the head.

        Args:
            c2: (B, C, H / 4, W / 4) of the encoder.
            pyramid: p3..p7.

        Returns:
            Category logits (B, G, K), mask kernels (B, G, E + `POSITION_WEIGHTS`) and mask features
            (B, E, H / 4, W / 4); cells in the order of `ops.grids.create_grids`.
        """
        located = [torch.cat((x, coordinates(x)), dim=1) for x in pyramid]
        cells, located_cells = (
            [_resize(x, shape) for x, shape in zip(maps, self.shapes, strict=True)] for maps in (pyramid, located)
        )
        return self.classify(cells), self.kernels(located_cells), self.features((c2, *pyramid[:3]))


def coordinates(features: Tensor) -> Tensor:
    """(B, 2, h, w) x and y of each place of a map (B, C, h, w), from -1 to 1 between the borders."""
    batch, _, height, width = features.shape
    # Whole numbers: of sizes that are not known before, TensorRT makes no other ranges.
    x = (torch.arange(width, device=features.device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=features.device) * 2 + 1) / height - 1
    both = torch.stack((x.expand(height, width), y[:, None].expand(height, width)))
    return both.to(features.dtype).expand(batch, 2, height, width)


def _resize(features: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """To a grid's rows and columns, bilinear."""
    return F.interpolate(features, size=size_hw, mode='bilinear', align_corners=False)
