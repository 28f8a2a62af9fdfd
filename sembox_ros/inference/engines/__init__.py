"""What runs the network: one file per engine. To add one: write its file, add its line to `ENGINES`.

An engine takes the normalised canvas and gives the network's raw tensors; it knows nothing of images and scenes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from sembox_ros.config import suggest
from sembox_ros.errors import ConfigError
from sembox_ros.inference.engines.onnxruntime_engine import OnnxRuntimeEngine
from sembox_ros.inference.engines.openvino_engine import OpenVinoEngine
from sembox_ros.inference.engines.torch_engine import TorchEngine
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.sembox import NetworkOutput


class Engine(Protocol):
    """A network, ready to run on one device.

    Attributes:
        name: of the engine.
        device: where batches are expected and results lie.
        dtype: floating type that batches are expected in.
        precision: what it computes in: fp32, fp16, bf16, or int8 where the exported file is quantised.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    precision: str

    def __call__(self, batch: Tensor) -> NetworkOutput:
        """Run (B, C, H, W) normalised inputs; what is returned is valid until the next call.

        Raises:
            InputError: the device's memory does not suffice.
        """
        ...


class EngineClass(Protocol):
    """How an engine is made."""

    def __call__(self, checkpoint: Checkpoint, *, device: torch.device, precision: str, threads: int) -> Engine:
        """The engine for a checkpoint.

        Args:
            checkpoint: with weights, or with an exported file that holds them.
            device: cpu or cuda:N.
            precision: fp32, fp16, bf16, or auto for what suits the device.
            threads: CPU threads; 0 takes all cores.

        Raises:
            ConfigError: the engine is not installed, or does not know the device, the precision or the file.
        """
        ...

    def precisions(self, device: torch.device) -> tuple[str, ...]:
        """What this engine can compute in on that device and this machine, fastest last; none if not installed."""
        ...


ENGINES: Mapping[str, EngineClass] = MappingProxyType(
    {'torch': TorchEngine, 'onnxruntime': OnnxRuntimeEngine, 'openvino': OpenVinoEngine}
)


def create_engine(
    checkpoint: Checkpoint, name: str, *, device: torch.device, precision: str = 'auto', threads: int = 0
) -> Engine:
    """The engine of that name; see `EngineClass` for the arguments.

    Raises:
        ConfigError: there is none, or it cannot run this.
    """
    if name not in ENGINES:
        raise ConfigError(f"engine '{name}' is unknown{suggest(name, ENGINES)}; expected auto, {', '.join(ENGINES)}")
    return ENGINES[name](checkpoint, device=device, precision=precision, threads=threads)
