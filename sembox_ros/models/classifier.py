"""EfficientNet b0..b7 as published, to name whole images: the libraries' own networks, head and all.

They are not built from our encoder: that pads for sizes that are multiples of 32, and most of the published sizes are
not. Like the encoder they come in two flavours, as TensorFlow trained them (and efficientnet_pytorch has them) and as
torchvision did; they differ in padding, epsilons, sizes and the names of their weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from efficientnet_pytorch import EfficientNet
from torch import nn
from torchvision.models import WeightsEnum, get_model, get_weight

from sembox_ros.config import ModelConfig, suggest
from sembox_ros.errors import ConfigError
from sembox_ros.models.encoders.efficientnet import TORCHVISION_PREFIX, VARIANTS

IMAGENET_CLASSES = 1000
CLASSIFIER_ENCODERS = (*VARIANTS, *(TORCHVISION_PREFIX + name for name in VARIANTS))


class Crop(NamedTuple):
    """What of an image a classifier sees: the middle square of it, after bicubic scaling.

    Attributes:
        shorter_side: of the scaled image, pixels.
        side: of the square, pixels.
    """

    shorter_side: int
    side: int


def classifier_config(name: str, encoder: str) -> ModelConfig:
    """The configuration of ``efficientnet_b0_classifier`` and so on."""
    return ModelConfig(name=name, encoder=encoder, image_classes=IMAGENET_CLASSES, semantic_classes=0, box_head=False)


def create_classifier(config: ModelConfig) -> nn.Module:
    """Build the network that `config` describes, with random weights: (B, 3, S, S) to logits (B, image_classes).

    S is the side of `published_crop`.

    Raises:
        ConfigError: its encoder has no classifier.
    """
    _check_encoder(config.encoder)
    variant = config.encoder.removeprefix(TORCHVISION_PREFIX)
    if variant != config.encoder:
        network: nn.Module = get_model(variant.replace('-', '_'), weights=None, num_classes=config.image_classes)
    else:
        network = EfficientNet.from_name(variant, num_classes=config.image_classes)
    return network


def published_crop(encoder: str) -> Crop:
    """The geometry that its publisher evaluates it with.

    Raises:
        ConfigError: this encoder has no classifier.
    """
    _check_encoder(encoder)
    if encoder in VARIANTS:
        side = EfficientNet.get_image_size(encoder)
        return Crop(side, side)
    preset: Any = _published_weights(encoder).transforms
    return Crop(preset.keywords['resize_size'], preset.keywords['crop_size'])


def imagenet_categories() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, in the order of all published networks."""
    return tuple(_published_weights(TORCHVISION_PREFIX + VARIANTS[0]).meta['categories'])


def _published_weights(encoder: str) -> WeightsEnum:
    """What torchvision says about its first weights of that variant; nothing is downloaded."""
    variant = encoder.rpartition('-')[2].upper()
    return get_weight(f'EfficientNet_{variant}_Weights.IMAGENET1K_V1')


def _check_encoder(encoder: str) -> None:
    if encoder not in CLASSIFIER_ENCODERS:
        known = ', '.join(CLASSIFIER_ENCODERS)
        raise ConfigError(
            f"encoder: '{encoder}' has no classifier{suggest(encoder, CLASSIFIER_ENCODERS)}; {known} have"
        )
