"""Quantisation-aware training: whole runs of a small network that was trained before."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training.test_processes import torchrun
from training.test_trainer import Interrupted, assert_same_weights, read_history

from sembox_ros.errors import ConfigError
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.folding import fold
from sembox_ros.training.config import TrainConfig, write_train_config
from sembox_ros.training.state import load_state
from sembox_ros.training.trainer import Trainer

ConfigFactory = Callable[..., TrainConfig]


@pytest.fixture(scope='module')
def rounded(
    tiny_config: ConfigFactory, tiny_lite: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TrainConfig]:
    """Configuration of a run that starts with the tiny network."""
    start = tmp_path_factory.mktemp('start') / 'start.safetensors'
    save_checkpoint(tiny_lite, start)
    config = tiny_lite.config

    def create(out: Path, **changes: Any) -> TrainConfig:
        options = {'encoder': config.encoder, 'decoder': config.decoder, 'decoder_channels': config.decoder_channels}
        values = {'model': config.name, 'quantization': 'qat', 'start_from': str(start), 'epochs': 1, 'batch_size': 1}
        created = tiny_config(out, **values | {'optimizer': {'lr': 1e-3, 'warmup_steps': 0}} | changes)
        return dataclasses.replace(created, model_options=options)  # in the place of another network's

    return create


class Watched(Trainer):
    """A run that remembers the ranges after each step."""

    def step(self, batches: Any, rate: float) -> dict[str, float]:
        losses = super().step(batches, rate)
        self.seen = [*getattr(self, 'seen', []), self.network.module.ranges()]
        return losses


@pytest.fixture(scope='module')
def finished(rounded: ConfigFactory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that was never interrupted, and whose ranges stay at the end."""
    trainer = Watched(rounded(tmp_path_factory.mktemp('runs') / 'whole'))
    assert trainer.run() is True
    moved = [before != after for before, after in itertools.pairwise(trainer.seen)]
    assert moved == [True, True, True, True, False]
    return trainer.folder


def test_the_checkpoint_is_a_plain_network_and_the_ranges(finished: Path, tiny_lite: Checkpoint):
    checkpoint = load_checkpoint(finished / 'last.safetensors')
    assert checkpoint.model.state_dict().keys() == tiny_lite.model.state_dict().keys()
    assert checkpoint.recipe['config']['quantization'] == 'qat'
    average = load_state(finished / 'resume.safetensors').modules['average']
    for name, tensor in fold(checkpoint.model).state_dict().items():
        assert torch.equal(tensor, average[f'module.graph.{name}']), name
    low, high = checkpoint.quantization['encoder.stages.0.0.2/hardtanh']
    assert low == 0.0
    assert 0 < high <= 6
    lows = [tensor for name, tensor in average.items() if name.endswith('min_val') and tensor.ndim == 0]
    assert sorted(float(tensor) for tensor in lows) == sorted(low for low, _ in checkpoint.quantization.values())


def test_a_resumed_run_is_the_same_run(finished: Path, rounded: ConfigFactory, tmp_path: Path):
    config = rounded(tmp_path / 'run')
    trainer = Interrupted(config)
    trainer.at_step = 1
    assert trainer.run() is False
    assert Trainer(config, resume=True).run() is True
    assert read_history(config.folder) == read_history(finished)
    assert_same_weights(config.folder, finished)
    names = ('last.safetensors', 'best.safetensors')
    ours, theirs = ([load_checkpoint(folder / name) for name in names] for folder in (config.folder, finished))
    assert [c.quantization for c in ours] == [c.quantization for c in theirs]


@pytest.mark.slow
def test_two_processes_agree(rounded: ConfigFactory, tmp_path: Path):
    config = rounded(tmp_path / 'run')
    write_train_config(config, tmp_path / 'config.yaml')
    done = torchrun(str(tmp_path / 'config.yaml'), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((config.folder / 'metrics.json').read_text())['images_val'] == 2
    assert load_checkpoint(config.folder / 'last.safetensors').quantization


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'freeze': ('encoder',)}, 'quantization qat moves all weights .* got encoder and fp32'),
        ({'precision': 'bf16'}, 'got none and bf16'),
        ({'quantization': 'int4'}, "quantization: expected one of none, qat; got 'int4'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    rounded: ConfigFactory, tmp_path: Path, changes: dict[str, Any], words: str
):
    with pytest.raises(ConfigError, match=words):
        rounded(tmp_path / 'run', **changes)


def test_nothing_to_start_with_is_refused(rounded: ConfigFactory, tmp_path: Path):
    with pytest.raises(ConfigError, match='expected a trained checkpoint, which quantization qat goes on with'):
        Trainer(rounded(tmp_path / 'run', start_from=''))


def test_a_network_without_a_decoder_is_refused(
    tiny_config: ConfigFactory, tiny_checkpoint_path: Path, tmp_path: Path
):
    config = tiny_config(tmp_path / 'run', quantization='qat', start_from=str(tiny_checkpoint_path))
    with pytest.raises(ConfigError, match='qat is for networks with a decoder, such as mobilenetv2_fpn_lite; got'):
        Trainer(config)
