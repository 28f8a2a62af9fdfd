"""A run whose network sees image and flow, and learns masks, depth and what moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sembox_ros.cli import main
from sembox_ros.data.datasets import part_options
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.models.checkpoint import load_checkpoint
from sembox_ros.models.sembox import output_fields
from sembox_ros.training.config import TrainConfig
from sembox_ros.training.loader import load_datasets
from sembox_ros.training.pieces import learnt_tasks
from sembox_ros.training.trainer import Trainer

ConfigFactory = Callable[..., TrainConfig]
TINY: dict[str, Any] = {'model': 'mobilenetv2_s16_multitask', 'model_options': {'decoder_channels': 16}}


def tiny(factory: ConfigFactory, out: Path, root: Path, **changes: Any) -> TrainConfig:
    return factory(out, **{**TINY, 'data': {'root': str(root)}, 'epochs': 1, 'best_by': 'miou+delta1', **changes})


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory, tiny_config: ConfigFactory, geometry_streets: Path) -> Path:
    config = tiny(tiny_config, tmp_path_factory.mktemp('multitask') / 'run', geometry_streets)
    assert Trainer(config).run()
    return config.folder


def test_all_tasks_are_learnt_graded_and_kept(run: Path):
    lines = [json.loads(line) for line in (run / 'history.jsonl').read_text().splitlines()]
    train, val = ([line for line in lines if line['kind'] == kind] for kind in ('train', 'val'))
    terms = {name for name in train[0] if name.startswith('loss_')}
    assert terms == {'loss_semantic', 'loss_region', 'loss_depth', 'loss_motion'}
    assert all(0 < train[0][name] < 10 for name in terms)
    # What it says of depth at first is a plausible distance for all pixels.
    assert train[0]['loss_depth'] < 1.5
    assert {'miou', 'abs_rel', 'rmse_m', 'delta1', 'motion_miou', 'moving_iou'} < val[0].keys()
    best = json.loads((run / 'metrics.json').read_text())['best']
    assert best['boxes'] is best['panoptic'] is None
    assert 0 <= best['depth']['delta1'] <= 1
    assert 0 <= best['motion']['static_iou'] <= 1
    page = (run / 'summary.html').read_text()
    for title, value in (('RMSE of depth', f"{best['depth']['rmse_m']:.2f} m"), ('IoU of what moves', '')):
        assert title in page
        assert value in page
    checkpoint = load_checkpoint(run / 'best.safetensors')
    assert (checkpoint.config.inputs, checkpoint.config.tasks) == (('image', 'flow'), ('semantic', 'depth', 'motion'))
    assert output_fields(checkpoint.config) == ('semantic_logits', 'log_depth', 'motion_logits')


def test_the_evaluation_is_that_of_the_run(run: Path, geometry_streets: Path, tmp_path: Path, capsys: Any):
    args = ['--root', str(geometry_streets), '--split', 'val', '--engine', 'torch', '--device', 'cpu']
    files = ['--checkpoint', str(run / 'last.safetensors'), '--out', str(tmp_path)]
    assert main(['evaluate', *args, *files]) == 0
    metrics, trained = (json.loads((folder / 'metrics.json').read_text()) for folder in (tmp_path, run))
    for part in ('depth', 'motion'):
        assert metrics[part] == pytest.approx(trained['last'][part], rel=1e-3)
    assert metrics['semantic']['miou'] == pytest.approx(trained['last']['semantic']['miou'], abs=1e-4)
    assert (metrics['depth_maps_graded'], metrics['motion_masks_graded']) == (2, 2)
    printed = capsys.readouterr().out
    assert f"RMSE {metrics['depth']['rmse_m']:.2f} m" in printed
    assert 'motion: IoU' in printed


def test_the_dataset_is_asked_for_what_the_network_has_to_do_with(
    tiny_config: ConfigFactory, tmp_path: Path, streets: Path, geometry_streets: Path
):
    def asked(**changes: Any) -> list[tuple[bool, ...]]:
        data = load_datasets(tiny(tiny_config, tmp_path, geometry_streets, **changes))
        return [tuple(getattr(d[0], part) is not None for part in ('flow', 'depth', 'motion')) for d in data]

    def options(**values: Any) -> dict[str, Any]:
        return {'model_options': {**TINY['model_options'], **values}}

    assert asked() == [(True, True, True)] * 2
    assert asked(**options(inputs=['image'])) == [(False, True, True)] * 2
    assert asked(**options(tasks=['semantic', 'motion'])) == [(True, False, True)] * 2
    assert asked(freeze=['decoders.depth'], loss={'motion': 0.0}) == [(True, False, False)] * 2
    assert learnt_tasks(tiny(tiny_config, tmp_path, streets, freeze=['decoders'])) == frozenset()
    # A folder without these files says how to get them, another kind of dataset which would do.
    with pytest.raises(DatasetError, match='streets --geometry'):
        load_datasets(tiny(tiny_config, tmp_path, streets))
    with pytest.raises(ConfigError, match=r'expected one with depth, which the network needs \(cityscapes\); got voc'):
        load_datasets(tiny(tiny_config, tmp_path, streets, data={'dataset': 'voc', 'root': str(streets)}))


def test_options_of_datasets():
    assert part_options('cityscapes', needed=['flow'], useful=['instances']) == {
        'with_flow': True, 'with_instances': True,
    }  # fmt: skip
    assert part_options('kitti_road', useful=['instances', 'depth']) == {}
    assert part_options('nowhere', needed=['depth']) == {}


def test_tasks_without_masks(tiny_config: ConfigFactory, tmp_path: Path, geometry_streets: Path):
    model_options = {'decoder_channels': 16, 'inputs': ['image'], 'tasks': ['depth']}
    config = tiny(tiny_config, tmp_path / 'run', geometry_streets, model_options=model_options, best_by='delta1')
    trainer = Trainer(config)
    assert trainer.labels.semantic is None
    assert trainer.criterion.semantic is trainer.criterion.motion is None
    assert trainer.run()
    metrics = json.loads((config.folder / 'metrics.json').read_text())
    assert metrics['last']['semantic'] is None
    assert metrics['last']['depth']['delta1'] > 0
    assert output_fields(load_checkpoint(config.folder / 'last.safetensors').config) == ('log_depth',)


def test_a_bad_batch_is_kept_with_all_its_labels(tiny_config: ConfigFactory, tmp_path: Path, geometry_streets: Path):
    from safetensors.torch import load_file

    from sembox_ros.training.failure import save_batch
    from sembox_ros.training.loader import create_train_loader

    config = tiny(tiny_config, tmp_path, geometry_streets)
    train, _ = load_datasets(config)
    trainer = Trainer(config)
    batch = next(iter(create_train_loader(train, config, trainer.schedule)))
    save_batch(batch, tmp_path / 'bad.safetensors', step=0, losses={})
    kept = load_file(tmp_path / 'bad.safetensors')
    assert kept['images'].shape == (2, 5, 128, 128)
    assert torch.equal(kept['depth'], batch.depth)
    assert torch.equal(kept['motion'], batch.motion)
