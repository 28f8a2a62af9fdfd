"""Bags with ground truth, written and read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sembox_ros.data.streets import render_sequence
from sembox_ros.decoding import decode_depth, decode_image, decode_instances, decode_mask
from sembox_ros.errors import DatasetError, InputError
from sembox_ros.labels import load_scene_labels
from sembox_ros.replay.bags import choose_image_topics, read_bag
from sembox_ros.replay.drive import DriveFrame, write_drive, write_image_bag
from sembox_ros.replay.scene_messages import read_detections, read_is_crowd, read_motion, view_image

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')


def image(seed: int, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rendered(camera: str = '') -> list[DriveFrame]:
    to_detection = {semantic: detection for detection, semantic in LABELS.thing_links.items()}
    return [
        DriveFrame(
            stamp_ns=10**18 + frame.stamp_ns, image=frame.image, semantic=frame.semantic, boxes_xyxy=frame.boxes_xyxy,
            class_ids=np.array([to_detection[int(i)] for i in frame.class_ids], np.int64), is_crowd=frame.is_crowd,
            ids=frame.track_ids, instances=frame.instance.astype(np.uint16), depth=frame.depth, motion=frame.motion,
            camera=camera,
        )
        for frame in render_sequence(frames=3, size_hw=(64, 128), seed=1, geometry=True)
    ]  # fmt: skip


@pytest.mark.parametrize('compressed', [False, True])
def test_a_drive_comes_back_with_its_truth(tmp_path: Path, compressed: bool) -> None:
    frames = rendered()
    path = tmp_path / 'drive'
    assert write_drive(path, frames, labels=LABELS, compressed=compressed) == 3
    [topic] = choose_image_topics(path)
    assert topic.name == '/camera/image_raw/compressed' if compressed else '/camera/image_raw'
    entries = list(read_bag(path))
    by_topic = {name: [e for e in entries if e.topic == name] for name in {e.topic for e in entries}}
    assert len(by_topic) == 8
    for name, labels in (('segmentation', LABELS.semantic), ('detections', LABELS.detection)):
        [info] = by_topic[f'/ground_truth/{name}/label_info']
        assert tuple(c.class_name for c in info.message.class_map) == labels.names
        assert info.received_ns == frames[0].stamp_ns
    assert len(frames[0].boxes_xyxy) > 2
    for index, frame in enumerate(frames):
        truth = ('segmentation/mask', 'detections', 'panoptic/instances', 'depth', 'motion/mask')
        shown, mask, boxes, instances, depth, motion = (
            by_topic[name][index] for name in (topic.name, *(f'/ground_truth/{name}' for name in truth))
        )
        for entry in (shown, mask, boxes, instances, depth, motion):
            assert (entry.stamp_ns, entry.received_ns) == (frame.stamp_ns, frame.stamp_ns)
            assert entry.message.header.frame_id == 'camera'
        difference = np.abs(decode_image(shown.message).astype(int) - frame.image).mean()
        assert difference < 5 if compressed else difference == 0
        np.testing.assert_array_equal(decode_mask(mask.message), frame.semantic)
        read = read_detections(boxes.message, LABELS.detection)
        np.testing.assert_array_equal(read.boxes_xyxy, frame.boxes_xyxy)
        np.testing.assert_array_equal(read.class_ids, frame.class_ids)
        np.testing.assert_array_equal(read.ids, frame.ids)
        np.testing.assert_array_equal(read_is_crowd(boxes.message), frame.is_crowd)
        np.testing.assert_array_equal(decode_instances(instances.message), frame.instances)
        np.testing.assert_array_equal(np.isnan(view_image(depth.message)), frame.depth == 0)  # as REP 118 has it
        assert (frame.depth == 0).any()
        np.testing.assert_array_equal(decode_depth(depth.message), frame.depth)
        np.testing.assert_array_equal(read_motion(motion.message), frame.motion)
    assert {0, 1, 255} == set(np.unique([frame.motion for frame in frames]))


def test_cameras_have_topics_of_their_own(tmp_path: Path) -> None:
    frames = [frame for pair in zip(rendered('front'), rendered('rear'), strict=True) for frame in pair]
    write_drive(tmp_path / 'a', frames, labels=LABELS, topic='/image_raw')
    assert [topic.name for topic in choose_image_topics(tmp_path / 'a', ['all'])] == [
        '/front/image_raw',
        '/rear/image_raw',
    ]
    topics = {entry.topic for entry in read_bag(tmp_path / 'a')}
    assert '/rear/ground_truth/segmentation/mask' in topics
    assert '/front/ground_truth/detections/label_info' in topics


def test_what_is_not_known_is_not_written(tmp_path: Path) -> None:
    known = rendered()[1]
    frames = [DriveFrame(5, image(0)), DriveFrame(6, known.image, semantic=known.semantic)]
    write_drive(tmp_path / 'a', frames, labels=LABELS)
    counts = [entry.topic for entry in read_bag(tmp_path / 'a')]
    assert counts.count('/ground_truth/segmentation/mask') == 1
    assert '/ground_truth/detections' not in counts
    with pytest.raises(DatasetError, match='expected the label sets of the ground truth, got None'):
        write_drive(tmp_path / 'b', frames, labels=None)
    assert not (tmp_path / 'b').exists()
    write_drive(tmp_path / 'c', [DriveFrame(5, image(0), depth=np.ones((6, 5), np.float32))], labels=None)
    assert [entry.topic for entry in read_bag(tmp_path / 'c')] == ['/camera/image_raw', '/ground_truth/depth']


def test_an_instance_has_a_box(tmp_path: Path) -> None:
    [frame, *_] = rendered()
    for wrong, message in (
        ({'ids': frame.ids + 40_000}, r'instances: expected 0 or the id of a box, got \d+'),
        ({'instances': frame.instances[1:]}, r'instances: expected shape \(64, 128\), got \(63, 128\)'),
        ({'ids': frame.ids[:1]}, 'ids: expected shape'),
    ):
        with pytest.raises(InputError, match=message):
            write_drive(tmp_path / 'a', [dataclasses.replace(frame, **wrong)], labels=LABELS)
    assert not (tmp_path / 'a').exists()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stamps=st.lists(st.integers(0, 2**31 * 10**9 - 1), min_size=1, max_size=4, unique=True),
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=4, max_size=4),
)
def test_written_images_are_read_back(tmp_path: Path, stamps: list[int], sizes: list[tuple[int, int]]) -> None:
    stamps = sorted(stamps)
    frames = [(stamp, image(i, *sizes[i])) for i, stamp in enumerate(stamps)]
    assert write_image_bag(tmp_path / 'bag', frames, topic='/cam', frame_id='f') == len(frames)
    entries = list(read_bag(tmp_path / 'bag'))
    assert [e.stamp_ns for e in entries] == stamps
    for (_, written), entry in zip(frames, entries, strict=True):
        assert (view_image(entry.message) == written).all()


def test_a_bag_is_replaced_but_a_foreign_folder_is_not(tmp_path: Path) -> None:
    write_image_bag(tmp_path / 'bag', [(1, image(0)), (2, image(1))], topic='/a')
    write_image_bag(tmp_path / 'bag', [(1, image(0))], topic='/a')
    assert len(list(read_bag(tmp_path / 'bag'))) == 1
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('x')
    with pytest.raises(DatasetError, match='cannot be written'):
        write_image_bag(tmp_path / 'mine', [(1, image(0))], topic='/a')
    assert (tmp_path / 'mine' / 'thesis.tex').read_text() == 'x'


def test_what_ends_early_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[tuple[int, np.ndarray]]:
        yield 1, image(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_image_bag(tmp_path / 'bag', frames(), topic='/a')
    assert not (tmp_path / 'bag').exists()
