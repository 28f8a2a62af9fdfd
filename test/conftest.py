"""Fixtures that tests of several layers share."""

from __future__ import annotations

# Before torch, whose waiting threads it makes sleep: their spinning made seconds of milliseconds on a busy machine.
import sembox_ros  # noqa: F401

# isort: split
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from random_networks import calibrate_norms

from sembox_ros.config import InputConfig
from sembox_ros.inference.graphs import find_graph
from sembox_ros.labels import CITYSCAPES_19, COCO_90, SceneLabels, load_scene_labels
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.zoo import MODELS, create_model, find_model


@pytest.fixture(scope='session', autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the tests' own, also for the processes that they start, and one for all of pytest-xdist's workers."""
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder / 'cache'))
        yield


@pytest.fixture(scope='session')
def tiny_checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint file of a network small enough to run many frames a second on the CPU."""
    config = dataclasses.replace(
        find_model('sembox_b0').config, neck_channels=16, neck_cells=1, box_head_depth=1, semantic_channels=16,
        dpc_channels=16,
    )  # fmt: skip
    model = create_model(config, seed=3)
    calibrate_norms(model, seed=3)
    labels = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
    path = tmp_path_factory.mktemp('checkpoint') / 'tiny.safetensors'
    save_checkpoint(Checkpoint(model.eval(), config, labels, InputConfig(size_hw=(128, 256)), trained=False), path)
    return path


@pytest.fixture(scope='session')
def tiny_solo() -> Checkpoint:
    """A network with instance masks and no box head, as small."""
    config = dataclasses.replace(
        find_model('sembox_b1_solo').config, encoder='efficientnet-b0', neck_channels=16, neck_cells=1,
        semantic_channels=16, dpc_channels=16, detection_classes=8, instance_channels=8, instance_head_channels=16,
        instance_head_depth=1, instance_grids=(6, 5, 4, 3, 2),
    )  # fmt: skip
    model = create_model(config, seed=7)
    calibrate_norms(model, seed=7)
    labels = load_scene_labels('cityscapes_19+cityscapes_things_8')
    return Checkpoint(model.eval(), config, labels, InputConfig(size_hw=(128, 256)), trained=False)


def _tiny_segmentation(name: str, seed: int) -> Checkpoint:
    config = dataclasses.replace(find_model(name).config, decoder_channels=16)
    model = create_model(config, seed=seed)
    calibrate_norms(model, seed=seed, channels=config.input_channels)
    labels = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
    return Checkpoint(model.eval(), config, labels, InputConfig(size_hw=(128, 256)), trained=False)


@pytest.fixture(scope='session')
def tiny_masks() -> Checkpoint:
    """A network with a decoder for masks and nothing else."""
    return _tiny_segmentation('mobilenetv2_fpn_lite', seed=5)


@pytest.fixture(scope='session')
def tiny_multitask() -> Checkpoint:
    """A network that sees image and flow and gives masks, depth and motion."""
    return _tiny_segmentation('mobilenetv2_s16_multitask', seed=6)


@pytest.fixture(scope='session')
def tiny_onnx(tiny_checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as an exported file for any batch and canvas: a copy of what engines find in the cache."""
    path = tmp_path_factory.mktemp('exported') / 'tiny.onnx'
    shutil.copy(find_graph(load_checkpoint(tiny_checkpoint_path)), path)
    return path


@pytest.fixture(scope='session')
def tiny_lite() -> Checkpoint:
    """A network with a Lite decoder, as small."""
    config = dataclasses.replace(MODELS['fd_mobilenetv2_fpn_lite'].config, decoder_channels=16, detection_classes=8)
    model = create_model(config, seed=5)
    calibrate_norms(model, seed=5)
    labels = load_scene_labels('cityscapes_19+cityscapes_things_8')
    return Checkpoint(model.eval(), config, labels, InputConfig(size_hw=(128, 128)), trained=False)


@pytest.fixture
def numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays inside the test's process write report.json, checked as ever, but no page, which takes seconds."""
    from sembox_ros.replay import session
    from sembox_ros.replay.report import JSON_NAME, write_json
    from sembox_ros.replay.report_schema import check_report

    def write_numbers(report: Mapping[str, Any], folder: Path) -> None:
        write_json(check_report(report, JSON_NAME), folder / JSON_NAME)

    monkeypatch.setattr(session, 'write_report', write_numbers)
