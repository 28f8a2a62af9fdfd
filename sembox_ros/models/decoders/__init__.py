"""The decoders by name. To add one: write its file, add its line to `DECODERS`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sembox_ros.config import ModelConfig, suggest
from sembox_ros.errors import ConfigError
from sembox_ros.models.decoders.base import Decoder
from sembox_ros.models.decoders.deeplabv3plus_lite import DeepLabV3PlusLite
from sembox_ros.models.decoders.efficientdet_seg import EfficientDetSeg, EfficientDetSegP2
from sembox_ros.models.decoders.fpn import FPN
from sembox_ros.models.decoders.fpn_lite import FPNLite
from sembox_ros.models.decoders.unet import ResidualUNet, UNet
from sembox_ros.models.decoders.unet_lite import UNetLite
from sembox_ros.models.encoders.base import Encoder

DECODERS: Mapping[str, type[Decoder]] = MappingProxyType(
    {
        'deeplabv3plus_lite': DeepLabV3PlusLite,
        'fpn_lite': FPNLite,
        'unet_lite': UNetLite,
        'fpn': FPN,
        'unet': UNet,
        'unet_residual': ResidualUNet,
        'efficientdet_seg': EfficientDetSeg,
        'efficientdet_seg_p2': EfficientDetSegP2,
    }
)


def create_decoder(encoder: Encoder, outputs: int, config: ModelConfig) -> Decoder:
    """A decoder with random weights, for the features of an encoder.

    Args:
        encoder: whose features it takes.
        outputs: channels of its result.
        config: `decoder` and its size.

    Raises:
        ConfigError: there is no such decoder, or the encoder's strides are not for it; the message says what is.
    """
    name = config.decoder
    if name not in DECODERS:
        raise ConfigError(f"decoder: expected one of {', '.join(DECODERS)}; got '{name}'{suggest(name, DECODERS)}")
    kind = DECODERS[name]
    if not kind.fits(encoder.strides):
        fitting = ', '.join(other for other, decoder in DECODERS.items() if decoder.fits(encoder.strides))
        raise ConfigError(
            f'decoder: {name} needs {kind.needs}, {config.encoder} has {", ".join(map(str, encoder.strides))}; '
            f'with it go {fitting or "none"}'
        )
    return kind(encoder, outputs, config)
