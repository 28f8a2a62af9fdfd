"""Plays a recorded bag into ROS topics at its own rate, byte for byte, for machines without `ros2 bag`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.time import Time
from rclpy.utilities import remove_ros_args
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from sembox_ros.errors import DatasetError, SemboxError
from sembox_ros.ros.serialized import MessageLog, find_message_class
from sembox_ros.ros.shutdown import ends_quietly
from sembox_ros.ros.transport import use_large_shared_memory

CLOCK_TOPIC = '/clock'
DEFAULT_CLOCK_HZ, MAX_CLOCK_HZ = 40.0, 1000.0  # the default is that of `ros2 bag play --clock`
LATE_S = 0.5  # playing later than this behind the bag's clock is reported
LINGER_S = 0.5  # the last message is still on its way when publish() returns


class Output(NamedTuple):
    """Where the messages of one connection of the bag go."""

    kind: type
    publisher: Publisher


class BagClock:
    """The bag's time while it is played; it stands still until `start`.

    Args:
        node: owns the publisher of ``/clock``.
        begin_ns: when it stands still, nanoseconds.
        rate: seconds of the bag per second.
        hz: how often the time is published on ``/clock``; 0: never.
    """

    def __init__(self, node: Node, begin_ns: int, *, rate: float, hz: float) -> None:
        self._begin_ns = begin_ns
        self._rate = rate
        self._start: float | None = None
        self._period_s = 1 / hz if hz else float('inf')
        self._next = 0.0 if hz else float('inf')
        self._publisher = node.create_publisher(Clock, CLOCK_TOPIC, 10) if hz else None

    def start(self, begin_ns: int) -> None:
        """Let the time run from `begin_ns`."""
        self._begin_ns, self._start = begin_ns, time.monotonic()

    def now_ns(self) -> int:
        """The bag's time now, nanoseconds."""
        if self._start is None:
            return self._begin_ns
        return self._begin_ns + int((time.monotonic() - self._start) * self._rate * 1e9)

    def tick(self) -> None:
        """Publish the time if that is due."""
        if self._publisher is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._period_s
            self._publisher.publish(Clock(clock=Time(nanoseconds=self.now_ns()).to_msg()))

    def sleep(self, seconds: float) -> None:
        """Sleep, and publish the time meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self.tick()
            now = time.monotonic()
            if now >= end:
                return
            time.sleep(max(0.0, min(end, self._next) - now))

    def sleep_until(self, bag_ns: int) -> float:
        """Sleep until the bag's time is `bag_ns`; seconds by which that is over already, else 0."""
        left_s = (bag_ns - self.now_ns()) * 1e-9 / self._rate
        self.sleep(left_s)
        return max(0.0, -left_s)


def create_outputs(node: Node, connections: Sequence[Connection], topics: Sequence[str]) -> dict[int, Output]:
    """A publisher for each connection that is wanted and whose message type is installed, by connection id."""
    outputs: dict[str, Output] = {}
    chosen = {}
    for connection in connections:
        if topics and connection.topic not in topics:
            continue
        kind = find_message_class(connection.msgtype)
        if kind is None:
            node.get_logger().warning(f'{connection.topic}: {connection.msgtype} is not installed, not played')
            continue
        if connection.topic not in outputs:
            publisher = node.create_publisher(kind, connection.topic, QoSProfile(depth=10))
            outputs[connection.topic] = Output(kind, publisher)
        chosen[connection.id] = outputs[connection.topic]
    return chosen


