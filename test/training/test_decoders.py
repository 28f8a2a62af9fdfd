"""Runs of networks that are an encoder with decoders: no boxes, no instances."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import get_model

from sembox_ros.cli import main
from sembox_ros.errors import ConfigError
from sembox_ros.models.checkpoint import load_checkpoint
from sembox_ros.training.config import TrainConfig
from sembox_ros.training.pieces import is_frozen
from sembox_ros.training.trainer import Trainer

ConfigFactory = Callable[..., TrainConfig]
TINY = {'model': 'mobilenetv2_fpn_lite', 'model_options': {'decoder_channels': 16}}


@pytest.fixture(scope='module')
def masks_alone(tmp_path_factory: pytest.TempPathFactory, tiny_config: ConfigFactory) -> Path:
    config = tiny_config(tmp_path_factory.mktemp('decoders') / 'run', **TINY)
    assert Trainer(config).run()
    return config.folder


def test_masks_are_learnt_graded_and_kept(masks_alone: Path):
    lines = [json.loads(line) for line in (masks_alone / 'history.jsonl').read_text().splitlines()]
    train, val = ([line for line in lines if line['kind'] == kind] for kind in ('train', 'val'))
    assert {name for name in train[0] if name.startswith('loss')} == {'loss', 'loss_semantic', 'loss_region'}
    assert val[0].keys() - {'kind', 'step', 'epoch', 'seconds'} == {'miou', 'pixel_accuracy'}
    metrics = json.loads((masks_alone / 'metrics.json').read_text())
    assert metrics['last']['boxes'] is metrics['last']['panoptic'] is None
    assert metrics['best']['semantic']['miou'] == max(line['miou'] for line in val)
    page = (masks_alone / 'summary.html').read_text()
    assert 'mIoU' in page
    assert '>AP<' not in page
    checkpoint = load_checkpoint(masks_alone / 'best.safetensors')
    assert (checkpoint.config.decoder, checkpoint.config.semantic_classes) == ('fpn_lite', 19)
    assert checkpoint.metrics['miou'] == metrics['best']['semantic']['miou']


def test_the_evaluation_is_that_of_the_run(masks_alone: Path, streets: Path, tmp_path: Path, capsys: Any):
    args = ['--root', str(streets), '--split', 'val', '--engine', 'torch', '--device', 'cpu', '--out', str(tmp_path)]
    checkpoint = ['--checkpoint', str(masks_alone / 'last.safetensors')]
    assert main(['evaluate', *args, *checkpoint, '--save-predictions', '--compare-fusions']) == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    trained = json.loads((masks_alone / 'metrics.json').read_text())
    assert metrics['semantic']['miou'] == pytest.approx(trained['last']['semantic']['miou'], abs=1e-4)
    assert (metrics['boxes'], metrics['panoptic'], metrics['fusion'], list(metrics['fusions'])) == (
        None, None, 'auto', ['auto'],
    )  # fmt: skip
    assert metrics['notes'] == ['no AP, no PQ: the network finds no objects']
    assert len(list((tmp_path / 'predictions').glob('*.png'))) == 2
    assert not (tmp_path / 'panoptic').exists()
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ['class', 'IoU']
    assert 'AP of boxes' not in printed


def test_a_frozen_decoder_keeps_weights_and_classes(masks_alone: Path, tiny_config: ConfigFactory, tmp_path: Path):
    # Its box head aside nothing is left to learn, and it has none.
    start = str(masks_alone / 'last.safetensors')
    with pytest.raises(ConfigError, match='expected at least one loss, got none'):
        Trainer(tiny_config(tmp_path / 'a', **TINY, start_from=start, freeze=['decoders.semantic']))
    config = tiny_config(tmp_path / 'b', freeze=['decoders', 'encoder.main'])
    assert [is_frozen(config, part) for part in ('decoders.semantic', 'encoder', 'encoder.main.x', 'decod')] == [
        True, False, True, False,
    ]  # fmt: skip


def test_weights_of_the_encoder_start_another_decoder(masks_alone: Path, tiny_config: ConfigFactory, tmp_path: Path):
    config = tiny_config(
        tmp_path / 'run', model='mobilenetv2_unet_lite', model_options={'decoder_channels': 16}, epochs=1,
        start_from=str(masks_alone / 'last.safetensors'), freeze=['encoder'],
    )  # fmt: skip
    assert Trainer(config).run()
    before, after = (load_checkpoint(folder / 'last.safetensors').model for folder in (masks_alone, config.folder))
    theirs = before.encoder.state_dict()
    assert all(bool((tensor == theirs[name]).all()) for name, tensor in after.encoder.state_dict().items())


def test_imagenet_weights_start_an_encoder(tiny_config: ConfigFactory, tmp_path: Path):
    """As a user does it, with the file that torchvision publishes; its decoder may be another than the run's."""
    theirs = get_model('mobilenet_v2', weights=None).state_dict()
    torch.save(theirs, tmp_path / 'net.pth')
    start = tmp_path / 'start.safetensors'
    source = ['--from', 'torchvision:mobilenet_v2', '--model', 'mobilenetv2_unet_lite']
    assert main(['import-weights', str(tmp_path / 'net.pth'), *source, '--out', str(start)]) == 0
    config = tiny_config(tmp_path / 'run', **TINY, start_from=str(start), freeze=['encoder'])
    assert Trainer(config, dry_run=True).run()
    checkpoint = load_checkpoint(config.folder / 'last.safetensors')
    assert checkpoint.trained
    ours = list(checkpoint.model.encoder.state_dict().values())
    kept = [tensor for name, tensor in theirs.items() if not name.startswith(('features.18.', 'classifier.'))]
    assert len(ours) == len(kept)
    assert all(torch.equal(a, b) for a, b in zip(ours, kept, strict=True))
