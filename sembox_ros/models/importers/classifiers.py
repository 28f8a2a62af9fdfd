"""EfficientNet classifiers trained on ImageNet, with their heads; `encoders` takes the same files for training."""

from __future__ import annotations

import torch

from sembox_ros.config import InputConfig
from sembox_ros.labels import COCO_90, SceneLabels
from sembox_ros.models.classifier import classifier_config, create_classifier, imagenet_categories
from sembox_ros.models.importers.mapping import ImportPlan, KeyMap


def create_plan(variant: str, *, prefix: str = '') -> ImportPlan:
    """How a file becomes a checkpoint of ``efficientnet_b0_classifier`` and so on: all keys as they are.

    Args:
        variant: ``b0`` to ``b7``.
        prefix: of the encoder, which says whose network it is: none for efficientnet_pytorch's.
    """
    config = classifier_config(f'efficientnet_{variant}_classifier', f'{prefix}efficientnet-{variant}')
    keys = KeyMap()
    with torch.device('meta'):
        for name in create_classifier(config).state_dict():
            keys.rename(name, name)
    return ImportPlan(
        config=config,
        key_map=keys,
        labels=SceneLabels(None, COCO_90),  # of boxes that it never finds
        input=InputConfig(),
        intermediates={},
        categories=imagenet_categories(),
    )
