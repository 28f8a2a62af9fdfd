"""Any encoder with any decoder that its strides allow: one encoder for all inputs, one decoder for each task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sembox_ros.config import INPUT_CHANNELS, ModelConfig
from sembox_ros.models.decoders import create_decoder
from sembox_ros.models.decoders.base import Decoder, initialise
from sembox_ros.models.decoders.lite import LiteConv
from sembox_ros.models.encoders import create_encoder
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.sembox import NetworkOutput, check_images

# Where the network has what a task says in `NetworkOutput`.
TASK_FIELDS = {'semantic': 'semantic_logits', 'depth': 'log_depth', 'motion': 'motion_logits'}
STREAM_STAGES = 2  # of an encoder that inputs have of their own: fused at stride 4, as edgeailite does
TYPICAL_DEPTH_M = 20.0
# What a network without training says of all pixels alike: of maps with one channel He's weights are so large that its
# depths would be wrong by factors of a hundred, which takes hundreds of steps to mend.
STARTS = {'depth': math.log(TYPICAL_DEPTH_M), 'motion': 0.0}
START_STD = 0.01


class StreamEncoder(nn.Module):
    """An encoder of several inputs: its first stages once for each, their maps fused, the other stages once.

    Args:
        main: encoder of the first input, whose later stages take what was fused.
        others: an encoder for each further input; all but its first stages are cut off.
        channels: of each input, in the order in which they come as channels of one tensor.
    """

    def __init__(self, main: Encoder, others: Sequence[Encoder], channels: tuple[int, ...]) -> None:
        super().__init__()
        for other in others:
            other.cut(STREAM_STAGES)
        self.main = main
        self.others = nn.ModuleList(others)
        width = main.channels[STREAM_STAGES - 1]
        self.fuse = LiteConv(len(channels) * width, width, main.group_width)
        self._channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of (B, C, H, W) inputs, as `Encoder.forward`; those before the fusion are of the first input."""
        first, *rest = images.split(self._channels, dim=1)
        stages = range(STREAM_STAGES)
        features: list[Tensor] = self.main.run(first, stages)
        # A module list does not know that its modules are encoders.
        maps = [features[-1], *(other.run(x, stages)[-1] for other, x in zip(self.others, rest, strict=True))]  # type: ignore[operator]
        features[-1] = self.fuse(torch.cat(maps, dim=1))
        return features + self.main.run(features[-1], range(STREAM_STAGES, len(self.main.strides)))


class SegmentationNet(nn.Module):
    """An encoder and a decoder for each task, for inputs of heights and widths that are divisible by 128.

    Args:
        encoder: gives features of all scales.
        decoders: by task, names of `TASK_FIELDS`; all of one stride.
        channels: of the input.

    Attributes:
        stride: of the maps that it gives.
    """

    def __init__(self, *, encoder: nn.Module, decoders: Mapping[str, Decoder], channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleDict(decoders)
        self.stride = next(iter(decoders.values())).stride
        self._channels = channels

    def forward(self, images: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, C, H, W) normalised inputs one behind the other, H and W divisible by 128.

        Raises:
            InputError: another shape.
        """
        check_images(images, self._channels)
        features = self.encoder(images)
        # Planes, also in a channels-last network: that is how argmax reads them.
        maps = {
            TASK_FIELDS[task]: decoder(features).contiguous(memory_format=torch.contiguous_format)
            for task, decoder in self.decoders.items()
        }
        return NetworkOutput(**maps)

    def semantic_sizes(self, logits_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """What maps of a size are resized to, bilinear, so that they cover the input."""
        height, width = logits_hw
        return ((self.stride * height, self.stride * width),) if self.stride > 1 else ()


def create_segmentation(config: ModelConfig) -> SegmentationNet:
    """Build the network that `config` describes, with randomly initialised weights.

    Raises:
        ConfigError: encoder or decoder are unknown or do not go together.
    """
    channels = tuple(INPUT_CHANNELS[name] for name in config.inputs)
    main, *others = (create_encoder(config.encoder, count) for count in channels)
    decoders = {}
    for task in config.tasks:
        decoders[task] = create_decoder(main, config.semantic_classes if task == 'semantic' else 1, config)
        initialise(decoders[task])
    for task, start in STARTS.items():
        if task in decoders:
            last = [module for module in decoders[task].modules() if isinstance(module, nn.Conv2d)][-1]
            assert last.bias is not None
            nn.init.normal_(last.weight, std=START_STD)
            nn.init.constant_(last.bias, start)
    encoder = StreamEncoder(main, others, channels) if others else main
    return SegmentationNet(encoder=encoder, decoders=decoders, channels=sum(channels))
