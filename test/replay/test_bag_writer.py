"""What the network saw, written to bags, joined and read again."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.interfaces import QosDurability, QosReliability
from sample_bags import make_header, pixels_of

from sembox_ros.errors import DatasetError
from sembox_ros.labels import SceneLabels, load_scene_labels
from sembox_ros.replay import bag_writer
from sembox_ros.replay.bag_writer import SceneBagWriter, merge_bags
from sembox_ros.replay.bags import BagReader, open_bag, read_bag
from sembox_ros.replay.scene_messages import read_detections, view_image
from sembox_ros.types import Detections, Scene

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
SIZE_HW = (6, 5)
FRAME_TOPICS = (
    'segmentation/mask', 'segmentation/confidence', 'segmentation/color', 'overlay', 'detections', 'panoptic/instances',
    'panoptic/color',
)  # fmt: skip


def scene(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> Scene:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 500, (seed % 4, 2, 2)).astype(np.float32)
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    return Scene(
        size_hw,
        semantic=generator.integers(0, 19, size_hw, dtype=np.uint8),
        confidence=generator.integers(0, 256, size_hw, dtype=np.uint8),
        detections=Detections(
            boxes,
            generator.integers(0, 8, len(boxes)),
            generator.uniform(0, 1, len(boxes)).astype(np.float32),
            1 + generator.permutation(65535)[: len(boxes)],
        ),
        instances=generator.integers(0, 65536, size_hw, dtype=np.uint16),
    )


def write_scenes(path: Path, seeds: range, cameras: tuple[str, ...] = ('',)) -> Path:
    with SceneBagWriter(path, LABELS, 0.3) as writer:
        for seed in seeds:
            for camera in cameras:
                header = make_header(seed * 1000 + 7, 'left ü', ros1=seed % 2 == 1)
                pictures = {name: pixels_of(seed + i) for i, name in enumerate(('color', 'overlay', 'panoptic_color'))}
                writer.write(camera, header, seed * 1000 + 9, scene(seed), **pictures)
    return path


def check_scenes(path: Path, seeds: range, prefix: str = '/') -> None:
    by_topic: dict[str, list] = {}
    for entry in read_bag(path):
        by_topic.setdefault(entry.topic, []).append(entry)
    for topic in FRAME_TOPICS:
        entries = by_topic[prefix + topic]
        assert [entry.stamp_ns for entry in entries] == [seed * 1000 + 7 for seed in seeds]
        assert [entry.received_ns for entry in entries] == [seed * 1000 + 9 for seed in seeds]
        assert {entry.message.header.frame_id for entry in entries} == {'left ü'}
    for index, seed in enumerate(seeds):
        mask, confidence, color, overlay, boxes, instances, panoptic_color = (
            by_topic[prefix + topic][index].message for topic in FRAME_TOPICS
        )
        expected = scene(seed)
        np.testing.assert_array_equal(view_image(mask), expected.semantic)
        np.testing.assert_array_equal(view_image(confidence), expected.confidence)
        np.testing.assert_array_equal(view_image(color), pixels_of(seed))
        np.testing.assert_array_equal(view_image(overlay), pixels_of(seed + 1))
        np.testing.assert_array_equal(view_image(panoptic_color), pixels_of(seed + 2))
        np.testing.assert_array_equal(view_image(instances), expected.instances)
        read = read_detections(boxes, LABELS.detection)
        for name in ('boxes_xyxy', 'class_ids', 'scores', 'ids'):
            np.testing.assert_array_equal(getattr(read, name), getattr(expected.detections, name))
        assert all(detection.header == boxes.header for detection in boxes.detections)


def test_scenes_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / 'a', range(1, 8))
    check_scenes(path, range(1, 8))
    infos = list(read_bag(path, ['/segmentation/label_info', '/detections/label_info']))
    assert [(info.topic, info.received_ns, info.stamp_ns) for info in infos] == [
        ('/segmentation/label_info', 1009, 1007), ('/detections/label_info', 1009, 1007)
    ]  # fmt: skip
    assert infos[1].message.threshold == pytest.approx(0.3)
    assert infos[0].message.threshold == 0
    assert tuple(c.class_name for c in infos[0].message.class_map) == LABELS.semantic.names
    with open_bag(path) as reader:
        for connection in reader.connections:
            latched = [(q.durability, q.reliability) for q in connection.ext.offered_qos_profiles]
            wanted = [(QosDurability.TRANSIENT_LOCAL, QosReliability.RELIABLE)]
            assert latched == (wanted if connection.topic.endswith('label_info') else [])


def test_cameras_have_topics_of_their_own(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / 'a', range(1, 3), ('front', 'rear'))
    for camera in ('front', 'rear'):
        check_scenes(path, range(1, 3), f'/{camera}/')
    with BagReader(path) as reader:
        assert reader.announced['/rear/detections/label_info'] == 1


def test_only_what_is_there_is_written(tmp_path: Path) -> None:
    only_boxes = SceneLabels(semantic=None, detection=LABELS.detection)
    with SceneBagWriter(tmp_path / 'a', only_boxes, 0.5) as writer:
        writer.write('', make_header(5), -3, Scene(SIZE_HW, detections=Detections.empty()))
    assert [entry.topic for entry in read_bag(tmp_path / 'a')] == ['/detections/label_info', '/detections']


def test_a_bag_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / 'a', range(2))
    with pytest.raises(DatasetError, match=r'cannot be written: .* exists already'):
        SceneBagWriter(path, LABELS, 0.5)
    check_scenes(path, range(2))


def test_a_full_disk_is_one_clear_line_and_costs_no_finished_part(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / 'a', range(3))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DatasetError, match='cannot be written: File too large') as caught:
            write_scenes(tmp_path / 'b', range(3), tuple(f'camera_{i}' for i in range(400)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path / 'b') in str(caught.value)
    check_scenes(path, range(3))


# Parts


def test_parts_become_one_bag(tmp_path: Path) -> None:
    parts = [write_scenes(tmp_path / f'part{i}', seeds) for i, seeds in enumerate((range(3), range(3, 4), range(4, 7)))]
    merge_bags(parts, tmp_path / 'bag')
    assert sorted(file.name for file in (tmp_path / 'bag').iterdir()) == [
        'bag_0.mcap', 'bag_1.mcap', 'bag_2.mcap', 'metadata.yaml'
    ]  # fmt: skip
    check_scenes(tmp_path / 'bag', range(7))
    check_scenes(parts[2], range(4, 7))  # they stay as they were
    sizes = [(part / f'{part.name}.mcap').stat() for part in parts]
    assert [size.st_nlink for size in sizes] == [2, 2, 2]  # and share their data with the whole
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.announced['/overlay'] == 7
        assert reader.announced['/detections/label_info'] == 3  # each file can be read on its own
        assert reader.start_ns == 9
        assert reader.duration_s == pytest.approx(6000e-9)
        assert len(list(reader.messages())) == reader.announced.total()
        assert reader.lost == 0
    info = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert (info['version'], info['storage_identifier'], info['message_count']) == (9, 'mcap', 7 * 7 + 3 * 2)
    assert info['relative_file_paths'] == [file['path'] for file in info['files']]
    assert [file['message_count'] for file in info['files']] == [23, 9, 23]
    assert info['files'][2]['starting_time'] == {'nanoseconds_since_epoch': 4009}


def test_a_merge_replaces_what_an_interrupted_one_left(tmp_path: Path) -> None:
    parts = [write_scenes(tmp_path / f'part{i}', range(i, i + 1)) for i in range(3)]
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'bag_0.mcap').write_bytes(b'half')
    merge_bags(parts, tmp_path / 'bag')
    check_scenes(tmp_path / 'bag', range(3))
    merge_bags(parts[:2], tmp_path / 'bag')
    check_scenes(tmp_path / 'bag', range(2))


def test_parts_are_copied_where_files_cannot_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, 'Invalid cross-device link')

    monkeypatch.setattr(bag_writer.os, 'link', refuse)
    merge_bags([write_scenes(tmp_path / 'a', range(2))], tmp_path / 'bag')
    check_scenes(tmp_path / 'bag', range(2))


def test_what_cannot_be_merged_is_said_before_anything_is_written(tmp_path: Path) -> None:
    part = write_scenes(tmp_path / 'a', range(2))
    unfinished = tmp_path / 'b'
    unfinished.mkdir()
    with pytest.raises(DatasetError, match=r'b is no finished bag, it has no metadata\.yaml'):
        merge_bags([part, unfinished], tmp_path / 'bag')
    with pytest.raises(DatasetError, match='expected at least one part'):
        merge_bags([], tmp_path / 'bag')
    assert not (tmp_path / 'bag').exists()
    merge_bags([part], tmp_path / 'bag')
    check_scenes(tmp_path / 'bag', range(2))


def test_an_empty_part_does_no_harm(tmp_path: Path) -> None:
    with SceneBagWriter(tmp_path / 'a', LABELS, 0.5):
        pass
    merge_bags([tmp_path / 'a', write_scenes(tmp_path / 'b', range(2))], tmp_path / 'bag')
    check_scenes(tmp_path / 'bag', range(2))
