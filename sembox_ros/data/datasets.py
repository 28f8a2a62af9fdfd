"""Every dataset by name. To add one: write its file here, add its line to `DATASETS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sembox_ros.config import suggest
from sembox_ros.data.ade20k import Ade20k
from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.data.coco import Coco21, CocoDetection
from sembox_ros.data.coco_panoptic import CocoPanoptic
from sembox_ros.data.kitti import KittiRoad, KittiSemantics
from sembox_ros.data.sample import Dataset
from sembox_ros.data.voc import Voc
from sembox_ros.errors import ConfigError

# Name -> a factory that takes keyword arguments only; their names are the options of the configuration file.
DATASETS: dict[str, Callable[..., Dataset]] = {
    'cityscapes': Cityscapes,
    'coco': CocoDetection,
    'coco_panoptic': CocoPanoptic,
    'coco_21': Coco21,
    'voc': Voc,
    'kitti_semantics': KittiSemantics,
    'kitti_road': KittiRoad,
    'ade20k': Ade20k,
}


def instance_options(name: str) -> dict[str, bool]:
    """The options that make a dataset give `Sample.instances`; none for one that has no instances or is unknown."""
    return {'with_instances': True} if name in DATASETS and 'with_instances' in _options_of(name) else {}


def part_options(name: str, parts: Iterable[str]) -> dict[str, bool]:
    """The options that make a dataset give these parts of `Sample`, such as depth, flow and motion; none if unknown.

    Raises:
        ConfigError: the dataset never has one of them; the message says which have.
    """
    wanted = {f'with_{part}': True for part in sorted(parts)} if name in DATASETS else {}
    for option in wanted:
        if option not in _options_of(name):
            fitting = ', '.join(other for other in DATASETS if option in _options_of(other))
            part = option.removeprefix('with_')
            raise ConfigError(f'dataset: expected one that has {part}, which the network needs ({fitting}); got {name}')
    return wanted


def _options_of(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(DATASETS[name]).parameters


def load_dataset(name: str, options: Mapping[str, Any]) -> Dataset:
    """The dataset of that name.

    Args:
        name: a key of `DATASETS`.
        options: keyword arguments of its factory, such as root and split.

    Raises:
        ConfigError: unknown name, or unknown, missing or unfit options.
        DatasetError: its files are missing or damaged.
    """
    if name not in DATASETS:
        raise ConfigError(f"dataset: '{name}' is unknown{suggest(name, DATASETS)}; known: {', '.join(DATASETS)}")
    factory = DATASETS[name]
    parameters = _options_of(name)
    for option in options:
        if option not in parameters:
            hint = suggest(option, parameters)
            raise ConfigError(f"dataset {name}: unknown option '{option}'{hint}; known: {', '.join(parameters)}")
    for parameter in parameters.values():
        if parameter.default is inspect.Parameter.empty and parameter.name not in options:
            raise ConfigError(f"dataset {name}: option '{parameter.name}' is missing")
    return factory(**options)
