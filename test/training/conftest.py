from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training.street_folder import tiny_settings, write_geometry_streets, write_streets

from sembox_ros.config import from_mapping
from sembox_ros.training.config import TrainConfig


@pytest.fixture(scope='session')
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images to train with, two to validate with."""
    return write_streets(tmp_path_factory.mktemp('streets'), {'train': range(6), 'val': range(10, 12)})


@pytest.fixture(scope='session')
def geometry_streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images to train with, two to validate with, and depth, flow and motion of all of them."""
    return write_geometry_streets(tmp_path_factory.mktemp('geometry'), train=4, val=2)


@pytest.fixture(scope='session')
def tiny_config(streets: Path) -> Callable[..., TrainConfig]:
    """Configuration of a short run in a folder; sections are given as mappings and replace names, not sections."""

    def create(out: Path, **changes: Any) -> TrainConfig:
        values = tiny_settings(streets, out)
        for name, value in changes.items():
            values[name] = values.get(name, {}) | value if isinstance(value, dict) else value
        return from_mapping(TrainConfig, values)

    return create


@pytest.fixture(autouse=True, scope='module')
def _threads() -> Iterator[None]:
    """A run sets the number of threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
