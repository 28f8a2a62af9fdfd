"""Bags of images, written without ROS."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from sembox_ros.errors import DatasetError


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
