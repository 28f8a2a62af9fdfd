"""What the Lite decoders of TI's edgeailite share: the convolutions of the encoder's own kind, and an ASPP of them.

The Lite rule: behind an encoder of depthwise convolutions all 3x3 convolutions are depthwise; behind one of grouped
convolutions (RegNetX) they are grouped, with groups as wide as the encoder's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

ASPP_DILATIONS = (6, 12, 18)
ASPP_DROPOUT = 0.2


class ConvNormRelu(nn.Sequential):
    """Pointwise convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
        )


class LiteConv(nn.Sequential):
    """Grouped 3x3 and pointwise convolution, each with batch norm and ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        group_width: channels of a group; as many of them as divide the input's where this does not.
        dilation: of the 3x3 convolution; its padding keeps the size.
        predicts: leave the last norm and ReLU out: a prediction follows.
    """

    def __init__(
        self, in_channels: int, out_channels: int, group_width: int, *, dilation: int = 1, predicts: bool = False
    ) -> None:
        groups = in_channels // math.gcd(in_channels, group_width)
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=groups, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
        ]
        if predicts:
            layers.append(nn.Conv2d(in_channels, out_channels, 1))
        else:
            layers += ConvNormRelu(in_channels, out_channels)
        super().__init__(*layers)


class LiteASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017) of four branches, none of them a pooled image.

    Args:
        in_channels: channels of the input.
        channels: of each branch and of the output.
        group_width: channels of a group.
    """

    def __init__(self, in_channels: int, channels: int, group_width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormRelu(in_channels, channels),
                *(LiteConv(in_channels, channels, group_width, dilation=rate) for rate in ASPP_DILATIONS),
            ]
        )
        self.dropout = nn.Dropout2d(ASPP_DROPOUT)
        self.merge = ConvNormRelu(len(self.branches) * channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, channels, h, w)."""
        merged: Tensor = self.merge(self.dropout(torch.cat([branch(features) for branch in self.branches], dim=1)))
        return merged
