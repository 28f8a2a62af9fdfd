from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from sembox_ros.errors import CheckpointError
from sembox_ros.training.config import OptimizerConfig
from sembox_ros.training.optim import create_average, create_optimizer
from sembox_ros.training.state import RunState, load_state, save_state


def pieces(name: str) -> tuple[nn.Module, torch.optim.Optimizer, Any]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    model[2].requires_grad_(False)
    optimizer = create_optimizer(model, OptimizerConfig(name=name, lr=0.1))
    return model.to(memory_format=torch.channels_last), optimizer, create_average(model, 0.9)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, average: Any, seed: int) -> None:
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    model(images).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    average.update_parameters(model)


STATE = RunState(
    step=7, best_rank=0.5, best={'step': 3, 'semantic': {'miou': None}}, last={'step': 6}, validated=6, seconds=1.25,
    scaler={'scale': 1024.0},
)  # fmt: skip


@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, name: str):
    path = tmp_path / 'resume.safetensors'
    model, optimizer, average = pieces(name)
    for seed in range(2):
        step(model, optimizer, average, seed)
    settings = {'lr': 0.1, 'freeze': ['a'], 'data': {'x': None}}
    for _ in range(2):  # the second replaces the first
        save_state(
            path, STATE, settings=settings, optimizer=optimizer.state_dict(),
            modules={'network': model.state_dict(), 'average': average.state_dict()},
        )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ['resume.safetensors']
    saved = load_state(path)
    assert saved.state == STATE
    assert saved.settings == settings
    other, other_optimizer, other_average = pieces(name)
    other.load_state_dict(saved.modules['network'])
    other_average.load_state_dict(saved.modules['average'])
    other_optimizer.load_state_dict({**other_optimizer.state_dict(), 'state': saved.slots})
    for seed in range(2, 4):
        step(model, optimizer, average, seed)
        step(other, other_optimizer, other_average, seed)
    for mine, theirs in ((model, other), (average, other_average)):
        expected = mine.state_dict()
        for key, tensor in theirs.state_dict().items():
            assert torch.equal(tensor, expected[key]), key
    assert int(other_average.n_averaged) == 4


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    model, optimizer, average = pieces('adamw')
    step(model, optimizer, average, 0)
    path = tmp_path_factory.mktemp('state') / 'x'
    modules = {'network': model.state_dict()}
    save_state(path, STATE, settings={}, modules=modules, optimizer=optimizer.state_dict())
    return path.read_bytes()


@settings(deadline=None)
@given(data=st.data())
def test_a_cut_file_is_refused(tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / 'cut.safetensors'
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError, match=r'cut\.safetensors: not the state of a run .*start the run anew'):
        load_state(path)


@pytest.mark.parametrize(
    'metadata',
    [
        None,
        {'state': '{}'},
        {'state': '{', 'settings': '{}'},
        {'state': '[]', 'settings': '{}'},
        {'state': '{"steps": 1}', 'settings': '{}'},
        {'state': '{"step": 1}', 'settings': '[]'},
    ],
)
def test_other_files_are_refused(tmp_path: Path, metadata: dict[str, str] | None):
    path = tmp_path / 'other.safetensors'
    save_file({'network/a': torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match='not the state of a run'):
        load_state(path)


def test_slots_without_a_number_are_refused(tmp_path: Path):
    path = tmp_path / 'other.safetensors'
    save_file({'optimizer/x/y': torch.zeros(1)}, path, metadata={'state': '{}', 'settings': json.dumps({})})
    with pytest.raises(CheckpointError, match='not the state of a run'):
        load_state(path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r'absent: not the state of a run'):
        load_state(tmp_path / 'absent')


def test_a_folder_that_takes_no_file(tmp_path: Path):
    (tmp_path / 'taken').mkdir()
    (tmp_path / 'taken' / 'file').touch()
    with pytest.raises(CheckpointError, match='cannot be written'):
        save_state(tmp_path / 'taken', RunState(), settings={}, modules={}, optimizer={'state': {}})
    assert [p.name for p in tmp_path.iterdir()] == ['taken']
