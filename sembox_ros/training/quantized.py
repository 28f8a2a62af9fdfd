"""What quantisation-aware training adds to a run: the network that rounds, and the checkpoint that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch.distributed
from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.models.folding import load_folded
from sembox_ros.models.segmentation import SegmentationNet
from sembox_ros.models.zoo import create_model
from sembox_ros.training.config import TrainConfig

# Of the steps; after them the ranges stay, so that the weights can settle for them.
OBSERVED_SHARE = 0.75


@runtime_checkable
class Rounding(Protocol):
    """What `models.quantization.FakeQuantized` is, without torchao, which is for those who quantise."""

    observing: bool

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each activation that is rounded."""
        ...

    def folded_state(self) -> dict[str, Tensor]:
        """Weights and biases of the folded network, not rounded."""
        ...


def prepare_rounding(model: nn.Module, config: TrainConfig, model_config: ModelConfig) -> nn.Module:
    """What is trained in the place of a network that has the weights to start with: itself, unless it shall round.

    Raises:
        ConfigError: it shall, but has no decoder or nothing to start with, or torchao is not installed.
    """
    if config.quantization == 'none':
        return model
    if not isinstance(model, SegmentationNet):
        raise ConfigError(
            f'quantization: qat is for networks with a decoder, such as mobilenetv2_fpn_lite; got {model_config.name}'
        )
    if not config.start_from:
        raise ConfigError('start_from: expected a trained checkpoint, which quantization qat goes on with; got none')
    from sembox_ros.models.quantization import FakeQuantized

    return FakeQuantized(model, model_config)


def share_ranges(module: nn.Module) -> None:
    """Give all processes the ranges of the first one: each averaged those of its own images."""
    if isinstance(module, Rounding) and torch.distributed.is_initialized():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def without_rounding(module: nn.Module, config: ModelConfig) -> tuple[nn.Module, Mapping[str, tuple[float, float]]]:
    """The network of a checkpoint, and the ranges of its activations, if `module` learnt any."""
    if not isinstance(module, Rounding):
        return module, {}
    model = create_model(config).eval()
    load_folded(model, {name: tensor.cpu() for name, tensor in module.folded_state().items()})
    return model, module.ranges()
