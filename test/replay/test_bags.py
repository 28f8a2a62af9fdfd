"""Whole bags of every kind: what is in them, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sample_bags import (
    COMPRESSED,
    FIRST_NS,
    IMAGE,
    INTERVAL_NS,
    KINDS,
    STORE,
    STRING,
    TOPIC,
    compressed_message,
    image_message,
    image_rows,
    pixels_of,
    strip_definitions,
    write_ros1,
    write_rows,
)

from sembox_ros.decoding import decode_image
from sembox_ros.errors import DatasetError
from sembox_ros.replay.bags import (
    BagReader,
    camera_names,
    choose_image_topics,
    find_image_topics,
    read_bag,
)
from sembox_ros.replay.vision_messages import create_typestore


def check_content(path: Path, count: int = 6) -> None:
    with BagReader(path, [TOPIC]) as reader:
        entries = list(reader.messages())
        assert (reader.announced, reader.lost, reader.damage) == ({TOPIC: count}, 0, '')
        assert reader.start_ns == FIRST_NS + 10**6
        assert reader.duration_s == pytest.approx((count - 1) * INTERVAL_NS * 1e-9)
    assert len(entries) == count
    for index, entry in enumerate(entries):
        assert (entry.topic, entry.error) == (TOPIC, '')
        assert entry.stamp_ns == FIRST_NS + index * INTERVAL_NS
        assert entry.received_ns == entry.stamp_ns + 10**6
        assert entry.message.header.frame_id == 'camera'
        np.testing.assert_array_equal(decode_image(entry.message), pixels_of(index))


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_bag_gives_its_images(tmp_path: Path, kind: str) -> None:
    rows = image_rows(6)
    for where in (3, 0):  # so that both topics are in both files of a bag of two
        rows.insert(where, ('/note', STRING, rows[where][2], STORE.types[STRING](data='not an image')))
    path = KINDS[kind](tmp_path / 'drive', rows)
    check_content(path)
    assert choose_image_topics(path) == [(TOPIC, IMAGE, 6)]


@pytest.mark.parametrize('compression', ['', 'bz2', 'lz4'])
def test_ros1_bags_give_their_images(tmp_path: Path, compression: str) -> None:
    path = write_ros1(tmp_path / 'drive.bag', image_rows(6, ros1=True), compression)
    check_content(path)
    assert choose_image_topics(path) == [(TOPIC, IMAGE, 6)]


@pytest.mark.parametrize('ros1', [False, True])
def test_compressed_images(tmp_path: Path, ros1: bool) -> None:
    png = cv2.imencode('.png', pixels_of(0)[..., ::-1])[1].tobytes()
    rows = [(TOPIC, COMPRESSED, 1000, compressed_message(png, 5, ros1=ros1))]
    path = write_ros1(tmp_path / 'a.bag', rows) if ros1 else write_rows(tmp_path / 'a', rows)
    [entry] = read_bag(path)
    assert entry.stamp_ns == 5
    np.testing.assert_array_equal(decode_image(entry.message), pixels_of(0))
    assert choose_image_topics(path) == [(TOPIC, COMPRESSED, 1)]


def boxes_message() -> object:
    types = create_typestore().types
    header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](3, 4), 'left')
    return types['vision_msgs/msg/Detection2DArray'](header=header, detections=[])


def test_boxes_are_read_where_the_bag_has_no_definitions(tmp_path: Path) -> None:
    store = create_typestore()
    kind = 'vision_msgs/msg/Detection2DArray'
    with Writer(tmp_path / 'a', version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection('/boxes', kind, typestore=store)
        writer.write(connection, 7, store.serialize_cdr(boxes_message(), kind))
    [entry] = read_bag(strip_definitions(tmp_path / 'a'))
    assert (entry.stamp_ns, entry.message.detections) == (3 * 10**9 + 4, [])


def test_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    path = write_rows(tmp_path / 'a', image_rows(5))
    with BagReader(path) as reader:
        everything = [entry.received_ns for entry in reader.messages()]
        assert [entry.received_ns for entry in reader.messages()] == everything
        for skip in (0, 3, 5, 9):
            assert [entry.received_ns for entry in reader.messages(skip=skip)] == everything[skip:]
            assert reader.lost == 0


def test_messages_out_of_order_and_with_strange_stamps_are_all_delivered(tmp_path: Path) -> None:
    stamps = [5, 5, 0, 10**18, 3]
    rows = [(TOPIC, IMAGE, 1000 - i, image_message(pixels_of(i), stamp)) for i, stamp in enumerate(stamps)]
    with BagReader(write_rows(tmp_path / 'a', rows)) as reader:
        entries = list(reader.messages())
        assert reader.lost == 0
    assert [entry.received_ns for entry in entries] == [996, 997, 998, 999, 1000]
    assert [entry.stamp_ns for entry in entries] == stamps[::-1]


def test_topics_that_nobody_wants_are_not_read(tmp_path: Path) -> None:
    rows = [*image_rows(2), ('/note', STRING, FIRST_NS, STORE.types[STRING](data='x'))]
    path = write_rows(tmp_path / 'a', rows)
    [entry] = read_bag(path, ['/note'])
    assert (entry.message.data, entry.stamp_ns) == ('x', None)
    assert list(read_bag(path, ['/nothing'])) == []
    assert len(list(read_bag(path))) == 3


# Which topics


def bag_of_topics(path: Path, topics: dict[str, str]) -> Path:
    rows = []
    for name, kind in topics.items():
        if kind == IMAGE:
            message = image_message(pixels_of(0), 1)
        else:
            message = compressed_message(b'', 1) if kind == COMPRESSED else STORE.types[STRING](data='')
        rows.append((name, kind, 1, message))
    return write_rows(path, rows)


def test_ambiguous_topics_are_listed_or_named(tmp_path: Path) -> None:
    topics = {'/front/image_raw': IMAGE, '/rear/image_raw/compressed': COMPRESSED, '/note': STRING}
    path = bag_of_topics(tmp_path / 'a', topics)
    with pytest.raises(DatasetError) as caught:
        choose_image_topics(path)
    assert 'has several image topics, choose with --image-topic NAME or --image-topic all: ' in str(caught.value)
    assert '/front/image_raw (Image, 1 messages), /rear/image_raw/compressed (CompressedImage, 1' in str(caught.value)
    assert [topic.name for topic in choose_image_topics(path, ['all'])] == list(topics)[:2]
    both = ['/rear/image_raw/compressed', '/front/image_raw']
    assert [topic.name for topic in choose_image_topics(path, both)] == both
    assert choose_image_topics(path, both[1:] * 2) == [('/front/image_raw', IMAGE, 1)]


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('/note', "topic '/note' has the type std_msgs/msg/String, expected an image"),
        ('/front/image', "has no topic '/front/image'; did you mean '/front/image_raw'\\? there is: /front/image_raw"),
        ('/x', r"has no topic '/x'; there is: /front/image_raw \(sensor_msgs/msg/Image\), /note"),
    ],
)
def test_a_wrong_topic_is_one_clear_line(tmp_path: Path, name: str, reason: str) -> None:
    path = bag_of_topics(tmp_path / 'a', {'/front/image_raw': IMAGE, '/note': STRING})
    with pytest.raises(DatasetError, match=reason):
        choose_image_topics(path, [name])


def test_ground_truth_and_outputs_are_no_cameras(tmp_path: Path) -> None:
    foreign = [
        '/ground_truth/segmentation/mask',
        '/segmentation/mask',
        '/segmentation/color',
        '/overlay',
        '/front/overlay',
    ]
    foreign += ['/front/ground_truth/segmentation/mask', '/cam/compressedDepth', '/segmentation/confidence']
    foreign += ['/depth', '/front/motion/mask']
    path = bag_of_topics(tmp_path / 'a', {'/cam/overlayed': IMAGE, **dict.fromkeys(foreign, IMAGE)})
    assert [topic.name for topic in choose_image_topics(path)] == ['/cam/overlayed']
    assert len(find_image_topics(path)) == 11
    assert choose_image_topics(path, ['/overlay']) == [('/overlay', IMAGE, 1)]
    path = bag_of_topics(tmp_path / 'b', dict.fromkeys(foreign, IMAGE))
    for topics in ([], ['all']):
        with pytest.raises(DatasetError, match="has no camera's image topic; topics in it: /cam/compressedDepth"):
            choose_image_topics(path, topics)


def test_a_bag_without_images_says_what_it_has(tmp_path: Path) -> None:
    path = bag_of_topics(tmp_path / 'a', {'/note': STRING})
    with pytest.raises(DatasetError, match=r"no camera's image topic; topics in it: /note \(std_msgs/msg/String\)"):
        choose_image_topics(path)
    with Writer(tmp_path / 'b', version=9):
        pass
    with pytest.raises(DatasetError, match='topics in it: none'):
        choose_image_topics(tmp_path / 'b')
    assert list(read_bag(tmp_path / 'b')) == []


def test_an_image_type_of_somebodys_own_is_refused(tmp_path: Path) -> None:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg('string height\n', IMAGE))
    with Writer(tmp_path / 'a', version=9) as writer:
        connection = writer.add_connection('/a', IMAGE, typestore=store)
        writer.write(connection, 1, store.serialize_cdr(store.types[IMAGE]('x'), IMAGE))
    with pytest.raises(DatasetError, match='/a has a sensor_msgs/msg/Image of its own, not that of ROS'):
        choose_image_topics(tmp_path / 'a')


@pytest.mark.parametrize(
    ('topics', 'names'),
    [
        (['/camera/image_raw'], ['']),
        (['/front/image_raw', '/rear/image_raw'], ['front', 'rear']),
        (['/cameras/front/image_raw/compressed', '/cameras/rear/image_rect_color'], ['cameras/front', 'cameras/rear']),
        (['/front/image_raw', '/front/image_raw/compressed'], ['front/image_raw', 'front/image_raw/compressed']),
        (['/image', '/rear/image'], ['image', 'rear']),
        (['/a/left', '/a/right'], ['a/left', 'a/right']),
        (['image', '/image', '/a/image'], ['image', 'image_2', 'a']),
    ],
)
def test_cameras_have_short_names(topics: list[str], names: list[str]) -> None:
    assert camera_names(topics) == names


PATHS = st.lists(st.sampled_from(['a', 'b', 'image', 'image_raw', 'compressed', 'a_2']), min_size=1, max_size=4)


@given(st.lists(PATHS.map('/'.join), unique=True, max_size=6))
def test_cameras_have_unique_names(topics: list[str]) -> None:
    names = camera_names([f'/{topic}' for topic in topics])
    assert len(set(names)) == len(topics)
    assert len(topics) == 1 or all(name and name == name.strip('/') for name in names)
