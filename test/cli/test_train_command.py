"""`python -m sembox_ros train` as processes of its own, on a network that trains in seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from training.street_folder import tiny_settings, write_streets

from sembox_ros.cli import main
from sembox_ros.models.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML file; its run goes into the folder `run` of the working directory."""
    folder = tmp_path_factory.mktemp('train_command')
    streets = write_streets(folder / 'streets', {'train': range(4), 'val': range(10, 13)})
    settings = tiny_settings(streets, Path('run')) | {'epochs': 6, 'val_every': 6}
    path = folder / 'tiny.yaml'
    path.write_text(yaml.safe_dump(settings))
    return path


def start(config: Path, *args: str, cwd: Path) -> subprocess.Popen[str]:
    (cwd / 'tmp').mkdir(exist_ok=True)
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'TMPDIR': str(cwd / 'tmp')}
    return subprocess.Popen(
        [sys.executable, '-m', 'sembox_ros', 'train', str(config), *args], cwd=cwd, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def history(cwd: Path) -> list[dict]:
    path = cwd / 'run' / 'history.jsonl'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as status:
        main(['train', '--help'])
    assert status.value.code == 0
    text = capsys.readouterr().out
    assert '  python -m sembox_ros train config/train/sembox_b1_cityscapes.yaml data.root=/data/cityscapes\n' in text
    assert '  torchrun --nproc-per-node 4 -m sembox_ros train ' in text
    assert '--resume' in text
    assert '--dry-run' in text


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('epoch=3',), "train: TrainConfig: unknown option 'epoch' (did you mean epochs?); known: name, out, "),
        (('optimizer.lr=-1',), 'train: optimizer.lr: expected a value in 0.0..100.0, got -1.0'),
        (('--resume',), 'train: --resume: run/resume.safetensors does not exist; start the run without --resume'),
        (('data.root=/nowhere',), 'train: /nowhere/leftImg8bit/train: there is no such folder'),
        (('freeze=[tail]',), "train: freeze: the model has no part 'tail'; its parts are: encoder, box_neck"),
    ],
)
def test_mistakes_are_one_line(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple, message: str, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(['train', str(config), *args]) == 1
    printed = capsys.readouterr()
    assert printed.out == ''
    assert printed.err.startswith(message)
    assert printed.err.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_dry_run_does_two_steps_and_leaves_nothing(config: Path, tmp_path: Path):
    process = start(config, 'val_batch_size=1', '--dry-run', cwd=tmp_path)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert out == 'dry run: two steps, a validation, all files and the summary were fine\n'
    assert [line.split()[:2] for line in err.splitlines() if line.startswith(('train ', 'val '))] == [
        ['train', '1/2'], ['train', '2/2'], ['val', '2/2'],
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ['tmp']
    assert list((tmp_path / 'tmp').iterdir()) == []


def test_ctrl_c_saves_and_resume_finishes(config: Path, tmp_path: Path):
    process = start(config, cwd=tmp_path)
    deadline = time.monotonic() + 200
    while len(history(tmp_path)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert 'SIGINT: finishing this step, then saving' in err
    assert 'Traceback' not in err
    assert (tmp_path / 'run' / 'resume.safetensors').exists()
    steps = len(history(tmp_path))
    assert 2 <= steps < 12
    assert f'stopped after step {steps} of 12; go on with --resume' in err
    process = start(config, '--resume', cwd=tmp_path)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    lines = history(tmp_path)
    assert [line['step'] for line in lines if line['kind'] == 'train'] == list(range(1, 13))
    assert [(line['kind'], line['step']) for line in lines][-1] == ('val', 12)
    assert load_checkpoint(tmp_path / 'run' / 'best.safetensors').recipe['step'] == 12
    assert json.loads((tmp_path / 'run' / 'metrics.json').read_text())['interrupted'] is False
