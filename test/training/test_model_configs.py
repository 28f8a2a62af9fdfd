"""config/models has a recipe for each network, and for each result that is published of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sembox_ros.models.published import PUBLISHED, Published
from sembox_ros.models.zoo import MODELS
from sembox_ros.training.config import TrainConfig, load_train_config

FILES = {path.stem: path for path in (Path(__file__).parents[2] / 'config' / 'models').glob('*.yaml')}
CONFIGS = {name: load_train_config(path) for name, path in FILES.items()}


def class_count(config: TrainConfig) -> int:
    """Classes of the masks that a recipe teaches."""
    data = config.data
    assert data.train.get('classes') == data.val.get('classes')
    assert data.train.get('semantic') == data.val.get('semantic')
    if data.dataset == 'cityscapes':
        return data.train.get('classes', 19)
    return {'ade20k': 32, 'coco_21': 21, 'voc': 21}[data.dataset]


@pytest.mark.parametrize('name', CONFIGS)
def test_a_recipe_has_the_name_of_its_model(name: str) -> None:
    config = CONFIGS[name]
    assert config.name == name
    assert name == config.model or name.startswith(f'{config.model}_')
    assert ('ap' in config.best_by) == (MODELS[config.model].config.box_head)


# The original's semantics were learnt by a recipe of config/train, EfficientDets come from their published weights.
@pytest.mark.parametrize('name', [n for n in MODELS if n != 'semanticboxnet_v1' and not n.startswith('efficientdet_d')])
def test_every_network_has_a_recipe_at_its_own_size(name: str) -> None:
    assert CONFIGS[name].model == name
    assert CONFIGS[name].input.size_hw == MODELS[name].input.size_hw


# What cannot be trained here: the road alone, and five classes of Cityscapes.
@pytest.mark.parametrize(
    'row',
    [row for row in PUBLISHED if row.dataset != 'Cityscapes road' and row.classes != 5],
    ids=lambda row: f'{row.model}-{row.dataset}-{row.size_hw[0]}',
)
def test_every_published_result_has_a_recipe_that_names_it(row: Published) -> None:
    dataset = {'Cityscapes': 'cityscapes', 'ADE20K-32': 'ade20k', 'COCO-21': 'coco_21', 'VOC 2012': 'voc'}[row.dataset]
    wanted = (row.model, row.size_hw, dataset, row.classes)
    found = {n: (c.model, c.input.size_hw, c.data.dataset, class_count(c)) for n, c in CONFIGS.items()}
    (name,) = (n for n, described in found.items() if described == wanted)
    comment = ' '.join(FILES[name].read_text().split('\nbase:')[0].replace('\n#', '').split())
    for number, form in (
        (row.miou, '{:g} mIoU'), (row.miou_qat, '{:g} after'), (row.dice, 'Dice {:g}'), (row.giga_macs, '{:g} G mult'),
        (row.parameters, '{:,} parameters'),
    ):  # fmt: skip
        if number is not None:
            assert form.format(number) in comment
    assert 'x'.join(map(str, row.size_hw)) in comment
    assert row.dataset.removesuffix(' 2012') in comment


def test_each_base_is_that_of_several_networks() -> None:
    folder = Path(__file__).parents[2] / 'config'
    bases = [line for path in FILES.values() for line in path.read_text().splitlines() if line.startswith('base: ')]
    for path in (folder / 'recipes').glob('*.yaml'):
        assert bases.count(f'base: ../recipes/{path.name}') > 3, path
