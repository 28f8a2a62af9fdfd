from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from random_networks import calibrate_norms

from sembox_ros.config import InputConfig
from sembox_ros.labels import COCO_90, SceneLabels
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint
from sembox_ros.models.zoo import create_model, find_model


@pytest.fixture(scope='session')
def tiny(tiny_checkpoint_path: Path) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint_path)


@pytest.fixture(scope='session')
def detector() -> Checkpoint:
    """EfficientDet, which has no semantics, with a small head."""
    config = dataclasses.replace(find_model('efficientdet_d0').config, neck_channels=16, neck_cells=1, box_head_depth=1)
    model = create_model(config, seed=5)
    calibrate_norms(model, seed=5)
    labels = SceneLabels(None, COCO_90, {})
    return Checkpoint(model.eval(), config, labels, InputConfig(size_hw=(128, 128)), trained=False)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'sembox_ros'


@pytest.fixture(autouse=True)
def kept_threads() -> Iterator[None]:
    """Engines set torch's threads for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
