"""The panoptic FPN's semantic branch (Kirillov et al. 2019), as the ResNeXt-50 project has it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.models.decoders.base import Decoder
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.layers import upsample_bilinear, upsample_nearest

NORM_GROUPS = 32
DROPOUT = 0.2


class FPN(Decoder):
    """A pyramid of lateral 1x1 convolutions; each level is brought to the second scale, and all are added.

    Args:
        encoder: whose features it takes.
        outputs: channels of the result.
        config: `decoder_channels` are those of the pyramid; its branches have half of them.
    """

    needs = 'five scales, each of twice the stride'

    def __init__(self, encoder: Encoder, outputs: int, config: ModelConfig) -> None:
        super().__init__(encoder, outputs, config)
        self.stride = encoder.strides[1]
        pyramid, branch = config.decoder_channels, config.decoder_channels // 2
        skips = encoder.channels[:0:-1]  # coarsest first
        self.laterals = nn.ModuleList(nn.Conv2d(skip, pyramid, 1) for skip in skips)
        self.branches = nn.ModuleList(
            _create_branch(pyramid, branch, doublings) for doublings in reversed(range(len(skips)))
        )
        self.dropout = nn.Dropout2d(DROPOUT)
        self.predict = nn.Conv2d(branch, outputs, 1)

    @classmethod
    def fits(cls, strides: tuple[int, ...]) -> bool:
        """See `Decoder.fits`."""
        return len(strides) == 5

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """See `Decoder.forward`."""
        coarse, *finer = features[:0:-1]
        levels = [self.laterals[0](coarse)]
        for lateral, skip in zip(list(self.laterals)[1:], finer, strict=True):
            levels.append(upsample_nearest(levels[-1]) + lateral(skip))
        total = self.branches[0](levels[0])
        for branch, level in zip(list(self.branches)[1:], levels[1:], strict=True):
            total = total + branch(level)
        result: Tensor = self.predict(self.dropout(total))
        return result


class _Doubled(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return upsample_bilinear(features)


def _create_branch(in_channels: int, channels: int, doublings: int) -> nn.Sequential:
    """Convolutions, each but that of the finest level followed by twice the size."""
    layers: list[nn.Module] = []
    for index in range(max(doublings, 1)):
        layers += [
            nn.Conv2d(channels if index else in_channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(NORM_GROUPS, channels),
            nn.ReLU(inplace=True),
        ]
        if doublings:
            layers.append(_Doubled())
    return nn.Sequential(*layers)
