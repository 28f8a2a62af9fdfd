"""DeepLabV3+ (Chen et al. 2018) as edgeailite has it: no convolution between the shortcut and the prediction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.config import ModelConfig
from sembox_ros.models.decoders.base import Decoder
from sembox_ros.models.decoders.lite import ConvNormRelu, LiteASPP, LiteConv
from sembox_ros.models.encoders.base import Encoder

SHORTCUT_SHARE = 48 / 256  # of the channels, as published


class DeepLabV3PlusLite(Decoder):
    """ASPP on the coarsest map, upsampled at once to the second, whose shortcut it is joined with.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result.
        config: `decoder_channels` are those of the ASPP.
    """

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:
        super().__init__(encoder, outputs, config)
        channels = config.decoder_channels
        self.stride = encoder.strides[1]
        self._factor = encoder.strides[-1] // self.stride
        shortcut = max(8, 8 * round(SHORTCUT_SHARE * channels / 8))
        self.aspp = LiteASPP(encoder.channels[-1], channels, encoder.group_width)
        self.shortcut = ConvNormRelu(encoder.channels[1], shortcut)
        self.predict = LiteConv(channels + shortcut, outputs, encoder.group_width, predicts=True)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `Decoder.forward`."""
        context = F.interpolate(
            self.aspp(features[-1]), scale_factor=float(self._factor), mode='bilinear', align_corners=False
        )
        result: Tensor = self.predict(torch.cat((context, self.shortcut(features[1])), dim=1))
        return result
