"""Bags of images, read and written without ROS, through the library rosbags."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from sembox_ros.errors import DatasetError

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


class BagMessage(NamedTuple):
    """One message of a bag.

    Attributes:
        topic: its name.
        received_ns: when it was recorded, nanoseconds.
        stamp_ns: its header's stamp in nanoseconds, or None if it has no header.
        message: fields as the bag's own definition names them.
    """

    topic: str
    received_ns: int
    stamp_ns: int | None
    message: Any


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """Open a rosbag2 folder, an .mcap, .db3 or ROS 1 .bag file.

    Raises:
        DatasetError: missing, foreign, empty or damaged.
    """
    if not path.exists():
        raise DatasetError(f'bag: {path} does not exist')
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
            yield reader
    except AnyReaderError as error:
        raise DatasetError(f'bag: {path} cannot be read: {error}') from error


def choose_image_topic(path: Path, topic: str | None = None) -> tuple[str, str, int]:
    """The image topic of a bag.

    Args:
        path: the bag.
        topic: its name where there are several.

    Returns:
        Topic, message type and number of messages.

    Raises:
        DatasetError: no image topic, several and none named, or the named one is not there; lists what is.
    """
    with open_bag(path) as reader:
        found = {c.topic: (c.topic, c.msgtype, c.msgcount) for c in reader.connections if c.msgtype in IMAGE_TYPES}
        others = sorted({c.topic for c in reader.connections} - found.keys())
    listed = ', '.join(sorted(found))
    if not found:
        raise DatasetError(f'bag: {path} has no image topic; topics in it: {", ".join(others) or "none"}')
    if topic is None and len(found) > 1:
        raise DatasetError(f'bag: {path} has several image topics, name one: {listed}')
    name = next(iter(found)) if topic is None else topic
    if name not in found:
        raise DatasetError(f"bag: {path} has no image topic '{name}'; there is: {listed}")
    return found[name]


def read_bag(path: Path, topics: Iterable[str] = ()) -> Iterator[BagMessage]:
    """Messages of some topics (all if none is named) in the order of recording.

    Raises:
        DatasetError: the bag cannot be read.
    """
    names = set(topics)
    with open_bag(path) as reader:
        connections = [c for c in reader.connections if not names or c.topic in names]
        if not connections:
            return
        for connection, received_ns, raw in reader.messages(connections=connections):
            message = reader.deserialize(raw, connection.msgtype)
            header = getattr(message, 'header', None)
            stamp_ns = None if header is None else header.stamp.sec * 10**9 + header.stamp.nanosec
            yield BagMessage(connection.topic, received_ns, stamp_ns, message)


def write_image_bag(
    path: Path, frames: Iterable[tuple[int, np.ndarray]], *, topic: str, frame_id: str = 'camera'
) -> int:
    """Write images as a rosbag2 bag (mcap) of rgb8 sensor_msgs/Image; replaces a bag of that name.

    Args:
        path: folder of the bag.
        frames: stamp in nanoseconds and (H, W, 3) uint8 rgb.
        topic: name of the image topic.
        frame_id: of every header.

    Returns:
        Number of images written.

    Raises:
        DatasetError: the bag cannot be written.
    """
    store = get_typestore(Stores.LATEST)
    image_type, header_type = store.types['sensor_msgs/msg/Image'], store.types['std_msgs/msg/Header']
    time_type = store.types['builtin_interfaces/msg/Time']
    count = 0
    try:
        if (path / 'metadata.yaml').is_file():
            shutil.rmtree(path)
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection(topic, 'sensor_msgs/msg/Image', typestore=store)
            for stamp_ns, image in frames:
                seconds, nanoseconds = divmod(stamp_ns, 10**9)
                message = image_type(
                    header=header_type(stamp=time_type(sec=seconds, nanosec=nanoseconds), frame_id=frame_id),
                    height=image.shape[0],
                    width=image.shape[1],
                    encoding='rgb8',
                    is_bigendian=0,
                    step=image.shape[1] * 3,
                    data=np.ascontiguousarray(image).reshape(-1),
                )
                writer.write(connection, stamp_ns, store.serialize_cdr(message, 'sensor_msgs/msg/Image'))
                count += 1
    except (WriterError, OSError) as error:
        raise DatasetError(f'bag: {path} cannot be written: {error}') from error
    return count


def view_image(message: Any) -> np.ndarray:
    """Pixels of a tightly packed 8-bit image message as this package publishes them.

    Returns:
        (H, W, 3) uint8 for rgb8, (H, W) uint8 for mono8.

    Raises:
        DatasetError: another encoding or a short message.
    """
    channels = {'rgb8': 3, 'mono8': 1}.get(message.encoding)
    if channels is None or len(message.data) != message.height * message.width * channels:
        raise DatasetError(f'image: expected packed rgb8 or mono8, got {message.encoding}, {len(message.data)} bytes')
    shape = (message.height, message.width, channels) if channels > 1 else (message.height, message.width)
    return np.asarray(message.data, np.uint8).reshape(shape)
