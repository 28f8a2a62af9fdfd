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


def part_options(name: str, *, needed: Iterable[str] = (), useful: Iterable[str] = ()) -> dict[str, bool]:
    """The options that make a dataset give further parts of `Sample`; none for an unknown dataset.

    Args:
        name: a key of `DATASETS`.
        needed: of instances, depth, flow and motion: those that it must know.
        useful: those that are asked for where it knows them.

    Raises:
        ConfigError: it never has one that is needed; the message says which datasets have.
    """
    if name not in DATASETS:
        return {}
    for part in sorted(needed):
        if f'with_{part}' not in _options_of(name):
            fitting = ', '.join(other for other in DATASETS if f'with_{part}' in _options_of(other))
            raise ConfigError(f'dataset: expected one with {part}, which the network needs ({fitting}); got {name}')
    options = (f'with_{part}' for part in (*needed, *useful))
    return {option: True for option in options if option in _options_of(name)}


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
