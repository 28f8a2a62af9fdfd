"""Records topics to an mcap bag without deserialising them, for machines without `ros2 bag`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from sembox_ros.errors import DatasetError, SemboxError
from sembox_ros.ros.serialized import MessageLog, find_message_class
from sembox_ros.ros.shutdown import ends_quietly
from sembox_ros.ros.transport import use_large_shared_memory

POLL_S = 0.1
QUEUE_DEPTH = 50  # messages of a topic that wait while others are written


def create_typestore(type_names: Sequence[str]) -> Typestore:
    """The standard types, and every message of the installed packages that `type_names` come from.

    Raises:
        DatasetError: a package is not installed.
    """
    store = get_typestore(Stores.LATEST)
    for package in {name.partition('/')[0] for name in type_names if name not in store.fielddefs}:
        try:
            folder = Path(get_package_share_directory(package)) / 'msg'
        except (PackageNotFoundError, OSError) as error:  # OSError: AMENT_PREFIX_PATH is not set
            raise DatasetError(f'definition of {package} not found ({error}); is ROS 2 sourced?') from error
        definitions = {}
        for file in sorted(folder.glob('*.msg')):
            definitions.update(get_types_from_msg(file.read_text(), f'{package}/msg/{file.stem}'))
        store.register(definitions)
    return store


class Recorder(Node):
    """Subscribes to topics as they appear and writes what arrives, stamped with the time of arrival.

    Args:
        writer: an open bag.
        topics: names to record; each is subscribed to once it has a publisher.
        log: gets a row for each message.

    Attributes:
        counts: topic -> messages so far.
    """

    def __init__(self, writer: Writer, topics: Sequence[str], log: MessageLog) -> None:
        super().__init__('recorder')
        self._writer = writer
        self._log = log
        self._waiting = {self.resolve_topic_name(t) for t in topics}
        self.counts: dict[str, int] = {}
        self.create_timer(POLL_S, self._discover)
        self._discover()

    def _discover(self) -> None:
        for topic in sorted(self._waiting):
            infos = self.get_publishers_info_by_topic(topic)
            kind = find_message_class(infos[0].topic_type) if infos else None
            if kind is None:
                continue
            self._waiting.discard(topic)
            self._record(topic, infos[0].topic_type, kind, infos[0].qos_profile)

    def _record(self, topic: str, type_name: str, kind: type, offered: QoSProfile) -> None:
        connection = self._writer.add_connection(topic, type_name, typestore=create_typestore([type_name]))
        self.counts[topic] = 0

        def write(raw: Any) -> None:
            data, now_ns = bytes(raw), time.time_ns()
            self._writer.write(connection, now_ns, data)
            self._log.add(topic, kind, data, bag_ns=now_ns, wall_ns=now_ns)
            self.counts[topic] += 1

        latched = offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
        qos = QoSProfile(
            depth=QUEUE_DEPTH,
            reliability=offered.reliability if offered.reliability else ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        self.create_subscription(kind, topic, write, qos, raw=True)
        self.get_logger().info(f'recording {topic}')


def main(args: list[str] | None = None) -> None:
    """Entry point of the executable `recorder`; SIGINT or SIGTERM closes the bag properly."""
    parser = argparse.ArgumentParser(prog='recorder', description=__doc__)
    parser.add_argument('out', type=Path, help='folder of the new bag; must not exist')
    parser.add_argument('topics', nargs='+', help='topics to record')
    parser.add_argument('--log', type=Path, metavar='FILE', help='write a CSV row for each message that is recorded')
    options = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    use_large_shared_memory()
    rclpy.init(args=args)
    status = 130  # a signal may come before the bag is open
    node = None
    with ends_quietly():
        try:
            with (
                MessageLog(options.log) as log,
                Writer(options.out, version=9, storage_plugin=StoragePlugin.MCAP) as bag,
            ):
                with ends_quietly():  # once more inside the bag, which gets no index when an exception passes it
                    node = Recorder(bag, options.topics, log)
                    rclpy.spin(node)
            status = 0
        except (WriterError, SemboxError, OSError) as error:
            print(f'recorder: {options.out}: {error}', file=sys.stderr)
            status = 1
    if node is not None:
        print(', '.join(f'{topic}: {count}' for topic, count in node.counts.items()))
    sys.exit(status)


if __name__ == '__main__':
    main()