def wait_for_subscribers(publishers: Sequence[Publisher], clock: BagClock, *, timeout_s: float, every: bool) -> bool:
    """Wait until some played topic, or every one, has a subscriber; False after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    enough = all if every else any
    while time.monotonic() < deadline:
        if enough(p.get_subscription_count() for p in publishers):
            return True
        clock.sleep(0.05)
    return False


def read_messages(reader: AnyReader, connections: Sequence[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
    """Connection, time in the bag and serialized message (CDR), in the order of recording.

    Raises:
        DatasetError: the bag is damaged.
    """
    messages = reader.messages(connections=connections)
    while True:
        try:
            connection, bag_ns, raw = next(messages)
            data = raw if reader.is2 else reader.typestore.ros1_to_cdr(raw, connection.msgtype)
        except StopIteration:
            return
        except Exception as error:  # a damaged bag fails in any of the library's ways
            raise DatasetError(f'bag: damaged from here on ({type(error).__name__}: {error})') from error
        yield connection, bag_ns, bytes(data)


def play(
    node: Node,
    path: Path,
    *,
    topics: Sequence[str] = (),
    rate: float = 1.0,
    wait_s: float = 10.0,
    clock_hz: float = 0.0,
    log: Path | None = None,
    progress: bool = False,
) -> int:
    """Publish a bag's messages at the intervals at which they were recorded.

    Args:
        node: owns the publishers.
        path: rosbag2 folder, .mcap or .db3 file, or ROS 1 .bag file.
        topics: which topics; empty plays all.
        rate: 2.0 is twice as fast.
        wait_s: how long to wait for a subscriber of each of `topics`, or of any topic where all are played.
        clock_hz: how often the bag's time is published on ``/clock``; 0: never.
        log: where `MessageLog` writes what was published.
        progress: show a progress bar.

    Returns:
        Number of messages published.

    Raises:
        DatasetError: the bag cannot be read, or holds none of the topics.
    """
    if not path.exists():
        raise DatasetError(f'bag: {path} does not exist')
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader, MessageLog(log) as written:
            # A recorded /clock and ours would make time jump to and fro.
            connections = [c for c in reader.connections if not (clock_hz and c.topic == CLOCK_TOPIC)]
            outputs = create_outputs(node, connections, topics)
            if not outputs:
                known = ', '.join(sorted(reader.topics)) or 'none'
                raise DatasetError(f'bag: {path} has nothing to play; topics in it: {known}')
            clock = BagClock(node, reader.start_time, rate=rate, hz=clock_hz)
            publishers = list({output.publisher.topic: output.publisher for output in outputs.values()}.values())
            if not wait_for_subscribers(publishers, clock, timeout_s=wait_s, every=bool(topics)):
                silent = ', '.join(p.topic for p in publishers if not p.get_subscription_count())
                node.get_logger().warning(f'no subscriber of {silent} after {wait_s:.0f} s, playing all the same')
            return _publish_all(reader, outputs, clock, written, progress)
    except AnyReaderError as error:
        raise DatasetError(f'bag: {path} cannot be read: {error}') from error


def _publish_all(
    reader: AnyReader, outputs: dict[int, Output], clock: BagClock, log: MessageLog, progress: bool
) -> int:
    connections = [c for c in reader.connections if c.id in outputs]
    count, latest = 0, 0.0
    total = sum(c.msgcount for c in connections)
    with tqdm(total=total, unit='msg', desc='playing', disable=None if progress else True) as bar:
        for connection, bag_ns, data in read_messages(reader, connections):
            if not count:
                clock.start(bag_ns)
            latest = max(latest, clock.sleep_until(bag_ns))
            kind, publisher = outputs[connection.id]
            log.add(connection.topic, kind, data, bag_ns=bag_ns, wall_ns=time.time_ns())
            publisher.publish(data)
            count += 1
            bar.update()
    clock.sleep(LINGER_S)
    if latest > LATE_S:
        print(f'the bag was played up to {latest:.1f} s late: reading it is slower than its rate', file=sys.stderr)
    return count


def main(args: list[str] | None = None) -> None:
    """Entry point of the executable `player`."""
    parser = argparse.ArgumentParser(prog='player', description=__doc__)
    parser.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3 file, or ROS 1 .bag file')
    parser.add_argument('--topics', nargs='+', default=[], help='play only these topics')
    parser.add_argument('--rate', type=float, default=1.0, help='2 is twice as fast (default: %(default)s)')
    parser.add_argument('--wait', type=float, default=10.0, metavar='S', help='seconds to wait for subscribers')
    parser.add_argument(
        '--clock', nargs='?', type=float, default=0.0, const=DEFAULT_CLOCK_HZ, metavar='HZ',
        help='publish the time of the bag on /clock, for nodes with use_sim_time (without a number: %(const)s Hz)',
    )  # fmt: skip
    parser.add_argument('--log', type=Path, metavar='FILE', help='write a CSV row for each message that is published')
    parser.add_argument('--no-progress', action='store_true', help='no progress bar')
    options = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    if options.rate <= 0:
        parser.error(f'--rate: expected a positive number, got {options.rate}')
    if not 0 <= options.clock <= MAX_CLOCK_HZ:
        parser.error(f'--clock: expected 0 to {MAX_CLOCK_HZ:g} Hz, got {options.clock}')
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
                clock_hz=options.clock,
                log=options.log,
                progress=not options.no_progress,
            )
            print(f'played {count} messages')
            status = 0
        except SemboxError as error:
            print(f'player: {error}', file=sys.stderr)
            status = 1
    sys.exit(status)


if __name__ == '__main__':
    main()
