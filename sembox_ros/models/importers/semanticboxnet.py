"""The original SemanticBoxNet: 90 COCO box classes beside 19 Cityscapes classes and void."""

from __future__ import annotations

from sembox_ros.labels import load_scene_labels
from sembox_ros.models.importers.mapping import (
    ImportPlan,
    KeyMap,
    add_bifpn,
    add_box_heads,
    add_encoder,
    add_separable,
)
from sembox_ros.models.semanticboxnet_v1 import V1_CONFIG, V1_INPUT

HEAD = 'semantic_head'
CELL_BRANCHES = ('entry', 'near', 'wide', 'far', 'far_again')  # conv1..conv5 there
CLASSIFIER = {  # five convolutions, last1_1 to last2 there
    'last1_1': 'mix',
    'last1_2': 'spread.0',
    'last1_3': 'spread.1',
    'last1_4': 'spread.2',
    'last2': 'classify',
}


def create_plan() -> ImportPlan:
    """How a SemanticBoxNet file becomes a `semanticboxnet_v1` checkpoint.

    Its channel order is rgb, as the published inference has it; the training fed BGR (see `V1_INPUT`).
    """
    return ImportPlan(
        config=V1_CONFIG,
        key_map=_key_map(),
        labels=load_scene_labels('cityscapes_20+coco_90'),
        input=V1_INPUT,
        intermediates=_intermediates(),
    )


def _key_map() -> KeyMap:
    keys = KeyMap()
    add_encoder(keys, 'backbone_net.model.', 'encoder.', V1_CONFIG.encoder)
    add_bifpn(keys, 'bifpn', 'box_neck', V1_CONFIG.neck_cells)
    add_bifpn(keys, 'bifpn2', 'semantic_neck', V1_CONFIG.neck_cells)
    add_box_heads(keys, 'box_head', V1_CONFIG.box_head_depth)
    for stride in (16, 32):
        cell = f'context_{stride}'
        for i, branch in enumerate(CELL_BRANCHES, start=1):
            add_separable(keys, f'semhead.dpcp{stride}.conv{i}', f'{HEAD}.{cell}.{branch}')
        _add_convolution(keys, f'semhead.dpcp{stride}.lastconv', f'{HEAD}.{cell}.merge')
        for i in range(4):
            for part, step in ((1, 0), (2, 2)):  # between the two parts is the resizing
                add_separable(keys, f'semhead.conv{part}_{stride}_{i + 1}', f'{HEAD}.branch_{stride}.{step}.{i}')
    for i in range(4):
        add_separable(keys, f'semhead.lsfep8.conv{i + 1}', f'{HEAD}.fine_8.{i}')
        add_separable(keys, f'semhead.conv{i + 1}_8', f'{HEAD}.branch_8.{i}')
    for i in range(5):
        add_separable(keys, f'semhead.mc1.conv{i + 1}', f'{HEAD}.correct.{i}')
    for source, target in CLASSIFIER.items():
        _add_convolution(keys, f'semhead.{source}', f'{HEAD}.classifier.{target}')
    return keys


def _add_convolution(keys: KeyMap, source: str, target: str) -> None:
    for name in ('weight', 'bias'):
        keys.rename(f'{source}.{name}', f'{target}.{name}')


def _intermediates() -> dict[str, str]:
    """Golden tensor -> our module, with the index in what it returns."""
    last = V1_CONFIG.neck_cells - 1
    paths = {f'feature_p{level}': f'box_neck:{level - 3}' for level in range(3, 8)}
    paths.update({f'mid:backbone_net.{i}': f'encoder:{i + 1}' for i in range(4)})
    for i in range(5):
        paths[f'mid:bifpn.0.{i}'] = f'box_neck.cells.0:{i}'
        paths[f'mid:bifpn2.0.{i}'] = f'semantic_neck.cells.0:{i}'
        paths[f'mid:bifpn2.{i}'] = f'semantic_neck.cells.{last}:{i}'
    for stride in (16, 32):
        paths[f'mid:semhead.dpcp{stride}'] = f'{HEAD}.context_{stride}'
        paths[f'mid:semhead.conv2_{stride}_4'] = f'{HEAD}.branch_{stride}'
        for i, branch in enumerate(CELL_BRANCHES, start=1):
            paths[f'mid:semhead.dpcp{stride}.conv{i}'] = f'{HEAD}.context_{stride}.{branch}'
    paths.update({f'mid:semhead.{source}': f'{HEAD}.classifier.{target}' for source, target in CLASSIFIER.items()})
    for source, target in (('lsfep8', 'fine_8'), ('mc1', 'correct'), ('conv4_8', 'branch_8')):
        paths[f'mid:semhead.{source}'] = f'{HEAD}.{target}'
    return paths
