"""U-Net with transposed convolutions, as the ResNeXt-50 project has it (after TernausNet, Iglovikov & Shvets 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sembox_ros.config import ModelConfig
from sembox_ros.models.decoders.base import Decoder
from sembox_ros.models.encoders.base import Encoder

DROPOUT = 0.2


class UNet(Decoder):
    """From below the coarsest map up to the input's own size, joined with the encoder's maps of stride 4 and more.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result.
        config: `decoder_channels` are those of its coarse levels; finer ones have fewer.
    """

    needs = 'strides 2, 4, 8, 16 and 32'
    residual = False

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:
        super().__init__(encoder, outputs, config)
        self.stride = 1
        width = config.decoder_channels
        c2, c3, c4, c5 = encoder.channels[1:]
        self.dropout = nn.Dropout2d(DROPOUT)
        self.center = _create_level(c5, 2 * width, width, residual=False)
        self.levels = nn.ModuleList(
            [
                _create_level(width + c5, 2 * width, width, residual=self.residual),
                _create_level(width + c4, 2 * width, width, residual=self.residual),
                _create_level(width + c3, width, width // 4, residual=self.residual),
                _create_level(width // 4 + c2, width // 2, width // 2, residual=self.residual),
            ]
        )
        self.finest = _create_level(width // 2, width // 2, width // 8, residual=False)
        self.smooth = nn.Sequential(_convolution(width // 8, width // 8), nn.ReLU(inplace=True))
        self.predict = nn.Conv2d(width // 8, outputs, 1)

    @classmethod
    def fits(cls, strides: tuple[int, ...]) -> bool:
        """See `Decoder.fits`."""
        return strides == (2, 4, 8, 16, 32)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `Decoder.forward`."""
        skips = [self.dropout(feature) for feature in features[:0:-1]]
        x = self.center(F.max_pool2d(skips[0], 2))
        for level, skip in zip(self.levels, skips, strict=True):
            x = level(torch.cat((x, skip), dim=1))
        result: Tensor = self.predict(self.smooth(self.finest(self.dropout(x))))
        return result


class ResidualUNet(UNet):
    """The same with a residual block in each level that joins."""

    residual = True


class _Residual(nn.Module):
    """Two 3x3 convolutions with batch norms around which the input goes, and one batch norm of their own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _convolution(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            _convolution(channels, channels),
            nn.BatchNorm2d(channels),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.block(features) + features)

    def folded(self) -> nn.Module:
        """The same with one batch norm in place of the two at its end."""
        *layers, first, second = self.block
        assert isinstance(first, nn.BatchNorm2d)
        assert isinstance(second, nn.BatchNorm2d)
        assert second.running_mean is not None
        assert second.running_var is not None
        scale = second.weight.double() / (second.running_var.double() + second.eps).sqrt()
        shift = (first.bias.double() - second.running_mean.double()) * scale + second.bias.double()
        first.weight = nn.Parameter((first.weight.double() * scale).to(first.weight.dtype))
        first.bias = nn.Parameter(shift.to(first.bias.dtype))
        self.block = nn.Sequential(*layers, first)
        return self


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _create_level(in_channels: int, middle: int, out_channels: int, *, residual: bool) -> nn.Sequential:
    """Convolution and transposed convolution to twice the size; kernel 4 with stride 2 leaves no chequerboard."""
    layers = [_convolution(in_channels, middle), nn.ReLU(inplace=True)]
    up = nn.ConvTranspose2d(middle, out_channels, 4, stride=2, padding=1)
    layers += [_Residual(middle), up] if residual else [up, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
