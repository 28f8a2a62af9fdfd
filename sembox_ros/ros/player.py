"""Plays a recorded bag into ROS topics at its own rate, byte for byte, for machines without `ros2 bag`."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.utilities import remove_ros_args
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from sembox_ros.errors import DatasetError, SemboxError
from sembox_ros.ros.shutdown import ends_quietly
from sembox_ros.ros.transport import use_large_shared_memory

LATE_S = 0.5  # playing later than this behind the bag's clock is reported


def find_message_class(type_name: str) -> Any | None:
    """The Python class of ``package/msg/Name``, or None if its package is not installed."""
    package, _, rest = type_name.partition('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), rest.rpartition('/')[2])
    except (ImportError, AttributeError):
        return None


def create_publishers(node: Node, connections: Sequence[Connection], topics: Sequence[str]) -> dict[int, Publisher]:
    """A publisher for each connection that is wanted and whose message type is installed, by connection id."""
    publishers: dict[str, Publisher] = {}
    chosen = {}
    for connection in connections:
        if topics and connection.topic not in topics:
            continue
        kind = find_message_class(connection.msgtype)
        if kind is None:
            node.get_logger().warning(f'{connection.topic}: {connection.msgtype} is not installed, not played')
            continue
        if connection.topic not in publishers:
            publishers[connection.topic] = node.create_publisher(kind, connection.topic, QoSProfile(depth=10))
        chosen[connection.id] = publishers[connection.topic]
    return chosen


def wait_for_subscribers(publishers: Sequence[Publisher], timeout_s: float) -> bool:
    """Wait until some played topic has a subscriber; False after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if any(p.get_subscription_count() for p in publishers):
            return True
        time.sleep(0.05)
    return False


def play(node: Node, path: Path, *, topics: Sequence[str], rate: float, wait_s: float, progress: bool) -> int:
    """Publish a bag's messages at the intervals at which they were recorded.

    Args:
        node: owns the publishers.
        path: rosbag2 folder, .mcap or .db3 file, or ROS 1 .bag file.
        topics: which topics; empty plays all.
        rate: 2.0 is twice as fast.
        wait_s: how long to wait for a first subscriber.
        progress: show a progress bar.

    Returns:
        Number of messages published.

    Raises:
        DatasetError: the bag cannot be read, or holds none of the topics.
    """
    if not path.exists():
        raise DatasetError(f'bag: {path} does not exist')
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
            publishers = create_publishers(node, reader.connections, topics)
            if not publishers:
                known = ', '.join(sorted(reader.topics)) or 'none'
                raise DatasetError(f'bag: {path} has nothing to play; topics in it: {known}')
            if not wait_for_subscribers(list(publishers.values()), wait_s):
                node.get_logger().warning(f'no subscriber after {wait_s:.0f} s, playing all the same')
            return _publish_all(reader, publishers, rate, progress)
    except AnyReaderError as error:
        raise DatasetError(f'bag: {path} cannot be read: {error}') from error


def _publish_all(reader: AnyReader, publishers: dict[int, Publisher], rate: float, progress: bool) -> int:
    connections = [c for c in reader.connections if c.id in publishers]
    total = sum(c.msgcount for c in connections)
    count, latest = 0, 0.0
    begin_ns: int | None = None
    start = time.monotonic()
    bar = tqdm(total=total, unit='msg', desc='playing', disable=None if progress else True)
    with bar:
        for connection, stamp_ns, raw in reader.messages(connections=connections):
            begin_ns = stamp_ns if begin_ns is None else begin_ns
            due = start + (stamp_ns - begin_ns) * 1e-9 / rate
            delay = due - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            latest = max(latest, -delay)
            data = raw if reader.is2 else reader.typestore.ros1_to_cdr(raw, connection.msgtype)
            publishers[connection.id].publish(bytes(data))
            count += 1
            bar.update()
    if latest > LATE_S:
        print(f'the bag was played up to {latest:.1f} s late: reading it is slower than its rate', file=sys.stderr)
    return count


def main(args: list[str] | None = None) -> None:
    """Entry point of the executable `player`."""
    parser = argparse.ArgumentParser(prog='player', description=__doc__)
    parser.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3 file, or ROS 1 .bag file')
    parser.add_argument('--topics', nargs='+', default=[], help='play only these topics')
    parser.add_argument('--rate', type=float, default=1.0, help='2 is twice as fast (default: %(default)s)')
    parser.add_argument('--wait', type=float, default=10.0, metavar='S', help='seconds to wait for a first subscriber')
    parser.add_argument('--no-progress', action='store_true', help='no progress bar')
    options = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    if options.rate <= 0:
        parser.error(f'--rate: expected a positive number, got {options.rate}')
    use_large_shared_memory()
    rclpy.init(args=args)
    status = 130  # a signal may come before anything else is known
    with ends_quietly():
        try:
            node = rclpy.create_node('player')
            count = play(
                node,
                options.bag,
                topics=options.topics,
                rate=options.rate,
                wait_s=options.wait,
                progress=not options.no_progress,
            )
            time.sleep(0.5)  # the last message is still on its way when publish() returns
            print(f'played {count} messages')
            status = 0
        except SemboxError as error:
            print(f'player: {error}', file=sys.stderr)
            status = 1
    sys.exit(status)


if __name__ == '__main__':
    main()
