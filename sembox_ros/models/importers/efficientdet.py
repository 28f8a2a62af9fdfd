"""EfficientDet D0 to D7 as zylo117's PyTorch port publishes them, trained on COCO's 90 category ids."""

from __future__ import annotations

from sembox_ros.config import ModelConfig
from sembox_ros.labels import COCO_90, SceneLabels
from sembox_ros.models.bifpn import LEVELS
from sembox_ros.models.efficientdet import SCALINGS, efficientdet_config, efficientdet_input
from sembox_ros.models.importers.mapping import ImportPlan, KeyMap, add_bifpn, add_box_heads, add_encoder

ENCODER_FEATURES = 4  # c2..c5


def create_plan(name: str) -> ImportPlan:
    """How a file of that port becomes a checkpoint of ``efficientdet_d0`` to ``efficientdet_d7``.

    D6 and D7 hold fusion weights that their forward pass never reads; they are left behind.
    """
    config = efficientdet_config(name)
    keys = KeyMap()
    add_encoder(keys, 'backbone_net.model.', 'encoder.', config.encoder)
    add_bifpn(keys, 'bifpn', 'box_neck', config.neck_cells, attention=SCALINGS[name].weighted)
    add_box_heads(keys, 'box_head', config.box_head_depth)
    return ImportPlan(
        config=config,
        key_map=keys,
        labels=SceneLabels(None, COCO_90),
        input=efficientdet_input(name),
        intermediates=_intermediates(config),
    )


def _intermediates(config: ModelConfig) -> dict[str, str]:
    """Golden tensor -> our module, with the index in what it returns."""
    paths = {f'feature_p{level}': f'box_neck:{i}' for i, level in enumerate(LEVELS)}
    paths.update({f'mid:backbone_net.{i}': f'encoder:{i + 1}' for i in range(ENCODER_FEATURES)})
    for cell in range(config.neck_cells):
        ours = f'box_neck.cells.{cell}'
        for i, level in enumerate(LEVELS):
            paths[f'mid:bifpn.{cell}.{i}'] = f'{ours}:{i}'
            if level != LEVELS[-1]:
                paths[f'mid:bifpn.{cell}.conv{level}_up'] = f'{ours}.top_down.{i}.conv'
            if i:
                paths[f'mid:bifpn.{cell}.conv{level}_down'] = f'{ours}.bottom_up.{i - 1}.conv'
    return paths
