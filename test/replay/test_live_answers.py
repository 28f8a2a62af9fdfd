"""What a node published, put together to the frames that were played."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from drives import LABELS

from sembox_ros.labels import SceneLabels
from sembox_ros.replay.bag_writer import BagWriter, SceneBagWriter
from sembox_ros.replay.exchange import LiveFrame
from sembox_ros.replay.live import LiveRun
from sembox_ros.replay.live_session import read_answers
from sembox_ros.replay.scene_messages import DETECTIONS, IMAGE, MessageEncoder
from sembox_ros.types import Detections, Scene

SIZE_HW = (4, 6)
PARTS = frozenset({'semantic', 'detections', 'instances'})


def scene(number: int) -> Scene:
    """A car with this number in its own half of the picture, as far away as its number, that moves."""
    car, road = LABELS.semantic.names.index('car'), LABELS.semantic.names.index('road')
    instances = np.zeros(SIZE_HW, np.uint16)
    instances[:, :3] = number
    box = np.array([[0, 0, 3, 4]], np.float32)
    return Scene(
        SIZE_HW,
        np.where(instances, car, road).astype(np.uint8),
        detections=Detections(box, np.array([2]), np.array([0.75], np.float32), np.array([number])),
        instances=instances,
        depth=np.full(SIZE_HW, number, np.float32),
        motion=instances > 0,
    )


def live_run(recorded: Path, stamps: list[int], cameras: list[str]) -> LiveRun:
    frames = [
        LiveFrame(camera, stamp, stamp, played_ns=stamp, answered_ns=stamp + 1)
        for stamp, camera in zip(stamps, cameras, strict=True)
    ]
    return LiveRun(recorded, None, 1.0, frames, [], [])


def test_an_answer_is_mask_boxes_and_instances(tmp_path: Path):
    make_header = MessageEncoder().make_header
    cameras = ['left', 'right', 'left', 'right']
    stamps = [10, 10, 20, 20]
    with SceneBagWriter(tmp_path / 'bag', LABELS, 0.5) as writer:
        for index, (stamp, camera) in enumerate(zip(stamps, cameras, strict=True)):
            seen = scene(100 + index)
            if index == 2:  # its instances never came
                seen = dataclasses.replace(seen, instances=None)
            if index == 1:  # nor did depth
                seen = dataclasses.replace(seen, depth=None)
            writer.write(camera, make_header(stamp, ''), stamp, seen)
    run = live_run(tmp_path / 'bag', stamps, cameras)
    answers = list(read_answers(run, LABELS, PARTS))
    assert [record.problem for record, _ in answers] == ['', '', 'only a part of the answer came', '']
    for index in (0, 1, 3):
        expected, found = scene(100 + index), answers[index][1]
        np.testing.assert_array_equal(found.semantic, expected.semantic)
        np.testing.assert_array_equal(found.instances, expected.instances)
        assert found.detections.ids.tolist() == [100 + index]
        assert found.depth is found.motion is None
    for record, found in read_answers(run, LABELS, frozenset({'semantic', 'confidence'})):  # a network for masks alone
        assert record.problem == ''
        assert found is not None
        assert found.semantic is not None
        assert found.detections is found.instances is None
    answers = list(read_answers(run, LABELS, frozenset({'depth', 'motion'})))
    assert [record.problem for record, _ in answers] == ['', 'only a part of the answer came', '', '']
    for index in (0, 2, 3):
        expected, found = scene(100 + index), answers[index][1]
        np.testing.assert_array_equal(found.depth, expected.depth)
        np.testing.assert_array_equal(found.motion, expected.motion)
    unlinked = SceneLabels(LABELS.semantic, LABELS.detection)  # a network whose boxes are of other classes
    answers = list(read_answers(run, unlinked, PARTS - {'instances'}))
    assert [record.problem for record, _ in answers] == [''] * 4
    assert all(found.instances is None for _, found in answers)


def test_a_message_that_is_none_of_ours_costs_its_frame_only(tmp_path: Path):
    with BagWriter(tmp_path / 'bag') as writer:
        encoder = writer.encoder
        for stamp in (10, 20):
            header, seen = encoder.make_header(stamp, ''), scene(3)
            instances = encoder.encode_image(seen.instances, '16UC1', header)
            instances.encoding = '32FC1' if stamp == 10 else '16UC1'
            writer.write('/segmentation/mask', IMAGE, stamp, encoder.encode_image(seen.semantic, 'mono8', header))
            writer.write('/detections', DETECTIONS, stamp, encoder.encode_detections(seen.detections, header))
            writer.write('/panoptic/instances', IMAGE, stamp, instances)
    answers = list(read_answers(live_run(tmp_path / 'bag', [10, 20], ['', '']), LABELS, PARTS))
    assert [record.problem for record, _ in answers] == ['only a part of the answer came', '']
