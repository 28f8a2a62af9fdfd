"""What every encoder is: stages, each of which halves what the one before it gave."""

from __future__ import annotations

import copy

from torch import Tensor, nn


class Encoder(nn.Module):
    """A backbone that gives one feature map per scale.

    Args:
        strides: of the maps, each twice the one before; input pixels per place.
        channels: of the maps.
        group_width: channels of a group in its 3x3 convolutions; 1 where they are depthwise. Lite decoders follow it.
    """

    def __init__(self, *, strides: tuple[int, ...], channels: tuple[int, ...], group_width: int) -> None:
        super().__init__()
        self.strides = strides
        self.channels = channels
        self.group_width = group_width

    def stage(self, index: int, x: Tensor) -> Tensor:
        """The map of scale `index`, of the one before it or, for 0, of the input."""
        raise NotImplementedError

    def cut(self, stages: int) -> None:
        """Forget the weights of all but the first stages, which are all that may run from now on."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of (B, C, H, W) images, finest first: (B, channels[i], H / strides[i], W / strides[i])."""
        return self.run(images, range(len(self.strides)))

    def run(self, x: Tensor, stages: range) -> list[Tensor]:
        """The maps of some stages, of what the first of them takes."""
        features = []
        for index in stages:
            x = self.stage(index, x)
            features.append(x)
        return features


class StagedEncoder(Encoder):
    """An encoder whose stages are modules.

    Args:
        stages: one for each scale.
        strides: of the maps.
        channels: of the maps.
        group_width: as `Encoder`.
    """

    def __init__(
        self, stages: list[nn.Module], *, strides: tuple[int, ...], channels: tuple[int, ...], group_width: int
    ) -> None:
        super().__init__(strides=strides, channels=channels, group_width=group_width)
        self.stages = nn.ModuleList(stages)

    def stage(self, index: int, x: Tensor) -> Tensor:
        """See `Encoder.stage`."""
        result: Tensor = self.stages[index](x)
        return result

    def cut(self, stages: int) -> None:
        """See `Encoder.cut`."""
        self.stages = self.stages[:stages]


def with_input_channels(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """The first convolution of a library's network for another number of input channels, freshly initialised."""
    if conv.in_channels == channels:
        return conv
    other = copy.deepcopy(conv)
    other.in_channels = channels
    other.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, channels, *conv.kernel_size))
    nn.init.kaiming_normal_(other.weight, mode='fan_out')
    return other
