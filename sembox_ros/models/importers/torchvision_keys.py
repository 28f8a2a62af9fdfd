"""What torchvision calls the weights of our encoders.

Its published files load strictly into its own networks, so their keys are those of these networks' state dicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sembox_ros.models.encoders import create_encoder
from sembox_ros.models.encoders.efficientnet import TORCHVISION_PREFIX, create_library_blocks
from sembox_ros.models.importers.mapping import NORM_KEYS, KeyMap, add_norm

FC_KEYS = ('fc.weight', 'fc.bias')  # the classifier of RegNet and ResNeXt
CLASSIFIER_KEYS = ('classifier.1.weight', 'classifier.1.bias')  # of MobileNetV2 and EfficientNet


def mobilenet_v2(encoder: str) -> KeyMap:
    """MobileNetV2 of any strides: one list of layers there, cut into stages here.

    Args:
        encoder: its name in `ENCODERS`.
    """
    names = _weights(encoder)
    layers = _prefixes(names, parts=3)  # stages.2.0
    renamed = {ours: f'features.{index}' for index, ours in enumerate(layers)}
    return _renamed(names, renamed, unused=(*_last_convolution(len(layers)), *CLASSIFIER_KEYS))


def regnet(encoder: str) -> KeyMap:
    """RegNet: a stem and four blocks, each a stage here.

    Args:
        encoder: its name in `ENCODERS`.
    """
    names = _weights(encoder)
    stem, *blocks = _prefixes(names, parts=2)  # stages.0
    renamed = {stem: 'stem', **{ours: f'trunk_output.block{i}' for i, ours in enumerate(blocks, start=1)}}
    return _renamed(names, renamed, unused=FC_KEYS)


def resnet(encoder: str) -> KeyMap:
    """ResNet and ResNeXt: a convolution with its norm, and four layers, the first of them after the pooling.

    Args:
        encoder: its name in `ENCODERS`.
    """
    names = _weights(encoder)
    renamed = {'stages.0.0': 'conv1', 'stages.0.1': 'bn1'}
    for ours in _prefixes(names, parts=3)[len(renamed) :]:
        stage, position = (int(number) for number in ours.split('.')[1:])
        renamed[ours] = f'layer{stage}.{position - 1 if stage == 1 else position}'
    return _renamed(names, renamed, unused=FC_KEYS)


def efficientnet(encoder: str) -> KeyMap:
    """EfficientNet: nested stages and blocks with numbered layers there, one list of blocks here.

    Args:
        encoder: its name in `ENCODERS`, with torchvision's prefix.
    """
    keys = KeyMap()
    keys.rename('features.0.0.weight', 'stem.weight')
    add_norm(keys, 'features.0.1', 'stem_norm')
    stage, position, first = 0, 0, None
    for index, block in enumerate(create_library_blocks(encoder.removeprefix(TORCHVISION_PREFIX))):
        arguments: Any = block._block_args
        shape = (arguments.kernel_size, arguments.output_filters)
        if arguments.input_filters != arguments.output_filters or shape != first:
            stage, position, first = stage + 1, 0, shape
        expands = bool(arguments.expand_ratio != 1)
        _add_efficientnet_block(keys, f'features.{stage}.{position}.block', f'blocks.{index}', expands)
        position += 1
    for name in (*_last_convolution(stage + 1), *CLASSIFIER_KEYS):
        keys.ignore(name)
    return keys


def _add_efficientnet_block(keys: KeyMap, source: str, target: str, expands: bool) -> None:
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


def _last_convolution(index: int) -> tuple[str, ...]:
    """Keys of the 1x1 convolution before the classifier, which no encoder has, and of its norm."""
    return f'features.{index}.0.weight', *(f'features.{index}.1.{name}' for name in NORM_KEYS)


def _weights(encoder: str) -> list[str]:
    """The names in its state dict, in the order of its layers."""
    with torch.device('meta'):
        return list(create_encoder(encoder).state_dict())


def _prefixes(names: Iterable[str], *, parts: int) -> list[str]:
    """The first parts of dotted names, each once, in their order."""
    return list(dict.fromkeys('.'.join(name.split('.')[:parts]) for name in names))


def _renamed(names: Iterable[str], prefixes: Mapping[str, str], *, unused: Iterable[str]) -> KeyMap:
    """Our names with their prefixes in place of ours, all of the same number of parts."""
    keys = KeyMap()
    parts = next(iter(prefixes)).count('.') + 1
    for name in names:
        pieces = name.split('.')
        keys.rename('.'.join((prefixes['.'.join(pieces[:parts])], *pieces[parts:])), name)
    for name in unused:
        keys.ignore(name)
    return keys
