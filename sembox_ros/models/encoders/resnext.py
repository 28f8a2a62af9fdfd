"""ResNeXt-50 32x4d (Xie et al. 2017) from torchvision."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnext50_32x4d

from sembox_ros.models.encoders.base import StagedEncoder, with_input_channels


def create_resnext50(in_channels: int) -> StagedEncoder:
    """The network without its classifier.

    Its groups widen from stage to stage, so that none is a measure for decoders: Lite ones are depthwise.

    Args:
        in_channels: of its input.
    """
    net = resnext50_32x4d(weights=None)
    stem = nn.Sequential(with_input_channels(net.conv1, in_channels), net.bn1, net.relu)
    stages = [stem, nn.Sequential(net.maxpool, *net.layer1), net.layer2, net.layer3, net.layer4]
    return StagedEncoder(stages, strides=(2, 4, 8, 16, 32), channels=(64, 256, 512, 1024, 2048), group_width=1)
