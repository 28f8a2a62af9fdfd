"""BiFPN: weighted bi-directional feature pyramid (EfficientDet, Tan et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sembox_ros.models.layers import ConvNorm, SeparableConv, pool_half, upsample_nearest

FUSION_EPS = 1e-4
LEVELS = (3, 4, 5, 6, 7)


class Fusion(nn.Module):
    """Fast normalised fusion: sum of relu(w_i) x_i over (sum of relu(w) + eps), then swish and a separable conv.

    EfficientDet section 3.3. One learned weight per input keeps every output between its inputs.

    Args:
        inputs: number of maps.
        channels: of each.
        weighted: False adds the maps as they are, as the published D6 and D7 do.
    """

    def __init__(self, inputs: int, channels: int, *, weighted: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(inputs)) if weighted else None
        self.conv = SeparableConv(channels, channels)

    def forward(self, *features: Tensor) -> Tensor:
        """Fuse maps of one shape (B, C, h, w) into one of that shape."""
        if self.weight is None:
            return self.conv(F.silu(torch.stack(features).sum(dim=0)))
        weight = F.relu(self.weight)
        return self.conv(F.silu(_weighted_sum(features, weight / (weight.sum() + FUSION_EPS))))

    def folded(self) -> nn.Module:
        """The same function with its weights normalised once."""
        return self if self.weight is None else FoldedFusion(self.weight, self.conv)


class FoldedFusion(nn.Module):
    """`Fusion` for evaluation: its weights already sum to (almost) one.

    Args:
        weight: the learned weights (inputs,).
        conv: separable convolution after the swish.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, conv: nn.Module) -> None:
        super().__init__()
        positive = F.relu(weight.detach())
        self.register_buffer('weight', positive / (positive.sum() + FUSION_EPS))
        self.conv = conv

    def forward(self, *features: Tensor) -> Tensor:
        """As `Fusion.forward`."""
        return self.conv(F.silu(_weighted_sum(features, self.weight)))


def _weighted_sum(features: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Sum of maps of one shape (B, C, h, w), each times its number in `weight` (inputs,)."""
    mixed = features[0] * weight[0]
    for index, feature in enumerate(features[1:], start=1):
        mixed = mixed + feature * weight[index]
    return mixed


class BiFPNCell(nn.Module):
    """One top-down and one bottom-up pass over a pyramid, p3..p7 if it has five levels.

    Args:
        channels: channels of every level.
        outputs: how many levels to give, from the finest up; the others are not computed.
        levels: how many there are.
        weighted: fuse with learned weights.

    Top-down, level l below the top:  t_l = fuse(x_l, up(t_{l+1}))
    Bottom-up, level l above the bottom: y_l = fuse(s_l, t_l, down(y_{l-1})); the top has no t of its own.
    """

    def __init__(
        self, channels: int, outputs: int = len(LEVELS), *, levels: int = len(LEVELS), weighted: bool = True
    ) -> None:
        super().__init__()
        steps = levels - 1
        self.top_down = nn.ModuleList(Fusion(2, channels, weighted=weighted) for _ in range(steps))  # p3 to p6
        self.bottom_up = nn.ModuleList(  # p4 to p7
            Fusion(3 if i < steps - 1 else 2, channels, weighted=weighted) for i in range(outputs - 1)
        )

    def forward(self, inputs: Sequence[Tensor], skips: Sequence[Tensor]) -> list[Tensor]:
        """Refine the pyramid.

        Args:
            inputs: all levels for the top-down pass, finest first, each (B, C, H / stride, W / stride).
            skips: the same for the bottom-up pass; the same tensors except in the first cell.

        Returns:
            The first `outputs` of them, in the same shapes.
        """
        down = list(inputs)  # the top level enters as it is
        for level in reversed(range(len(down) - 1)):
            down[level] = self.top_down[level](inputs[level], upsample_nearest(down[level + 1]))
        out = [down[0]]
        for level, fuse in enumerate(self.bottom_up, start=1):
            below = pool_half(out[-1])
            top = level == len(down) - 1
            out.append(fuse(skips[level], below) if top else fuse(skips[level], down[level], below))
        return out


class BiFPN(nn.Module):
    """Projection of an encoder's last maps and two levels above them, then a stack of cells.

    The first cell reads all projected levels but the finest through a second projection of their own in its bottom-up
    pass, as the published EfficientDet weights have it.

    Args:
        in_channels: channels of the maps, c3, c4 and c5 for p3 to p7.
        channels: channels of every output.
        cells: number of cells.
        outputs: how many levels the last cell gives, from the finest up; None gives all.
        weighted: fuse with learned weights.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        cells: int,
        outputs: int | None = None,
        *,
        weighted: bool = True,
    ) -> None:
        super().__init__()
        levels = len(in_channels) + 2
        self.project = nn.ModuleList(ConvNorm(c, channels) for c in in_channels)
        self.project_p6 = ConvNorm(in_channels[-1], channels)
        self.project_skip = nn.ModuleList(ConvNorm(c, channels) for c in in_channels[1:])
        self.cells = nn.ModuleList(
            BiFPNCell(channels, outputs or levels if i == cells - 1 else levels, levels=levels, weighted=weighted)
            for i in range(cells)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps, such as c3 to c5, to the first `outputs` levels, such as p3 to p7: each (B, channels, H / s, W / s)."""
        pyramid = [project(c) for project, c in zip(self.project, features, strict=True)]
        pyramid.append(pool_half(self.project_p6(features[-1])))
        pyramid.append(pool_half(pyramid[-1]))
        again = (project(c) for project, c in zip(self.project_skip, features[1:], strict=True))
        skips = [pyramid[0], *again, *pyramid[len(features) :]]
        for cell in self.cells:
            pyramid = skips = cell(pyramid, skips)
        return pyramid
