"""The models by name. To add one: write its file, add its line to `MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from sembox_ros.config import InputConfig, ModelConfig, suggest
from sembox_ros.errors import ConfigError
from sembox_ros.models.efficientdet import SCALINGS, create_efficientdet, efficientdet_config, efficientdet_input
from sembox_ros.models.semanticboxnet_v1 import V1_CONFIG, V1_INPUT, create_semanticboxnet_v1
from sembox_ros.models.sembox import create_sembox


class ModelEntry(NamedTuple):
    """How a model is built, and what its default configuration and input geometry are."""

    create: Callable[[ModelConfig], nn.Module]
    config: ModelConfig
    input: InputConfig = InputConfig()


def _sembox(name: str, channels: int, cells: int, depth: int, **options: Any) -> ModelEntry:
    """Pyramid width and depth follow EfficientDet's compound scaling (its table 1)."""
    encoder = f'efficientnet-{name.split("_")[1]}'
    config = ModelConfig(
        name=name, encoder=encoder, neck_channels=channels, neck_cells=cells, box_head_depth=depth, **options
    )
    return ModelEntry(create_sembox, config)


MODELS: Mapping[str, ModelEntry] = MappingProxyType(
    {
        'sembox_b0': _sembox('sembox_b0', 64, 3, 3),
        'sembox_b1': _sembox('sembox_b1', 88, 4, 3),
        'sembox_b2': _sembox('sembox_b2', 112, 5, 3),
        'sembox_b3': _sembox('sembox_b3', 160, 6, 4),
        'sembox_b4': _sembox('sembox_b4', 224, 7, 4),
        'sembox_b5': _sembox('sembox_b5', 288, 7, 4),
        'sembox_b6': _sembox('sembox_b6', 384, 8, 5),
        'sembox_b7': _sembox('sembox_b7', 384, 8, 5),
        # SOLOv2's instance masks in place of the box head.
        'sembox_b1_solo': _sembox('sembox_b1_solo', 88, 4, 3, box_head=False, instance_channels=64),
        'semanticboxnet_v1': ModelEntry(create_semanticboxnet_v1, V1_CONFIG, V1_INPUT),
        **{n: ModelEntry(create_efficientdet, efficientdet_config(n), efficientdet_input(n)) for n in SCALINGS},
    }
)


def find_model(name: str) -> ModelEntry:
    """The zoo's entry of that name.

    Raises:
        ConfigError: there is none; the message lists what there is.
    """
    if name not in MODELS:
        raise ConfigError(f"model '{name}' is unknown{suggest(name, MODELS)}; expected one of: {', '.join(MODELS)}")
    return MODELS[name]


def create_model(config: ModelConfig, *, seed: int = 0) -> nn.Module:
    """Build a model with random weights that depend on nothing but the configuration and the seed.

    Raises:
        ConfigError: the model's name is not in the zoo, or it does not have the heads that are asked for.
    """
    entry = find_model(config.name)
    if entry.create is not create_sembox and (not config.box_head or config.instance_channels):
        raise ConfigError(
            f'box_head, instance_channels: expected true and 0, as {config.name} always has a box head and never an '
            f'instance head; got {config.box_head} and {config.instance_channels}'
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry.create(config)
