"""Feature pyramid (Lin et al. 2017) as edgeailite has it: each level is smoothed before it goes on to the next."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.models.decoders.base import Decoder
from sembox_ros.models.decoders.lite import ConvNormRelu, LiteASPP, LiteConv
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.layers import upsample_bilinear


class FPNLite(Decoder):
    """From the coarsest map to the second: upsampled, the encoder's added, smoothed.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result.
        config: `decoder_channels` are those of the ASPP and the pyramid.
    """

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:
        super().__init__(encoder, outputs, config)
        channels = config.decoder_channels
        self.stride = encoder.strides[1]
        width = encoder.group_width
        skips = encoder.channels[-2:0:-1]
        self.aspp = LiteASPP(encoder.channels[-1], channels, width)
        self.shortcuts = nn.ModuleList(ConvNormRelu(skip, channels) for skip in skips)
        self.levels = nn.ModuleList(LiteConv(channels, channels, width) for _ in skips)
        self.predict = LiteConv(channels, outputs, width, predicts=True)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `Decoder.forward`."""
        x = self.aspp(features[-1])
        for level, shortcut, skip in zip(self.levels, self.shortcuts, features[-2:0:-1], strict=True):
            x = level(upsample_bilinear(x) + shortcut(skip))
        result: Tensor = self.predict(x)
        return result
