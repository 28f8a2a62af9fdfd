"""Replays by networks of an encoder and decoders: masks without boxes, and depth and motion from image and flow."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from drives import FIRST_NS, LABELS, STEP_NS, frames, write

from sembox_ros.cli import main
from sembox_ros.cli.streets import render_drive
from sembox_ros.data.cityscapes_layout import FrameName, encode_geometry, encode_labels, write_frame
from sembox_ros.data.streets import render_sequence
from sembox_ros.errors import ConfigError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.scores import GradeScores
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint, save_checkpoint
from sembox_ros.models.zoo import create_model
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.drive import write_drive, write_image_bag
from sembox_ros.replay.live_session import replay_bag_online
from sembox_ros.replay.scene_messages import view_image
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input

TOPICS = ('/depth', '/motion/mask')


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp('drive') / 'drive', 5)


@pytest.fixture(scope='module')
def masks(tiny_masks: Checkpoint) -> Predictor:
    return Predictor(tiny_masks, device='cpu', engine='torch')


@pytest.fixture(scope='module')
def multitask(tiny_multitask: Checkpoint) -> Predictor:
    return Predictor(tiny_multitask, device='cpu', engine='torch')


@pytest.mark.usefixtures('with_page')
def test_masks_are_graded_and_of_boxes_nothing_is_said(bag: Path, masks: Predictor, tmp_path: Path):
    source = open_input(bag, ())
    report = replay_bag(source, tmp_path / 'out', masks, ReplayOptions(save=('color', 'overlay')), progress=False)
    assert report['frames']['processed'] == 5
    accuracy = report['accuracy']
    assert accuracy['masks'] == 5
    assert accuracy['semantic']['miou'] is not None
    assert accuracy['boxes'] is None
    assert accuracy['panoptic'] is None
    assert 'no AP and no PQ: the network finds no boxes' in accuracy['notes']
    assert set(report['timeline']['boxes']) == {None}
    assert report['stability']['boxes_per_frame'] == {}
    assert report['stability']['mask_agreement'] is not None
    topics = {entry.topic for entry in read_bag(tmp_path / 'out' / 'bag')}
    assert topics == {
        '/segmentation/mask', '/segmentation/confidence', '/segmentation/color', '/segmentation/label_info', '/overlay',
    }  # fmt: skip


def test_depth_and_motion_are_recorded_with_the_flow_of_the_bag(bag: Path, multitask: Predictor, tmp_path: Path):
    options = ReplayOptions(save=('depth', 'motion'), batch=2)
    report = replay_bag(open_input(bag, ()), tmp_path / 'out', multitask, options, progress=False)
    assert report['frames']['processed'] == 5
    images = [frame.image for frame in frames(5)]
    expected = multitask.predict(images, previous=[None, *images[:-1]])
    found: dict[str, list[np.ndarray]] = {'/depth': [], '/motion/mask': []}
    stamps = []
    for entry in read_bag(tmp_path / 'out' / 'bag'):
        if entry.topic in found:
            found[entry.topic].append(view_image(entry.message))
            stamps.append(entry.stamp_ns)
    assert stamps == [FIRST_NS + i * STEP_NS for i in range(5) for _ in range(2)]
    for depth, motion, scene in zip(found['/depth'], found['/motion/mask'], expected, strict=True):
        np.testing.assert_allclose(depth, scene.depth, rtol=1e-3)
        assert ((motion == 255) == scene.motion).mean() > 0.999


def test_depth_and_motion_are_graded_against_the_bag(multitask: Predictor, tmp_path: Path):
    drive = list(render_drive(frames=3, size_hw=(64, 128), seed=1, rate_hz=10.0, geometry=True))
    write_drive(tmp_path / 'drive', drive, labels=LABELS)
    source = open_input(tmp_path / 'drive', ())
    report = replay_bag(source, tmp_path / 'out', multitask, ReplayOptions(save=()), progress=False)
    outputs = {topic: [view_image(e.message) for e in read_bag(tmp_path / 'out' / 'bag', [topic])] for topic in TOPICS}
    errors, right = [], []
    hits, unions = np.zeros(2), np.zeros(2)
    for frame, depth, moves in zip(drive, *outputs.values(), strict=True):
        known = (frame.depth > 0) & (frame.depth <= 80)
        ratio = depth[known].clip(1e-3, 80) / frame.depth[known]
        difference = depth[known].clip(1e-3, 80) - frame.depth[known]
        errors.append((np.abs(ratio - 1).mean(), np.sqrt((difference**2).mean())))
        right.append((np.maximum(ratio, 1 / ratio) < 1.25).mean())
        labeled = frame.motion < 255
        for value in (0, 1):
            pred, gt = (moves == 255 * value) & labeled, frame.motion == value
            hits[value] += (pred & gt).sum()
            unions[value] += (pred | gt).sum()
    abs_rel, rmse_m = np.mean(errors, axis=0)
    static, moving = hits / unions
    assert moving < static < 1
    accuracy = report['accuracy']
    assert (accuracy['depths'], accuracy['motions'], accuracy['masks']) == (3, 3, 3)
    expected = {'abs_rel': abs_rel, 'rmse_m': rmse_m, 'delta1': np.mean(right)}
    assert accuracy['depth'] == pytest.approx(expected, rel=1e-5)
    expected = {'motion_miou': (static + moving) / 2, 'moving_iou': moving, 'static_iou': static}
    assert accuracy['motion'] == pytest.approx(expected)
    rows = list(csv.DictReader((tmp_path / 'out' / 'frames.csv').open(newline='')))
    assert [float(row['abs_rel']) for row in rows] == pytest.approx([error for error, _ in errors], rel=1e-5)
    assert all(0 < float(row['motion_miou']) < 1 for row in rows)
    grade = SceneGrade.load(tmp_path / 'out' / 'grade.npz')
    assert grade.compute().to_dict() == {part: accuracy[part] for part in GradeScores._fields}


def test_a_dataset_as_truth_gives_the_scores_of_evaluate(tiny_multitask: Checkpoint, tmp_path: Path):
    """Of a network that takes no flow, which `evaluate` takes from the dataset and a replay measures."""
    config = dataclasses.replace(tiny_multitask.config, inputs=('image',))
    checkpoint = dataclasses.replace(tiny_multitask, model=create_model(config, seed=2).eval(), config=config)
    save_checkpoint(checkpoint, tmp_path / 'network.safetensors')
    stills = list(render_sequence(frames=2, size_hw=(64, 128), seed=3, geometry=True))
    for still in stills:
        seconds, nanoseconds = divmod(FIRST_NS + STEP_NS + still.stamp_ns, 10**9)
        geometry = encode_geometry(
            depth=still.depth, flow=still.flow, motion=still.motion, focal_px=100.0, principal_xy=(64, 32), height_m=1.5
        )
        name = FrameName('val', 'front', seconds, nanoseconds)
        labels = encode_labels(still.semantic, still.instance, still.ego)
        write_frame(tmp_path / 'data', name, still.image, labels, geometry)
    images = [(FIRST_NS + STEP_NS + still.stamp_ns, still.image) for still in stills]
    write_image_bag(tmp_path / 'drive', images, topic='/image')
    given = ['--root', str(tmp_path / 'data'), '--split', 'val', '--checkpoint', str(tmp_path / 'network.safetensors')]
    given += ['--device', 'cpu', '--engine', 'torch', '--out']
    assert main(['evaluate', *given, str(tmp_path)]) == 0
    replay = ['replay', str(tmp_path / 'drive'), '--save', 'none', '--batch', '1']
    assert main([*replay, *given, str(tmp_path / 'out')]) == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    accuracy = json.loads((tmp_path / 'out' / 'report.json').read_text())['accuracy']
    assert accuracy['depths'] == accuracy['motions'] == metrics['depth_maps_graded'] == 2
    assert accuracy['depth']['abs_rel'] > 0
    expected = {part: metrics[part] for part in GradeScores._fields}
    assert {part: accuracy[part] for part in expected} == expected


@pytest.mark.parametrize('maps', [{}, {'depth': True}, {'motion': True}])
def test_what_is_not_graded_is_not_recorded(multitask: Predictor, tmp_path: Path, maps: dict[str, bool]):
    drive = list(render_drive(frames=1, size_hw=(64, 128), seed=1, rate_hz=10.0, geometry=True))
    absent = {name: None for name in ('depth', 'motion') if name not in maps}
    write_drive(tmp_path / 'drive', [dataclasses.replace(drive[0], **absent)], labels=LABELS)
    source = open_input(tmp_path / 'drive', ())
    accuracy = replay_bag(source, tmp_path / 'out', multitask, ReplayOptions(save=()), progress=False)['accuracy']
    topics = {entry.topic for entry in read_bag(tmp_path / 'out' / 'bag')}
    for name, topic in zip(('depth', 'motion'), TOPICS, strict=True):
        assert (topic in topics) == (accuracy[name] is not None) == (name in maps)


@pytest.mark.parametrize(
    ('save', 'words'), [('depth', 'gives no depth'), ('motion', 'no motion'), ('coco', 'no detections')]
)
def test_outputs_that_the_network_does_not_give_are_refused(
    bag: Path, masks: Predictor, tmp_path: Path, save: str, words: str
):
    with pytest.raises(ConfigError, match=f'--save {save}: mobilenetv2_fpn_lite .*{words}'):
        replay_bag(open_input(bag, ()), tmp_path / 'out', masks, ReplayOptions(save=(save,)), progress=False)
    assert not (tmp_path / 'out').exists()


def test_an_online_replay_says_so_too(bag: Path, masks: Predictor, tmp_path: Path):
    with pytest.raises(ConfigError, match='--save depth: mobilenetv2_fpn_lite gives no depth'):
        replay_bag_online(open_input(bag, ()), tmp_path, masks, ReplayOptions(save=('depth',)), node_parameters={})
