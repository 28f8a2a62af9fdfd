"""EfficientDet for segmentation: a BiFPN over p2 to p7, and from there to the input's own size.

The paper (Tan et al. 2020, section 5.3) classifies p2 alone; the public EfficientDet_Segmentation goes down from p7
once more, as PANet's pyramid is followed by another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.models.bifpn import BiFPN
from sembox_ros.models.decoders.base import Decoder
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.layers import SeparableConv, create_norm

HEAD_DEPTH = 3


class _Seg(Decoder):
    """What both ways share: strides, pyramid, and that they end at the input's own size."""

    needs = 'strides 4, 8, 16 and 32 at the end'

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig, *, levels: int | None) -> None:
        super().__init__(encoder, outputs, config)
        self.stride = 1
        self.neck = BiFPN(encoder.channels[-4:], config.neck_channels, config.neck_cells, levels, weighted=False)

    @classmethod
    def fits(cls, strides: tuple[int, ...]) -> bool:
        """See `Decoder.fits`."""
        return strides[-4:] == (4, 8, 16, 32)


class EfficientDetSeg(_Seg):
    """Down from p7: each level to twice its size, joined with the next finer; p2 to the input's size.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result.
        config: `neck_channels` and `neck_cells` of the BiFPN, `decoder_channels` of the way down.
    """

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:
        super().__init__(encoder, outputs, config, levels=None)
        neck, width = config.neck_channels, config.decoder_channels
        steps = len(encoder.channels[-4:]) + 2  # of which the last, from p2 to half the input's size, joins nothing
        self.down = nn.ModuleList(_doubling(width + neck if i else neck, width) for i in range(steps))
        self.predict = nn.ConvTranspose2d(width, outputs, 2, stride=2)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `Decoder.forward`."""
        coarse, *finer = self.neck(features[-4:])[::-1]
        x = self.down[0](coarse)
        for down, skip in zip(list(self.down)[1:], finer, strict=True):
            x = down(torch.cat((x, skip), dim=1))
        result: Tensor = self.predict(x)
        return result


class EfficientDetSegP2(_Seg):
    """P2 alone: brought to the input's size, then separable convolutions.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result.
        config: `neck_channels` and `neck_cells` of the BiFPN, `decoder_channels` of the convolutions.
    """

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:
        super().__init__(encoder, outputs, config, levels=1)
        neck, width = config.neck_channels, config.decoder_channels
        self.expand = nn.Sequential(_doubling(neck, neck), _doubling(neck, neck))
        self.head = nn.Sequential(
            *(SeparableConv(width if i else neck, width, activation=True) for i in range(HEAD_DEPTH))
        )
        self.predict = SeparableConv(width, outputs, norm=False)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `Decoder.forward`."""
        result: Tensor = self.predict(self.head(self.expand(self.neck(features[-4:])[0])))
        return result


def _doubling(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2), create_norm(out_channels), nn.SiLU(inplace=True)
    )
