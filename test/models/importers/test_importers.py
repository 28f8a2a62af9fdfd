from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sembox_ros.config import DetectionConfig
from sembox_ros.draw import draw_overlay
from sembox_ros.errors import CheckpointError, ConfigError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import COCO_90, SceneLabels, load_label_set
from sembox_ros.models.checkpoint import load_checkpoint, save_checkpoint
from sembox_ros.models.importers import IMPORTERS, find_plan, import_state, read_pth
from sembox_ros.models.zoo import create_model


@pytest.mark.parametrize('source', [s for s in IMPORTERS if s.startswith('efficientdet') or s == 'semanticboxnet'])
def test_every_plan_covers_its_model(source: str):
    """On an empty file, everything is missing and nothing else is wrong."""
    plan = find_plan(source)
    with torch.device('meta'):
        model = create_model(plan.config)
    with pytest.raises(CheckpointError) as caught:
        plan.key_map.apply({}, model)
    assert 'missing in the file' in str(caught.value)
    assert 'importer' not in str(caught.value)
    modules = dict(model.named_modules())
    assert all(path.partition(':')[0] in modules for path in plan.intermediates.values())


def test_the_larger_efficientdets_import_what_the_port_would_save():
    """D6 sums without weights, but its state dict holds them."""
    plan = find_plan('efficientdet-d7')
    assert plan.config.anchor_scale == 5.0
    with torch.device('meta'):
        model = create_model(plan.config)
    with pytest.raises(CheckpointError) as caught:
        plan.key_map.apply({'bifpn.0.p6_w1': torch.ones(2), 'bifpn.0.p8_w1': torch.ones(2)}, model)
    assert "1 left over in the file ('bifpn.0.p8_w1')" in str(caught.value)


