"""Several processes, and several batches of one step, learn what one process learns from one large batch."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sembox_ros.models.checkpoint import load_checkpoint
from sembox_ros.training.config import TrainConfig, write_train_config
from sembox_ros.training.state import load_state
from sembox_ros.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
RATE = 0.1

Gradients = dict[str, Tensor]


def torchrun(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in two processes that talk to each other on this machine."""
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    return subprocess.run(
        [*command, '-m', 'sembox_ros', 'train', *args], cwd=cwd, env=environment, capture_output=True, text=True,
        timeout=250, check=False,
    )  # fmt: skip


@pytest.fixture(scope='module')
def one_step(tiny_config: Callable[..., TrainConfig], tiny_checkpoint_path: Path) -> Callable[..., TrainConfig]:
    """One step of plain SGD, which moves weights by the gradient. Batch norms, which see one batch, are frozen."""
    model = load_checkpoint(tiny_checkpoint_path).model
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]

    def create(out: Path, **changes: Any) -> TrainConfig:
        optimizer = {
            'name': 'sgd', 'lr': RATE, 'momentum': 0.0, 'weight_decay': 0.0, 'warmup_steps': 0, 'clip_norm': 0.0,
            'schedule': 'constant', 'ema_decay': 0.0,
        }  # fmt: skip
        return tiny_config(
            out, epochs=1, start_from=str(tiny_checkpoint_path), stochastic_depth=0.0, freeze=norms,
            optimizer=optimizer, **changes,
        )  # fmt: skip

    return create


def gradients(start: dict[str, Tensor], folder: Path) -> Gradients:
    saved = load_state(folder / 'resume.safetensors')
    assert saved.state.step == 1
    return {name: (start[name] - tensor) / RATE for name, tensor in saved.modules['network'].items()}


@pytest.fixture(scope='module')
def large_batch(
    one_step: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Tensor], Gradients]:
    """Folder, first weights and gradient of one step with a batch of 4."""
    folder = tmp_path_factory.mktemp('runs') / 'large_batch'
    trainer = Trainer(one_step(folder, batch_size=4))
    start = {name: tensor.clone() for name, tensor in trainer.network.module.state_dict().items()}
    assert trainer.run()
    return folder, start, gradients(start, folder)


def assert_same_gradient(found: Gradients, wanted: Gradients) -> None:
    names = [name for name, tensor in wanted.items() if tensor.abs().max() > 0]
    assert {name.partition('.')[0] for name in names} == {
        'encoder', 'box_neck', 'semantic_neck', 'box_head', 'semantic_head',
    }  # fmt: skip
    assert len(names) > 100
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f'{n}: {text}')
    error = torch.cat([(found[name] - wanted[name]).flatten() for name in names]).norm()
    assert error < 1e-5 * torch.cat([wanted[name].flatten() for name in names]).norm()


def test_summed_batches_are_one_large_batch(one_step: Any, large_batch: Any, tmp_path: Path):
    config = one_step(tmp_path / 'run', batch_size=2, accumulate=2)
    assert Trainer(config).run()
    folder, start, wanted = large_batch
    assert_same_gradient(gradients(start, config.folder), wanted)
    losses = [json.loads((f / 'history.jsonl').read_text().splitlines()[0])['loss'] for f in (config.folder, folder)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_two_processes_are_one_with_twice_the_batch(one_step: Any, large_batch: Any, tmp_path: Path):
    config = one_step(tmp_path / 'run', batch_size=2)
    write_train_config(config, tmp_path / 'config.yaml')
    done = torchrun(str(tmp_path / 'config.yaml'), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    folder, start, wanted = large_batch
    assert_same_gradient(gradients(start, config.folder), wanted)
    assert load_state(config.folder / 'resume.safetensors').settings['processes'] == 2
    assert done.stderr.count('summary: ') == 1  # only the first process talks
    ours, theirs = (json.loads((path / 'metrics.json').read_text()) for path in (config.folder, folder))
    assert ours['images_val'] == 2  # one for each process
    assert ours['last']['semantic']['pixel_accuracy'] == pytest.approx(
        theirs['last']['semantic']['pixel_accuracy'], abs=1e-3
    )
    assert ours['last']['semantic']['iou_per_class'] == pytest.approx(
        theirs['last']['semantic']['iou_per_class'], abs=1e-3
    )
    for name, score in theirs['last']['boxes'].items():
        if isinstance(score, float):
            assert ours['last']['boxes'][name] == pytest.approx(score, abs=1e-3), name


@pytest.mark.slow
def test_two_processes_train_one_head_alone(one_step: Any, tmp_path: Path):
    """Parameters that no loss reaches must not keep the processes waiting for their gradients."""
    config = one_step(tmp_path / 'run', batch_size=2, loss={'semantic': 0.0, 'region': 0.0})
    write_train_config(dataclasses.replace(config, freeze=(), epochs=2), tmp_path / 'config.yaml')
    done = torchrun(str(tmp_path / 'config.yaml'), '--dry-run', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'dry run: two steps' in done.stdout
    assert not config.folder.exists()
