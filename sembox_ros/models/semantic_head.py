"""The semantic head of EfficientPS (Mohan & Valada 2020, section 3.3), all with separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sembox_ros.models.layers import SeparableConv, upsample_bilinear


def _separable(in_channels: int, out_channels: int, dilation: tuple[int, int] = (1, 1)) -> SeparableConv:
    return SeparableConv(in_channels, out_channels, dilation=dilation, activation=True)


class LargeScaleFeatures(nn.Sequential):
    """LSFE: two separable convolutions that capture fine detail on the large maps."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(_separable(in_channels, out_channels), _separable(out_channels, out_channels))


class MismatchCorrection(nn.Sequential):
    """MC: two separable convolutions, then bilinear x2, so that coarse context fits the finer map it is added to."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            _separable(channels, channels),
            _separable(channels, channels),
            nn.Upsample(scale_factor=2.0, mode='bilinear', align_corners=False),
        )


class DensePredictionCell(nn.Module):
    """DPC: five dilated branches that see far on the small maps (Chen et al. 2018, as EfficientPS wires it).

    The first branch feeds the next three; the last reads the fourth; all are concatenated.
    """

    def __init__(self, in_channels: int, branch_channels: int, out_channels: int) -> None:
        super().__init__()
        width = branch_channels
        self.entry = _separable(in_channels, width, dilation=(1, 6))
        self.near = _separable(width, width, dilation=(1, 1))
        self.wide = _separable(width, width, dilation=(6, 21))
        self.far = _separable(width, width, dilation=(18, 15))
        self.far_again = _separable(width, width, dilation=(6, 3))
        self.merge = nn.Sequential(nn.Conv2d(5 * width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w)."""
        entry = self.entry(features)
        far = self.far(entry)
        branches = (entry, self.near(entry), self.wide(entry), far, self.far_again(far))
        return self.merge(torch.cat(branches, dim=1))


class SemanticHead(nn.Module):
    """Per-pixel class logits from c2 and p3..p5.

    LSFE on strides 4 and 8, DPC on 16 and 32, mismatch correction on the way down from coarse to fine.
    EfficientPS concatenates the four results at stride 4 and classifies them with a 1x1 convolution; here each
    is classified at its own size and the logits are upsampled and added. Both are linear, so it is the same
    function, at a quarter of the multiply-adds.

    Args:
        in_channels: channels of c2, p3, p4, p5.
        channels: channels of LSFE, MC and of the DPC's output.
        dpc_channels: channels of each DPC branch.
        classes: semantic classes K.
    """

    def __init__(self, *, in_channels: Sequence[int], channels: int, dpc_channels: int, classes: int) -> None:
        super().__init__()
        c2, p3, p4, p5 = in_channels
        self.fine_4 = LargeScaleFeatures(c2, channels)
        self.fine_8 = LargeScaleFeatures(p3, channels)
        self.context_16 = DensePredictionCell(p4, dpc_channels, channels)
        self.context_32 = DensePredictionCell(p5, dpc_channels, channels)
        self.correct_16 = MismatchCorrection(channels)
        self.correct_8 = MismatchCorrection(channels)
        # One bias serves the sum of the four.
        self.classify = nn.ModuleList(nn.Conv2d(channels, classes, 1, bias=i == 0) for i in range(4))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """[c2, p3, p4, p5] to logits (B, K, H / 4, W / 4) of a network input of (H, W)."""
        c2, p3, p4, p5 = features
        x32 = self.context_32(p5)
        x16 = self.context_16(p4) + upsample_bilinear(x32)
        x8 = self.fine_8(p3) + self.correct_16(x16)
        x4 = self.fine_4(c2) + self.correct_8(x8)
        logits = self.classify[3](x32)
        for classify, x in zip(list(self.classify)[2::-1], (x16, x8, x4), strict=True):
            logits = upsample_bilinear(logits) + classify(x)
        # Class planes from here on, also in a channels-last network: that is how argmax reads them.
        return logits.contiguous(memory_format=torch.contiguous_format)
