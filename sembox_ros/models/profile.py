"""What a network costs: parameters, multiply-adds and feature shapes, without computing anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sembox_ros.config import ModelConfig
from sembox_ros.models.folding import fold
from sembox_ros.models.zoo import create_model


@dataclass(frozen=True)
class ComponentProfile:
    """Cost of one part of the network.

    Attributes:
        name: attribute name of the part in the network.
        parameters: learned numbers.
        multiply_adds: of one image, convolutions and matrix products only.
        outputs: shapes that the part returns, without the batch dimension.
    """

    name: str
    parameters: int
    multiply_adds: int
    outputs: tuple[tuple[int, ...], ...]


def profile_model(config: ModelConfig, size_hw: tuple[int, int], *, folded: bool = False) -> list[ComponentProfile]:
    """Profile each direct part of a model, on torch's meta device (shapes only).

    Args:
        config: architecture.
        size_hw: height and width of the input, divisible by 128.
        folded: as `Predictor` runs it, after `models.folding.fold`.

    Raises:
        ConfigError: unknown model.
        InputError: the size does not fit the model.
    """
    with torch.device('meta'):
        model = create_model(config)
    channels = config.input_channels
    return profile_network(fold(model.eval()) if folded else model, size_hw, channels=channels)


def profile_network(model: nn.Module, size_hw: tuple[int, int], *, channels: int = 3) -> list[ComponentProfile]:
    """Profile each direct part of any network of images (1, C, H, W), on torch's meta device (shapes only).

    Args:
        model: its tensors move to the meta device and lose their values; it is in evaluation mode afterwards.
        size_hw: height and width of the input, such that the network takes them.
        channels: of the input.
    """
    model = model.to('meta').eval()
    outputs: dict[str, tuple[tuple[int, ...], ...]] = {}

    def record(name: str) -> None:
        def hook(_module: nn.Module, _inputs: object, result: Tensor | list[Tensor] | tuple[Tensor, ...]) -> None:
            tensors = [result] if isinstance(result, Tensor) else result
            outputs[name] = tuple(tuple(t.shape[1:]) for t in tensors)

        model.get_submodule(name).register_forward_hook(hook)

    parts = dict(_find_parts(model))
    for name in parts:
        record(name)
    counter = FlopCounterMode(display=False, depth=2)
    with counter, torch.no_grad():
        model(torch.empty(1, channels, *size_hw, device='meta'))
    counts = counter.get_flop_counts()
    root = type(model).__name__
    return [
        ComponentProfile(
            name=name,
            parameters=sum(p.numel() for p in part.parameters()),
            # The counter counts both.
            multiply_adds=sum(sum(counts.get(f'{root}.{path}', {}).values()) for path in _called(name, part)) // 2,
            outputs=outputs.get(name, ()),
        )
        for name, part in parts.items()
    ]


def _called(name: str, part: nn.Module) -> list[str]:
    """Paths of the modules whose calls are a part's: its own, but those inside of a list, which nobody calls."""
    return [f'{name}.{child}' for child, _ in part.named_children()] if isinstance(part, nn.ModuleList) else [name]


def _find_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of each direct part; a dict of modules, which nobody calls, is as many parts as it has."""
    for name, part in model.named_children():
        if isinstance(part, nn.ModuleDict):
            yield from ((f'{name}.{key}', child) for key, child in part.items())
        else:
            yield name, part
