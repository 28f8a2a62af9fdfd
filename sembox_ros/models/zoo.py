"""The models by name. To add one: write its file, add its line to `MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from sembox_ros.config import InputConfig, ModelConfig, suggest
from sembox_ros.errors import ConfigError
from sembox_ros.models.classifier import classifier_config, create_classifier
from sembox_ros.models.efficientdet import SCALINGS, create_efficientdet, efficientdet_config, efficientdet_input
from sembox_ros.models.segmentation import create_segmentation
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


def _segmentation(name: str, encoder: str, decoder: str, size_hw: tuple[int, int], **options: Any) -> ModelEntry:
    """An encoder with a decoder, at the size that its publisher trained it for."""
    config = ModelConfig(name=name, encoder=encoder, decoder=decoder, box_head=False, **options)
    return ModelEntry(create_segmentation, config, InputConfig(size_hw=size_hw))


# TI's edgeailite, then the ResNeXt-50 project: name, encoder, decoder, size, channels of the decoder.
_SEGMENTATION = (
    ('mobilenetv2_s16_deeplabv3plus_lite', 'mobilenetv2-s16', 'deeplabv3plus_lite', (384, 768), 256),
    ('mobilenetv2_unet_lite', 'mobilenetv2', 'unet_lite', (384, 768), 256),
    ('mobilenetv2_fpn_lite', 'mobilenetv2', 'fpn_lite', (384, 768), 256),
    ('mobilenetv2_1p4_fpn_lite', 'mobilenetv2-1.4', 'fpn_lite', (512, 512), 360),
    ('fd_mobilenetv2_fpn_lite', 'fd-mobilenetv2', 'fpn_lite', (768, 1536), 256),
    ('regnetx_400mf_fpn_lite', 'regnetx-400mf', 'fpn_lite', (384, 768), 256),
    ('regnetx_800mf_fpn_lite', 'regnetx-800mf', 'fpn_lite', (384, 768), 256),
    ('regnetx_1p6gf_fpn_lite', 'regnetx-1.6gf', 'fpn_lite', (512, 1024), 264),
    ('regnetx_3p2gf_fpn_lite', 'regnetx-3.2gf', 'fpn_lite', (512, 1024), 288),
    ('resnext50_fpn', 'resnext50-32x4d', 'fpn', (512, 1024), 256),
    ('resnext50_unet', 'resnext50-32x4d', 'unet', (512, 1024), 256),
    ('resnext50_unet_residual', 'resnext50-32x4d', 'unet_residual', (512, 1024), 256),
)

CLASSIFY_HINT = 'it is for `python -m sembox_ros classify` alone'


def _efficientdet_seg(name: str) -> ModelEntry:
    """EfficientDet_Segmentation's D4 has 128 channels in 3 cells and 256 in its head; the others follow table 1.

    D7 is D6 for larger images, there as here.
    """
    decoder, _, variant = name.rpartition('_')
    scaling, published = SCALINGS[f'efficientdet_{variant}'], SCALINGS['efficientdet_d4']
    neck = 8 * round(128 / 8 * scaling.channels / published.channels)
    side = 640 if variant == 'd7' else 512
    return _segmentation(
        name, scaling.encoder, decoder, (side, side), neck_channels=neck, neck_cells=3, decoder_channels=2 * neck
    )


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
        **{row[0]: _segmentation(*row[:4], decoder_channels=row[4]) for row in _SEGMENTATION},
        **{f'efficientdet_seg_d{i}': _efficientdet_seg(f'efficientdet_seg_d{i}') for i in range(8)},
        'efficientdet_seg_p2_d4': _efficientdet_seg('efficientdet_seg_p2_d4'),
        # Three tasks on one encoder of image and flow.
        'mobilenetv2_s16_multitask': _segmentation(
            'mobilenetv2_s16_multitask', 'mobilenetv2-s16', 'deeplabv3plus_lite', (384, 768),
            inputs=('image', 'flow'), tasks=('semantic', 'depth', 'motion'),
        ),
        **{n: ModelEntry(create_efficientdet, efficientdet_config(n), efficientdet_input(n)) for n in SCALINGS},
    }
)

# They name whole images, so they are none of the networks that see scenes.
CLASSIFIERS: Mapping[str, ModelEntry] = MappingProxyType(
    {
        f'efficientnet_b{i}_classifier': ModelEntry(
            create_classifier, classifier_config(f'efficientnet_b{i}_classifier', f'efficientnet-b{i}')
        )
        for i in range(8)
    }
)


def find_model(name: str) -> ModelEntry:
    """The entry of that name, of the networks that see scenes.

    Raises:
        ConfigError: there is none; the message lists what there is.
    """
    if name in CLASSIFIERS:
        raise ConfigError(f"model '{name}' names whole images and sees no scenes; {CLASSIFY_HINT}")
    if name not in MODELS:
        raise ConfigError(f"model '{name}' is unknown{suggest(name, MODELS)}; expected one of: {', '.join(MODELS)}")
    return MODELS[name]


def create_model(config: ModelConfig, *, seed: int = 0) -> nn.Module:
    """Build a model with random weights that depend on nothing but the configuration and the seed.

    Raises:
        ConfigError: the model's name is not in the zoo, or it does not have the heads that are asked for.
    """
    entry = CLASSIFIERS[config.name] if config.name in CLASSIFIERS else find_model(config.name)
    if bool(config.image_classes) != (config.name in CLASSIFIERS):
        wanted = 'some' if config.name in CLASSIFIERS else 'none'
        raise ConfigError(f'image_classes: expected {wanted} for {config.name}, got {config.image_classes}')
    if bool(config.decoder) != (entry.create is create_segmentation):
        wanted = 'one' if entry.create is create_segmentation else 'none'
        raise ConfigError(f"decoder: expected {wanted} for {config.name}, got '{config.decoder}'")
    if config.decoder:
        if config.box_head or config.instance_channels:
            raise ConfigError(
                f'box_head, instance_channels: expected false and 0, as {config.name} has decoders alone; got '
                f'{config.box_head} and {config.instance_channels}'
            )
    elif entry.create not in (create_sembox, create_classifier) and (not config.box_head or config.instance_channels):
        raise ConfigError(
            f'box_head, instance_channels: expected true and 0, as {config.name} always has a box head and never an '
            f'instance head; got {config.box_head} and {config.instance_channels}'
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry.create(config)
