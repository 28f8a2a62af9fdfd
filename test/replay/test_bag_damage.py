"""Damaged, foreign and hostile bags: one clear line, or as many messages as can be read."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from sample_bags import (
    FIRST_NS,
    IMAGE,
    INTERVAL_NS,
    KINDS,
    STORE,
    TOPIC,
    image_rows,
    pixels_of,
    single_file,
    strip_definitions,
    write_ros1,
    write_rows,
    write_split,
)

from sembox_ros.errors import DatasetError
from sembox_ros.replay.bags import BagReader, choose_image_topics, find_image_topics, read_bag

LARGE_HW = (250, 250)  # 6 to a chunk of 1 MiB


def overwrite(file: Path, start: float, size: int, value: int = 0xFF) -> None:
    data = bytearray(file.read_bytes())
    at = int(len(data) * start)
    data[at : at + size] = bytes([value]) * size
    file.write_bytes(data)


def survivors(path: Path) -> tuple[list[int], BagReader]:
    """Indices of the images that came, each as it was written."""
    with BagReader(path, [TOPIC]) as reader:
        found = []
        for entry in reader.messages():
            if entry.error:
                continue
            index = (entry.received_ns - 10**6 - FIRST_NS) // INTERVAL_NS
            if np.array_equal(entry.message.data, pixels_of(index, LARGE_HW).reshape(-1)):
                found.append(index)
    return found, reader


@pytest.mark.parametrize('start', [0.01, 0.3, 0.6, 0.9])
def test_a_damaged_chunk_costs_what_is_in_it(tmp_path: Path, start: float) -> None:
    path = write_rows(tmp_path / 'a', image_rows(24, LARGE_HW), compression=CompressionMode.STORAGE)
    overwrite(single_file(path), start, 150_000)
    found, reader = survivors(path)
    assert reader.lost == 6
    assert reader.damage
    assert found == [i for i in range(24) if i // 6 != int(start * 4)]
    with pytest.raises(DatasetError, match='is damaged, 6 messages are lost: '):
        list(read_bag(path, [TOPIC]))


def test_two_damaged_chunks_do_not_cost_the_one_between(tmp_path: Path) -> None:
    path = write_rows(tmp_path / 'a', image_rows(30, LARGE_HW), compression=CompressionMode.STORAGE)
    for start in (0.3, 0.7):
        overwrite(single_file(path), start, 150_000)
    found, reader = survivors(path)
    assert (found, reader.lost) == ([*range(6), *range(12, 18), *range(24, 30)], 12)


@pytest.mark.parametrize('compression', ['bz2', 'lz4'])
def test_a_damaged_chunk_of_ros1_costs_what_is_in_it(tmp_path: Path, compression: str) -> None:
    path = write_ros1(tmp_path / 'a.bag', image_rows(18, LARGE_HW, ros1=True), compression)
    overwrite(path, 0.5, 150_000, 0x55)
    found, reader = survivors(path)
    assert (found, reader.lost) == ([*range(6), *range(12, 18)], 6)


@pytest.mark.parametrize(('plugin', 'start'), [(StoragePlugin.MCAP, 0.505), (StoragePlugin.SQLITE3, 0.53)])
def test_a_damaged_compressed_message_costs_itself(tmp_path: Path, plugin: StoragePlugin, start: float) -> None:
    path = write_rows(tmp_path / 'a', image_rows(12, LARGE_HW), plugin, CompressionMode.MESSAGE)
    overwrite(single_file(path), start, 140_000 if plugin is StoragePlugin.MCAP else 50_000)
    found, reader = survivors(path)
    assert (found, reader.lost) == ([i for i in range(12) if i != 6], 1)


def test_a_damaged_file_of_two_does_not_cost_the_other(tmp_path: Path) -> None:
    path = write_split(tmp_path / 'a', image_rows(12, LARGE_HW))
    overwrite(sorted(path.glob('*.mcap'))[0], 0.2, 600_000)
    found, reader = survivors(path)
    assert (found, reader.lost) == ([*range(6, 12)], 6)


def test_a_message_that_cannot_be_decoded_is_delivered_as_such(tmp_path: Path) -> None:
    rows = image_rows(3)
    path = tmp_path / 'a'
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE)
        for index, (_, kind, received_ns, message) in enumerate(rows):
            raw = STORE.serialize_cdr(message, kind)
            writer.write(connection, received_ns, raw[:30] if index == 1 else raw)
    with BagReader(path) as reader:
        entries = list(reader.messages())
        assert (reader.lost, reader.damage) == (0, '')
    assert [bool(entry.error) for entry in entries] == [False, True, False]
    assert (entries[1].message, entries[1].stamp_ns) == (None, None)
    assert entries[1].received_ns == rows[1][2]
    assert entries[1].error.startswith('not readable: ')
    with pytest.raises(DatasetError, match=f'a message on {TOPIC} is not readable'):
        list(read_bag(path))


# What cannot be opened


def assert_one_line(path: Path, *expected: str) -> None:
    with pytest.raises(DatasetError) as caught:
        choose_image_topics(path)
    text = str(caught.value)
    assert '\n' not in text
    assert len(text) < 700
    assert str(path) in text
    for part in expected:
        assert part in text


@pytest.mark.parametrize(
    ('name', 'content', 'expected'),
    [
        ('x.mcap', b'', 'is empty'),
        ('x.db3', b'', 'is empty'),
        ('x.bag', b'', 'is empty'),
        ('x.mcap', b'\x89PNG\r\n\x1a\n' + bytes(100), 'it is no .mcap file, it starts with'),
        ('x.db3', b'junk' * 100, 'it is no .db3 file'),
        ('x.bag', b'#ROSBAG V1.2\n', 'it is no .bag file'),
        ('x.bag', b'#ROSBAG V2.0\n', 'cannot be read'),
        ('x.mcap', b'\x89MCAP0\r\n' + bytes(50), 'truncated'),
        ('x.mcap', b'\x89MCAP0\r\n', 'cannot be read'),
        ('x.txt', b'words', 'is no bag by its name; expected a rosbag2 folder, or an .mcap, .db3 or ROS 1 .bag file'),
    ],
)
def test_a_foreign_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert_one_line(tmp_path / name, expected)


def test_what_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    assert_one_line(tmp_path / 'none.mcap', 'does not exist')
    assert_one_line(tmp_path, 'is a folder without metadata.yaml; expected a rosbag2 folder')
    path = write_rows(tmp_path / 'a', image_rows(2))
    (path / 'metadata.yaml').unlink()
    assert_one_line(path, 'has no metadata.yaml; `ros2 bag reindex` writes it')
    path = write_split(tmp_path / 'b', image_rows(4))
    sorted(path.glob('*.mcap'))[0].unlink()
    assert_one_line(path, 'Some database files are missing', 'b_0.mcap')


@pytest.mark.parametrize('share', [0.1, 0.5, 0.999])
def test_a_truncated_recording_says_what_mends_it(tmp_path: Path, share: float) -> None:
    path = write_split(tmp_path / 'a', image_rows(20, (50, 50)))
    file = sorted(path.glob('*.mcap'))[1]
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    for broken in (path, file):
        assert_one_line(broken, 'a_1.mcap cannot be read: it is truncated', '`mcap recover`')


def change_metadata(path: Path, old: str, new: str) -> Path:
    file = path / 'metadata.yaml'
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return path


LAUGHS = 'a0: &a0 [x]\n' + ''.join(f'a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n' for i in range(1, 60))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', 'expected 1 to 1048576 bytes, got 0'),
        ('x' * 2_000_000, 'expected 1 to 1048576 bytes, got 2000000'),
        ('[' * 500_000, 'is not what rosbag2 writes'),
        (LAUGHS, 'is not what rosbag2 writes'),
        ('a: {', 'metadata.yaml is not readable'),
        ('\0', 'metadata.yaml is not readable'),
        ('[]', 'cannot be read'),
        ('words', 'cannot be read'),
        ('rosbag2_bagfile_information: 5', 'cannot be read'),
        ('rosbag2_bagfile_information: {version: 5}', 'A metadata key is missing'),
    ],
    ids=lambda text: text[:12],
)
def test_hostile_metadata_is_refused_at_once(tmp_path: Path, text: str, expected: str) -> None:
    path = write_rows(tmp_path / 'a', image_rows(1))
    (path / 'metadata.yaml').write_text(text)
    start = time.perf_counter()
    assert_one_line(path, expected)
    assert time.perf_counter() - start < 10


def test_what_rosbags_does_not_know_is_said(tmp_path: Path) -> None:
    path = write_rows(tmp_path / 'a', image_rows(1), compression=CompressionMode.FILE)
    change_metadata(path, 'compression_format: zstd', 'compression_format: lz5')
    assert_one_line(path, "Compression format 'lz5' is not supported")
    path = write_rows(tmp_path / 'b', image_rows(1))
    assert_one_line(change_metadata(path, 'mcap', 'tape'), 'tape')
    (tmp_path / 'c.mcap').mkdir()
    assert_one_line(tmp_path / 'c.mcap', 'is a folder without metadata.yaml')


# Anything at all

SAMPLES = {
    'a.mcap': lambda folder: single_file(write_rows(folder / 'a', image_rows(3))),
    'b.mcap': lambda folder: single_file(write_rows(folder / 'b', image_rows(3), compression=CompressionMode.STORAGE)),
    'c.db3': lambda folder: single_file(write_rows(folder / 'c', image_rows(3), StoragePlugin.SQLITE3)),
    'd.db3': lambda folder: single_file(strip_definitions(KINDS['sqlite3'](folder / 'd', image_rows(3)))),
    'e.bag': lambda folder: write_ros1(folder / 'e.bag', image_rows(3, ros1=True)),
    'f.bag': lambda folder: write_ros1(folder / 'f.bag', image_rows(3, ros1=True), 'lz4'),
}


@pytest.fixture(scope='module')
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp('samples')
    return {name: make(folder).read_bytes() for name, make in SAMPLES.items()}


def read_all(path: Path) -> None:
    """Every image topic and every message, or a DatasetError."""
    try:
        find_image_topics(path)
        with BagReader(path) as reader:
            for entry in reader.messages():
                assert (entry.message is None) == bool(entry.error)
            assert reader.lost >= 0
    except DatasetError:
        pass


ANY_TIME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY_TIME
@given(name=st.sampled_from(['x.mcap', 'x.db3', 'x.bag']), start=st.booleans(), data=st.binary(max_size=300))
def test_random_files(tmp_path: Path, name: str, start: bool, data: bytes) -> None:
    signature = {'x.mcap': b'\x89MCAP0\r\n', 'x.db3': b'SQLite format 3\0', 'x.bag': b'#ROSBAG V2.0\n'}[name]
    end = signature if name == 'x.mcap' else b''
    (tmp_path / name).write_bytes(signature + data + end if start else data)
    read_all(tmp_path / name)


@ANY_TIME
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    cut=st.none() | st.floats(0, 1),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9) | st.just(b'\xff' * 8)),
        max_size=4,
    ),
)
def test_mutated_files(
    tmp_path: Path, samples: dict[str, bytes], name: str, cut: float | None, changes: list[tuple[float, bytes]]
) -> None:
    data = bytearray(samples[name])
    for where, junk in changes:
        at = int(where * len(data))
        data[at : at + len(junk)] = junk
    if cut is not None:
        del data[int(cut * len(data)) :]
    (tmp_path / name).write_bytes(data)
    read_all(tmp_path / name)
