from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from drives import FIRST_NS, STEP_NS, frames, write
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from sample_bags import TOPIC, image_message, pixels_of, write_ros1, write_rows

from sembox_ros.config import DetectionConfig
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import CITYSCAPES_19, COCO_90, SceneLabels
from sembox_ros.replay.bags import BagMessage, read_bag
from sembox_ros.replay.frames import AHEAD, FrameReader
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input
from sembox_ros.replay.truth import BagTruth

CAMERA = {'/camera/image_raw': ''}
IMAGE = 'sensor_msgs/msg/Image'


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'replay-read']


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp('drive') / 'drive', AHEAD + 8, size_hw=(64, 128))


def test_frames_come_decoded_and_in_order(bag: Path):
    with FrameReader(bag, CAMERA) as reader:
        found = list(reader)
    assert [frame.index for frame in found] == list(range(AHEAD + 8))
    assert [frame.stamp_ns for frame in found] == [FIRST_NS + i * STEP_NS for i in range(AHEAD + 8)]
    for frame, known in zip(found, frames(AHEAD + 8, size_hw=(64, 128)), strict=True):
        np.testing.assert_array_equal(frame.image, known.image)
        assert frame.problem == ''
        assert set(frame.timings_ms) == {'read', 'decode'}
    assert reader.lost == 0
    assert readers() == []


def test_frames_that_are_done_are_passed_over_but_not_their_truth(bag: Path, tmp_path: Path):
    topics = {'/ground_truth/segmentation/mask': '', '/ground_truth/detections': ''}
    truth = BagTruth(topics, SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90), tmp_path)
    with FrameReader(bag, CAMERA, truth=truth, first=20) as reader:
        assert [frame.index for frame in reader] == list(range(20, AHEAD + 8))
    assert truth.find('', FIRST_NS).semantic.shape == (64, 128)
    assert truth.find('', FIRST_NS).boxes_xyxy.shape == (1, 4)


def test_frames_know_the_one_before_also_where_a_replay_goes_on(bag: Path):
    images = [frame.image for frame in frames(AHEAD + 8, size_hw=(64, 128))]
    for first in (0, 3):
        with FrameReader(bag, CAMERA, first=first, with_previous=True) as reader:
            for frame in reader:
                if frame.index == 0:
                    assert frame.previous is None
                else:
                    np.testing.assert_array_equal(frame.previous, images[frame.index - 1])
    with FrameReader(bag, CAMERA) as reader:
        assert all(frame.previous is None for frame in reader)


def test_leaving_early_ends_the_thread(bag: Path):
    with FrameReader(bag, CAMERA) as reader:
        assert next(iter(reader)).index == 0
        assert len(readers()) == 1
    assert readers() == []


def test_an_error_in_the_thread_reaches_the_consumer(bag: Path, tmp_path: Path):
    class FullDisk(BagTruth):
        def add(self, entry: BagMessage) -> None:  # noqa: ARG002 (fails whatever comes)
            raise OSError(28, 'No space left on device')

    truth = FullDisk({'/ground_truth/detections': ''}, SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90), tmp_path)
    with FrameReader(bag, CAMERA, truth=truth) as reader, pytest.raises(OSError, match='No space left'):
        list(reader)
    assert readers() == []


def test_what_cannot_be_used_comes_with_its_reason(tmp_path: Path):
    short = image_message(pixels_of(0), 5)
    short.data = short.data[:-1]
    good = image_message(pixels_of(1, (6, 5)), 7)
    bag = write_rows(tmp_path / 'bag', [(TOPIC, IMAGE, 1, short), (TOPIC, IMAGE, 2, good)])
    with FrameReader(bag, {TOPIC: 'front'}, max_pixels=30) as reader:
        first, second = reader
    assert first.problem.startswith('image.data: expected 90 bytes')
    assert (first.image, first.camera, first.stamp_ns) == (None, 'front', 5)
    assert (second.problem, second.received_ns) == ('', 2)
    with FrameReader(bag, {TOPIC: 'front'}, max_pixels=29) as reader:
        assert all('expected at most 29 pixels' in frame.problem for frame in reader)


def test_messages_in_damaged_parts_are_counted(tmp_path: Path):
    rows = [(TOPIC, IMAGE, i + 1, image_message(pixels_of(i, (300, 400)), i + 1)) for i in range(9)]
    bag = write_rows(tmp_path / 'bag', rows, StoragePlugin.MCAP, CompressionMode.STORAGE)
    [file] = bag.glob('*.mcap')
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300_000] = b'\xff' * 300_000  # more than a block of zstd
    file.write_bytes(data)
    with FrameReader(bag, {TOPIC: ''}) as reader:
        found = list(reader)
    assert 0 < len(found) < 9
    assert reader.lost == 9 - len(found)


@pytest.mark.parametrize('kind', ['ros1', 'lz4', 'jpeg'])
def test_bags_of_other_kinds_give_the_same_results(tmp_path: Path, tiny_checkpoint_path: Path, kind: str):
    """A ROS 1 bag, one in compressed chunks, and one of jpeg: what is written has the headers of the input."""
    known = list(frames(3))
    if kind == 'jpeg':
        bag = write(tmp_path / 'drive', 3, compressed=True)
    else:
        rows = [
            (TOPIC, IMAGE, f.stamp_ns + 1000, image_message(f.image, f.stamp_ns, ros1=True)) for f in known
        ]
        bag = write_ros1(tmp_path / 'drive.bag', rows, '' if kind == 'ros1' else 'lz4')
    predictor = Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch')
    low = DetectionConfig(score_threshold=0.0, max_detections=5)
    options = ReplayOptions(detection=low, save=('overlay',), batch=2)
    report = replay_bag(open_input(bag, ()), tmp_path / 'out', predictor, options, progress=False)
    assert report['frames']['processed'] == 3
    seen = list(read_bag(tmp_path / 'out' / 'bag', ['/segmentation/mask', '/overlay']))
    delay_ns = 0 if kind == 'jpeg' else 1000
    assert [(e.stamp_ns, e.received_ns - e.stamp_ns) for e in seen if e.topic == '/overlay'] == [
        (f.stamp_ns, delay_ns) for f in known
    ]
    if kind != 'jpeg':
        scenes = predictor.predict([f.image for f in known], detection=low)
        masks = [e.message.data for e in seen if e.topic == '/segmentation/mask']
        for scene, data in zip(scenes, masks, strict=True):
            np.testing.assert_array_equal(scene.semantic.reshape(-1), data)
