"""EfficientNet classifiers trained on ImageNet: their convolutions become the encoder of a `sembox_bN`.

The pyramids and heads stay as they were initialised, so such a checkpoint is a start for training, not a detector.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sembox_ros.config import InputConfig, ModelConfig
from sembox_ros.labels import CITYSCAPES_19, COCO_90, SceneLabels
from sembox_ros.models.encoders.efficientnet import TORCHVISION_PREFIX, create_library_blocks
from sembox_ros.models.importers.mapping import NORM_KEYS, ImportPlan, KeyMap, add_encoder, add_norm
from sembox_ros.models.zoo import MODELS

CLASSIFIER_KEYS = ('_conv_head.weight', '_fc.weight', '_fc.bias')  # beside the norm _bn1; all deliberately unused
ENCODER_FEATURES = 4  # c2..c5


def create_plan(variant: str) -> ImportPlan:
    """How a file of lukemelas' EfficientNet-PyTorch (or of a TensorFlow port with its keys) becomes an encoder.

    Args:
        variant: ``b0`` to ``b7``.
    """
    keys = KeyMap()
    add_encoder(keys, '', '', f'efficientnet-{variant}', wrapped=False)
    for name in CLASSIFIER_KEYS:
        keys.ignore(name)
    for name in NORM_KEYS:
        keys.ignore(f'_bn1.{name}')
    return _encoder_plan(MODELS[f'sembox_{variant}'].config, keys)


def create_torchvision_plan(variant: str) -> ImportPlan:
    """How a file of torchvision's EfficientNet becomes an encoder.

    torchvision pads strided convolutions alike on both sides, and most of its batch norms have another epsilon, so
    the encoder is built in that flavour; it would not be the same function otherwise.

    Args:
        variant: ``b0`` to ``b7``.
    """
    base = MODELS[f'sembox_{variant}'].config
    config = dataclasses.replace(base, encoder=TORCHVISION_PREFIX + base.encoder)
    return _encoder_plan(config, _torchvision_keys(variant))


def _encoder_plan(config: ModelConfig, keys: KeyMap) -> ImportPlan:
    return ImportPlan(
        config=config,
        key_map=keys,
        labels=SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90),
        input=InputConfig(),
        intermediates={f'mid:encoder.{i}': f'encoder:{i + 1}' for i in range(ENCODER_FEATURES)},
        part='encoder',
    )


def _torchvision_keys(variant: str) -> KeyMap:
    """Keys of torchvision, which nests stages and blocks and names layers by number; ours has one list of blocks."""
    keys = KeyMap()
    keys.rename('features.0.0.weight', 'stem.weight')
    add_norm(keys, 'features.0.1', 'stem_norm')
    stage, position, first = 0, 0, None
    for index, block in enumerate(create_library_blocks(f'efficientnet-{variant}')):
        arguments: Any = block._block_args
        shape = (arguments.kernel_size, arguments.output_filters)
        if arguments.input_filters != arguments.output_filters or shape != first:
            stage, position, first = stage + 1, 0, shape
        expands = bool(arguments.expand_ratio != 1)
        _add_torchvision_block(keys, f'features.{stage}.{position}.block', f'blocks.{index}', expands)
        position += 1
    last = stage + 1  # the classifier's last convolution; the stages before it are the encoder
    keys.ignore(f'features.{last}.0.weight')
    for name in NORM_KEYS:
        keys.ignore(f'features.{last}.1.{name}')
    for name in ('weight', 'bias'):
        keys.ignore(f'classifier.1.{name}')
    return keys


def _add_torchvision_block(keys: KeyMap, source: str, target: str, expands: bool) -> None:
    """One inverted bottleneck: [expand], depthwise, squeeze and excite, project."""
    layers = [('_depthwise_conv', '_bn1'), ('_project_conv', '_bn2')]
    if expands:
        layers.insert(0, ('_expand_conv', '_bn0'))
    number = 0
    for convolution, norm in layers:
        if convolution == '_project_conv':
            for ours, theirs in (('_se_reduce', 'fc1'), ('_se_expand', 'fc2')):
                for name in ('weight', 'bias'):
                    keys.rename(f'{source}.{number}.{theirs}.{name}', f'{target}.{ours}.{name}')
            number += 1
        keys.rename(f'{source}.{number}.0.weight', f'{target}.{convolution}.weight')
        add_norm(keys, f'{source}.{number}.1', f'{target}.{norm}')
        number += 1
