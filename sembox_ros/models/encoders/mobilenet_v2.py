"""MobileNetV2 (Sandler et al. 2018) from torchvision, at two widths and output strides, and with fast downsampling."""

from __future__ import annotations

from torch import nn
from torchvision.models import mobilenet_v2

from sembox_ros.models.encoders.base import StagedEncoder, with_input_channels

# Expansion, channels, blocks and first stride of each group of blocks: table 2 of the paper.
PUBLISHED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# The last stride left out, without dilation in its place.
STRIDE_16 = (*PUBLISHED[:5], (6, 160, 3, 1), PUBLISHED[6])
# FD-MobileNet (Qin et al. 2018): a quarter of the size after the second layer, twice the stride everywhere.
FAST = ((1, 16, 1, 2), *PUBLISHED[1:])


def create_mobilenet_v2(
    in_channels: int, *, width: float = 1.0, settings: tuple[tuple[int, int, int, int], ...] = PUBLISHED
) -> StagedEncoder:
    """The network without its last 1x1 convolution, cut before each block that halves the map.

    Args:
        in_channels: of its input.
        width: factor of all channels.
        settings: of the groups of blocks.
    """
    net = mobilenet_v2(weights=None, width_mult=width, inverted_residual_setting=[list(row) for row in settings])
    layers = list(net.features[:-1])
    layers[0][0] = with_input_channels(layers[0][0], in_channels)
    stages: list[list[nn.Module]] = [layers[:1]]
    strides, channels = [2], [0]
    for layer in layers[1:]:
        if layer.stride == 2 and len(stages[-1]) + len(stages) > 2:
            stages.append([])
            strides.append(2 * strides[-1])
            channels.append(0)
        elif layer.stride == 2:  # fast downsampling: no features of stride 2
            strides[-1] *= 2
        stages[-1].append(layer)
        channels[-1] = layer.out_channels
    return StagedEncoder(
        [nn.Sequential(*stage) for stage in stages], strides=tuple(strides), channels=tuple(channels), group_width=1
    )
