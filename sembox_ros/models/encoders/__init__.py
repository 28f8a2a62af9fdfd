"""The encoders by name. To add one: write its file, add its line to `ENCODERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from sembox_ros.config import suggest
from sembox_ros.errors import ConfigError
from sembox_ros.models.encoders import efficientnet
from sembox_ros.models.encoders.base import Encoder
from sembox_ros.models.encoders.mobilenet_v2 import FAST, STRIDE_16, create_mobilenet_v2
from sembox_ros.models.encoders.regnet import create_regnet_x
from sembox_ros.models.encoders.resnext import create_resnext50

# Each takes the number of its input's channels.
ENCODERS: Mapping[str, Callable[[int], Encoder]] = MappingProxyType(
    {
        **{name: partial(efficientnet.EfficientNetEncoder, name) for name in efficientnet.NAMES},
        'mobilenetv2': create_mobilenet_v2,
        'mobilenetv2-s16': partial(create_mobilenet_v2, settings=STRIDE_16),
        'mobilenetv2-1.4': partial(create_mobilenet_v2, width=1.4),
        'mobilenetv2-1.4-s16': partial(create_mobilenet_v2, width=1.4, settings=STRIDE_16),
        'fd-mobilenetv2': partial(create_mobilenet_v2, settings=FAST),
        'regnetx-400mf': partial(create_regnet_x, variant='400mf'),
        'regnetx-800mf': partial(create_regnet_x, variant='800mf'),
        'regnetx-1.6gf': partial(create_regnet_x, variant='1_6gf'),
        'regnetx-3.2gf': partial(create_regnet_x, variant='3_2gf'),
        'resnext50-32x4d': create_resnext50,
    }
)


def create_encoder(name: str, in_channels: int = 3) -> Encoder:
    """A backbone with random weights.

    Args:
        name: a key of `ENCODERS`.
        in_channels: of its input.

    Raises:
        ConfigError: no such encoder.
    """
    if name not in ENCODERS:
        raise ConfigError(f"encoder: expected one of {', '.join(ENCODERS)}; got '{name}'{suggest(name, ENCODERS)}")
    return ENCODERS[name](in_channels)
