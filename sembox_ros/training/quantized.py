"""What quantisation-aware training adds to a run: the network that rounds, and the checkpoint that it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.distributed
from torch import nn

from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.models.folding import load_folded
from sembox_ros.models.segmentation import SegmentationNet
from sembox_ros.models.zoo import create_model

if TYPE_CHECKING:  # torchao is for those who quantise
    from sembox_ros.models.quantization import FakeQuantized

# Of the steps; after them the ranges stay, so that the weights can settle for them.
OBSERVED_SHARE = 0.75


def create_quantized(model: nn.Module, config: ModelConfig) -> FakeQuantized:
    """The network that is trained in the place of `model`, which has the weights to start with.

    Raises:
        ConfigError: it is none with a decoder, or torchao is not installed.
    """
    if not isinstance(model, SegmentationNet):
        raise ConfigError(
            f'quantization: qat is for networks with a decoder, such as mobilenetv2_fpn_lite; got {config.name}'
        )
    from sembox_ros.models.quantization import FakeQuantized

    return FakeQuantized(model, config)


def set_observing(network: FakeQuantized, step: int, total_steps: int) -> None:
    """Move the ranges of the activations in the first part of a run alone."""
    network.observing = step < OBSERVED_SHARE * total_steps


def share_buffers(module: nn.Module) -> None:
    """Give all processes the ranges of the first: each averaged those of its own images."""
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, 0)


def dequantize(network: FakeQuantized, config: ModelConfig) -> tuple[nn.Module, dict[str, tuple[float, float]]]:
    """The network without its roundings, and the ranges of its activations, for a checkpoint."""
    model = create_model(config).eval()
    load_folded(model, {name: tensor.cpu() for name, tensor in network.folded_state().items()})
    return model, network.ranges()