@pytest.mark.parametrize('container', [None, 'state_dict', 'model'])
def test_pth_round_trip(d0_state: dict[str, Tensor], tmp_path: Path, container: str | None):
    parallel = {f'module.{k}': v for k, v in d0_state.items()}
    torch.save(parallel if container is None else {container: parallel, 'epoch': 3}, tmp_path / 'd0.pth')
    state = read_pth(tmp_path / 'd0.pth')
    assert state.keys() == d0_state.keys()
    checkpoint = import_state(state, 'efficientdet-d0')
    assert checkpoint.trained
    assert checkpoint.labels == SceneLabels(None, COCO_90)
    assert checkpoint.recipe['imported_from'] == 'efficientdet-d0'
    save_checkpoint(checkpoint, tmp_path / 'd0.safetensors')
    loaded = load_checkpoint(tmp_path / 'd0.safetensors')
    assert loaded.config == checkpoint.config
    assert loaded.labels.semantic is None
    before, after = checkpoint.model.state_dict(), loaded.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_legacy_torch_format_is_read(tmp_path: Path):
    torch.save({'a': torch.ones(3)}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert read_pth(tmp_path / 'old.pth')['a'].tolist() == [1, 1, 1]


class Harmful:
    """Would leave a trace if its pickle were executed."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize('form', ['plain', 'zip', 'legacy', 'nested'])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path: Path, form: str):
    path, trace = tmp_path / 'weights.pth', tmp_path / 'executed'
    if form == 'plain':
        path.write_bytes(pickle.dumps(Harmful(trace)))
    else:
        content = {'state_dict': {'a': Harmful(trace)}} if form == 'nested' else Harmful(trace)
        torch.save(content, path, _use_new_zipfile_serialization=form != 'legacy')
    with pytest.raises(CheckpointError) as caught:
        read_pth(path)
    assert not trace.exists()
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'a': 1}, 'is int'),
        ({'a': {'b': torch.ones(1)}}, 'is dict'),
        ({3: torch.ones(1)}, 'but 3 is Tensor'),
        ({}, 'expected a dict of tensors'),
        ({'state_dict': {}}, 'expected a dict of tensors'),
        (torch.ones(3), 'got Tensor'),
        ([torch.ones(3)], 'got list'),
        ({'a': torch.ones(3, 3).to_sparse()}, 'not a plain dense tensor'),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, words: str):
    torch.save(content, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError) as caught:
        read_pth(tmp_path / 'weights.pth')
    assert words in str(caught.value)


def test_a_pickled_module_is_refused(tmp_path: Path):
    torch.save(nn.Linear(2, 2), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError):
        read_pth(tmp_path / 'weights.pth')


def test_damaged_files_are_refused(tmp_path: Path):
    path = tmp_path / 'weights.pth'
    torch.save({'a': torch.ones(1000)}, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            read_pth(path)
    for _ in range(100):  # a flipped byte may go unnoticed in the numbers, but never raises anything else
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            read_pth(path)
    with pytest.raises(CheckpointError, match='does not exist'):
        read_pth(tmp_path / 'absent.pth')


def test_a_zip_bomb_is_refused(tmp_path: Path):
    path = tmp_path / 'weights.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data/0', bytes(10**8))
    with pytest.raises(CheckpointError, match='would unpack to'):
        read_pth(path)


def test_keys_that_do_not_fit_are_named(d0_state: dict[str, Tensor]):
    with pytest.raises(CheckpointError, match='is it a file of this network'):
        import_state(d0_state, 'efficientdet-d1')
    moved = d0_state.pop('bifpn.1.p4_w2')
    with pytest.raises(CheckpointError, match=r"1 missing in the file \('bifpn.1.p4_w2'\)"):
        import_state(d0_state, 'efficientdet-d0')
    with pytest.raises(CheckpointError, match=r"1 left over in the file \('bifpn.1.p4_w3'\)"):
        import_state({**d0_state, 'bifpn.1.p4_w2': moved, 'bifpn.1.p4_w3': moved}, 'efficientdet-d0')


def test_a_network_of_other_classes_needs_their_label_set(d0_state: dict[str, Tensor]):
    labels = load_label_set('cityscapes_things_8')
    for name in ('weight', 'bias'):
        key = f'classifier.header.pointwise_conv.conv.{name}'
        d0_state[key] = d0_state[key][: 9 * len(labels)]
    with pytest.raises(CheckpointError, match=r'classifier.header.*expected shape \(810, .*got \(72, '):
        import_state(d0_state, 'efficientdet-d0')
    checkpoint = import_state(d0_state, 'efficientdet-d0', SceneLabels(None, labels))
    assert checkpoint.config.detection_classes == 8


def test_unknown_sources_are_refused():
    with pytest.raises(ConfigError, match=r"'efficientdet-d8' is unknown.*did you mean efficientdet-d"):
        find_plan('efficientdet-d8')
    with pytest.raises(ConfigError, match=r"'torchvision:resnet50': none of torchvision's.*did you mean torch"):
        find_plan('torchvision:resnet50')


def test_imported_efficientdet_drives_the_predictor(d0_state: dict[str, Tensor]):
    predictor = Predictor(import_state(d0_state, 'efficientdet-d0'), device='cpu', engine='torch')
    image = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    [scene] = predictor.predict([image], detection=DetectionConfig(score_threshold=0.05, max_detections=7))
    assert scene.semantic is None
    assert scene.confidence is None
    assert len(scene.detections) == 7
    picture = draw_overlay(image, scene, predictor.labels, alpha=0.5)
    assert picture.shape == image.shape
    assert (picture != image).any()


def test_anchor_scale_reaches_the_boxes(d0_state: dict[str, Tensor]):
    checkpoint = import_state(d0_state, 'efficientdet-d0')
    larger = dataclasses.replace(checkpoint, config=dataclasses.replace(checkpoint.config, anchor_scale=5.0))
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    thresholds = DetectionConfig(score_threshold=0.05, max_detections=1, nms_iou_threshold=1.0)
    first, second = (
        Predictor(c, device='cpu', engine='torch').predict([image], detection=thresholds)[0].detections
        for c in (checkpoint, larger)
    )
    assert first.scores[0] == second.scores[0]
    assert not np.array_equal(first.boxes_xyxy, second.boxes_xyxy)
