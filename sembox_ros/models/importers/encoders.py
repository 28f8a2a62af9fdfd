"""Classifiers trained on ImageNet: their convolutions become the encoder of a network that sees scenes.

The rest stays as it was initialised, so such a checkpoint is a start for training and finds nothing yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from sembox_ros.errors import ConfigError
from sembox_ros.labels import CITYSCAPES_19, CITYSCAPES_20, COCO_90, SceneLabels
from sembox_ros.models.encoders.efficientnet import TORCHVISION_PREFIX, VARIANTS
from sembox_ros.models.encoders.regnet import GROUP_WIDTHS
from sembox_ros.models.importers import torchvision_keys
from sembox_ros.models.importers.mapping import NORM_KEYS, ImportPlan, KeyMap, add_encoder
from sembox_ros.models.zoo import MODELS, find_model


class EncoderSource(NamedTuple):
    """One published classifier.

    Attributes:
        model: of the zoo, which gets the encoder unless the user names another.
        encoders: which of `ENCODERS` it fills: of the same weights, whatever their strides.
        keys: from the encoder's name to what becomes of the file's keys.
        prefix: before an encoder's name; the zoo's networks with it compute what this publisher's do.
    """

    model: str
    encoders: tuple[str, ...]
    keys: Callable[[str], KeyMap]
    prefix: str = ''


def _efficientnet_keys(encoder: str) -> KeyMap:
    """EfficientNet-PyTorch of lukemelas, or a TensorFlow port with its keys."""
    keys = KeyMap()
    add_encoder(keys, '', '', encoder, wrapped=False)
    for name in ('_conv_head.weight', '_fc.weight', '_fc.bias', *(f'_bn1.{norm}' for norm in NORM_KEYS)):
        keys.ignore(name)
    return keys


# torchvision pads EfficientNet's strided convolutions alike on both sides, and most of its batch norms have another
# epsilon, so that the encoder is built in that flavour; it would not be the same function otherwise.
SOURCES: Mapping[str, EncoderSource] = MappingProxyType(
    {
        **{v: EncoderSource(f'sembox_{v[-2:]}', (v,), _efficientnet_keys) for v in VARIANTS},
        **{
            f'torchvision:{v.replace("-", "_")}': EncoderSource(
                f'sembox_{v[-2:]}', (v,), torchvision_keys.efficientnet, TORCHVISION_PREFIX
            )
            for v in VARIANTS
        },
        'torchvision:mobilenet_v2': EncoderSource(
            'mobilenetv2_fpn_lite', ('mobilenetv2', 'mobilenetv2-s16', 'fd-mobilenetv2'), torchvision_keys.mobilenet_v2
        ),
        **{
            f'torchvision:regnet_x_{v}': EncoderSource(
                f'regnetx_{v.replace("_", "p")}_fpn_lite', (f'regnetx-{v.replace("_", ".")}',), torchvision_keys.regnet
            )
            for v in GROUP_WIDTHS
        },
        'torchvision:resnext50_32x4d': EncoderSource('resnext50_fpn', ('resnext50-32x4d',), torchvision_keys.resnet),
    }
)


def create_plan(source: str, model: str = '') -> ImportPlan:
    """How a file becomes the encoder of a network; of one with several inputs, the encoder of its images.

    Args:
        source: a key of `SOURCES`.
        model: of the zoo; empty: the source's own.

    Raises:
        ConfigError: there is no such model, or its encoder is another one.
    """
    found = SOURCES[source]
    name = model or found.model
    base = find_model(name)
    if base.config.encoder not in found.encoders:
        fitting = ', '.join(n for n, entry in MODELS.items() if entry.config.encoder in found.encoders)
        raise ConfigError(
            f'model: {name} has the encoder {base.config.encoder}, which {source} does not hold; '
            f'expected one of: {fitting}'
        )
    encoder = found.prefix + base.config.encoder
    # Any sets of as many classes as the model has: training takes those of its dataset.
    masks = {len(labels): labels for labels in (CITYSCAPES_19, CITYSCAPES_20)}.get(base.config.semantic_classes)
    return ImportPlan(
        config=dataclasses.replace(base.config, encoder=encoder),
        key_map=found.keys(encoder),
        labels=SceneLabels.linked_by_name(masks, COCO_90),
        input=base.input,
        intermediates={},
        part='encoder' if len(base.config.inputs) == 1 else 'encoder.main',
    )
