"""Published weights of other projects become checkpoints. To add a source: write its file, add it to `IMPORTERS`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from sembox_ros.config import suggest
from sembox_ros.errors import ConfigError
from sembox_ros.labels import SceneLabels
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.efficientdet import SCALINGS
from sembox_ros.models.encoders.efficientnet import TORCHVISION_PREFIX
from sembox_ros.models.importers import classifiers, efficientdet, encoders, semanticboxnet
from sembox_ros.models.importers.mapping import ImportPlan
from sembox_ros.models.importers.pth import read_pth
from sembox_ros.models.zoo import create_model

__all__ = ['IMPORTERS', 'ImportPlan', 'find_plan', 'import_state', 'read_pth']

VARIANTS = tuple(f'b{i}' for i in range(8))

IMPORTERS: Mapping[str, Callable[[], ImportPlan]] = MappingProxyType(
    {
        **{name.replace('_', '-'): partial(efficientdet.create_plan, name) for name in SCALINGS},
        'semanticboxnet': semanticboxnet.create_plan,
        **{source: partial(encoders.create_plan, source) for source in encoders.SOURCES},
        **{f'efficientnet-{v}-classifier': partial(classifiers.create_plan, v) for v in VARIANTS},
        **{
            f'torchvision:efficientnet_{v}_classifier': partial(classifiers.create_plan, v, prefix=TORCHVISION_PREFIX)
            for v in VARIANTS
        },
    }
)


def find_plan(source: str, model: str = '') -> ImportPlan:
    """The plan of that source.

    Args:
        source: one of `IMPORTERS`.
        model: of the zoo, which gets the encoder that the source is; empty: the source's own.

    Raises:
        ConfigError: there is none; the message lists what there is. Or the source does not fit the model.
    """
    if source in IMPORTERS:
        plan = encoders.create_plan(source, model) if source in encoders.SOURCES else IMPORTERS[source]()
        if model not in ('', plan.config.name):
            raise ConfigError(f'model: {source} is a whole {plan.config.name}, expected no other, got {model}')
        return plan
    known = ', '.join(IMPORTERS)
    if source.startswith('torchvision:'):
        raise ConfigError(
            f"source '{source}': none of torchvision's networks that fit one of this package"
            f'{suggest(source, IMPORTERS)}; expected one of: {known}'
        )
    raise ConfigError(f"source '{source}' is unknown{suggest(source, IMPORTERS)}; expected one of: {known}")


def import_state(
    state: Mapping[str, Tensor], source: str, labels: SceneLabels | None = None, model: str = ''
) -> Checkpoint:
    """A checkpoint from another project's state dict.

    Args:
        state: its keys and tensors, as `read_pth` gives them.
        source: one of `IMPORTERS`.
        labels: what the class ids mean; None takes what the published weights were trained on.
        model: as `find_plan`.

    Returns:
        The network in evaluation mode. Where the source fills only a part of it, the rest keeps its random
        weights and `trained` is False; the recipe says which part was imported.

    Raises:
        ConfigError: as `find_plan`, or label sets that the network cannot have, or any for one that has categories.
        CheckpointError: a key is missing or left over, or a tensor does not fit.
    """
    plan = find_plan(source, model)
    if labels and plan.categories:
        raise ConfigError(f'labels: expected none, {plan.config.name} has {len(plan.categories)} categories of its own')
    labels = labels or plan.labels
    config = dataclasses.replace(
        plan.config, semantic_classes=len(labels.semantic_names), detection_classes=len(labels.detection)
    )
    with torch.device('meta'):
        shapes = create_model(config)
    tensors = plan.key_map.apply(state, shapes.get_submodule(plan.part))
    network = create_model(config) if plan.part else shapes
    network.get_submodule(plan.part).load_state_dict(tensors, assign=True)
    recipe = {'imported_from': source, 'imported_part': plan.part or 'all', 'imported_tensors': len(tensors)}
    return Checkpoint(
        network.eval(), config, labels, plan.input, trained=not plan.part, recipe=recipe, categories=plan.categories
    )
