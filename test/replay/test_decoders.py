"""Replays by networks of an encoder and decoders: masks without boxes, and depth and motion from image and flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drives import FIRST_NS, STEP_NS, frames, write

from sembox_ros.errors import ConfigError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.live_session import replay_bag_online
from sembox_ros.replay.scene_messages import view_image
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input


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
