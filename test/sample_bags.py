"""Small bags of every kind that rosbags writes, of which every message is known."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.LATEST)
ROS1_STORE = get_typestore(Stores.ROS1_NOETIC)
IMAGE, COMPRESSED, STRING = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage', 'std_msgs/msg/String'
TOPIC = '/front/image_raw'
FIRST_NS, INTERVAL_NS = 1_700_000_000_123_456_789, 100_000_000

Row = tuple[str, str, int, Any]  # topic, type, time of recording in nanoseconds, message


def make_header(stamp_ns: int, frame_id: str = 'camera', *, ros1: bool = False) -> Any:
    types = (ROS1_STORE if ros1 else STORE).types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
    header_type = types['std_msgs/msg/Header']
    return header_type(seq=7, stamp=stamp, frame_id=frame_id) if ros1 else header_type(stamp=stamp, frame_id=frame_id)


def image_message(pixels: np.ndarray, stamp_ns: int, *, ros1: bool = False) -> Any:
    """pixels: (H, W, 3) uint8 rgb."""
    return (ROS1_STORE if ros1 else STORE).types[IMAGE](
        header=make_header(stamp_ns, ros1=ros1), height=pixels.shape[0], width=pixels.shape[1], encoding='rgb8',
        is_bigendian=0, step=pixels.shape[1] * 3, data=np.ascontiguousarray(pixels).reshape(-1),
    )  # fmt: skip


def compressed_message(data: bytes, stamp_ns: int, *, ros1: bool = False) -> Any:
    return (ROS1_STORE if ros1 else STORE).types[COMPRESSED](
        header=make_header(stamp_ns, ros1=ros1), format='png', data=np.frombuffer(data, np.uint8)
    )


def pixels_of(index: int, size_hw: tuple[int, int] = (6, 5)) -> np.ndarray:
    """Noise, so that nothing compresses well: a chunk of 1 MiB is one of 1 MiB."""
    return np.random.default_rng(index).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def image_rows(count: int, size_hw: tuple[int, int] = (6, 5), *, first: int = 0, ros1: bool = False) -> list[Row]:
    """Stamped `INTERVAL_NS` apart and recorded a millisecond later."""
    stamps = [FIRST_NS + i * INTERVAL_NS for i in range(first, first + count)]
    messages = [image_message(pixels_of(first + i, size_hw), stamp, ros1=ros1) for i, stamp in enumerate(stamps)]
    return [(TOPIC, IMAGE, stamp + 10**6, message) for stamp, message in zip(stamps, messages, strict=True)]


def write_rows(
    path: Path,
    rows: Sequence[Row],
    plugin: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A rosbag2 folder."""
    writer = Writer(path, version=9, storage_plugin=plugin)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        kinds = dict.fromkeys((topic, kind) for topic, kind, _, _ in rows)
        connections = {key: writer.add_connection(*key, typestore=STORE) for key in kinds}
        for topic, kind, received_ns, message in rows:
            writer.write(connections[topic, kind], received_ns, STORE.serialize_cdr(message, kind))
    return path


def write_ros1(path: Path, rows: Sequence[Row], compression: str = '') -> Path:
    """A ROS 1 .bag file; compression: bz2, lz4 or none."""
    writer = Ros1Writer(path)
    if compression:
        writer.set_compression(Ros1Writer.CompressionFormat[compression.upper()])
    with writer:
        kinds = dict.fromkeys((topic, kind) for topic, kind, _, _ in rows)
        connections = {key: writer.add_connection(*key, typestore=ROS1_STORE) for key in kinds}
        for topic, kind, received_ns, message in rows:
            writer.write(connections[topic, kind], received_ns, ROS1_STORE.serialize_ros1(message, kind))
    return path


def write_split(path: Path, rows: Sequence[Row], plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A rosbag2 folder of two files, as `ros2 bag record --max-bag-size` leaves it."""
    half = len(rows) // 2
    parts = [
        write_rows(path.with_name(f'{path.name}_{i}'), part, plugin)
        for i, part in enumerate((rows[:half], rows[half:]))
    ]
    infos = [yaml.safe_load((part / 'metadata.yaml').read_text())['rosbag2_bagfile_information'] for part in parts]
    path.mkdir()
    for part, info in zip(parts, infos, strict=True):
        [name] = info['relative_file_paths']
        shutil.move(part / name, path / name)
        shutil.rmtree(part)
    merged = {**infos[0], 'message_count': len(rows)}
    for key in ('relative_file_paths', 'files'):
        merged[key] = infos[0][key] + infos[1][key]
    counts = zip(infos[0]['topics_with_message_count'], infos[1]['topics_with_message_count'], strict=True)
    merged['topics_with_message_count'] = [
        {**a, 'message_count': a['message_count'] + b['message_count']} for a, b in counts
    ]
    merged['duration'] = {'nanoseconds': rows[-1][2] - rows[0][2]}
    (path / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': merged}))
    return path


def strip_definitions(path: Path) -> Path:
    """Make a sqlite3 bag one of ROS 2 Humble or older, which stores no message definitions."""
    [file] = path.glob('*.db3')
    connection = sqlite3.connect(file)
    connection.executescript('DROP TABLE message_definitions; UPDATE schema SET schema_version = 3;')
    connection.close()
    return path


def single_file(path: Path) -> Path:
    [file] = [f for f in path.iterdir() if f.suffix in ('.mcap', '.db3')]
    return file


SQLITE, MCAP = StoragePlugin.SQLITE3, StoragePlugin.MCAP
# How each kind of bag is made of a path and rows of ROS 2 messages.
KINDS: dict[str, Callable[[Path, Sequence[Row]], Path]] = {
    'mcap': write_rows,
    'mcap, zstd chunks': lambda path, rows: write_rows(path, rows, MCAP, CompressionMode.STORAGE),
    'mcap, zstd messages': lambda path, rows: write_rows(path, rows, MCAP, CompressionMode.MESSAGE),
    'mcap, zstd file': lambda path, rows: write_rows(path, rows, MCAP, CompressionMode.FILE),
    'mcap, two files': write_split,
    'mcap file': lambda path, rows: single_file(write_rows(path, rows)),
    'sqlite3': lambda path, rows: write_rows(path, rows, SQLITE),
    'sqlite3, zstd messages': lambda path, rows: write_rows(path, rows, SQLITE, CompressionMode.MESSAGE),
    'sqlite3, zstd file': lambda path, rows: write_rows(path, rows, SQLITE, CompressionMode.FILE),
    'sqlite3, two files': lambda path, rows: write_split(path, rows, SQLITE),
    'sqlite3 file': lambda path, rows: single_file(write_rows(path, rows, SQLITE)),
    'sqlite3, no definitions': lambda path, rows: strip_definitions(write_rows(path, rows, SQLITE)),
}
