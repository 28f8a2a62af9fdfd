"""U-Net (Ronneberger et al. 2015) as edgeailite has it: separable convolutions, an ASPP at the bottom."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.models.decoders.base import Decoder
from sembox_ros.models.decoders.lite import LiteASPP, LiteConv
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.layers import upsample_bilinear

MIN_CHANNELS = 32


class UNetLite(Decoder):
    """From the coarsest map to the finest: upsampled, joined with the encoder's, smoothed to that one's channels.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result; no level has less than twice as many.
        config: `decoder_channels` are those of the ASPP.
    """

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:
        super().__init__(encoder, outputs, config)
        channels = config.decoder_channels
        self.stride = encoder.strides[0]
        least = max(2 * outputs, MIN_CHANNELS)
        self.aspp = LiteASPP(encoder.channels[-1], channels, encoder.group_width)
        levels = []
        for skip in encoder.channels[-2::-1]:
            levels.append(LiteConv(channels + skip, max(least, skip), encoder.group_width))
            channels = max(least, skip)
        self.levels = nn.ModuleList(levels)
        self.predict = LiteConv(channels, outputs, encoder.group_width, predicts=True)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `Decoder.forward`."""
        x = self.aspp(features[-1])
        for level, skip in zip(self.levels, features[-2::-1], strict=True):
            x = level(torch.cat((upsample_bilinear(x), skip), dim=1))
        result: Tensor = self.predict(x)
        return result
