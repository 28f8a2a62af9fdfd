"""Bags read without ROS, through the library rosbags: what images they hold, and messages also behind damaged parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection

from sembox_ros.errors import DatasetError
from sembox_ros.replay.bag_files import check_bag, explain_failure, shorten
from sembox_ros.replay.vision_messages import create_typestore

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
# What is no camera's image though its type says so: ground truth, what the node publishes, and packed depth.
_NO_CAMERA = re.compile(
    r'(^|/)(ground_truth/.*|segmentation/(mask|confidence|color)|overlay|panoptic/(instances|color)|depth|motion/mask|'
    r'.*compressedDepth)$'
)
_LEAF = re.compile(r'image(_\w+)?|compressed')


class ImageTopic(NamedTuple):
    """A topic with images in a bag.

    Attributes:
        name: as in the bag.
        type: message type, one of `IMAGE_TYPES`.
        messages: how many the bag announces.
    """

    name: str
    type: str
    messages: int

    def __str__(self) -> str:
        return f'{self.name} ({self.type.rpartition("/")[2]}, {self.messages} messages)'


class BagMessage(NamedTuple):
    """One message of a bag.

    Attributes:
        topic: its name.
        received_ns: when it was recorded, nanoseconds.
        stamp_ns: its header's stamp in nanoseconds, or None if it has no header.
        message: fields as the bag's own definition names them; None if it cannot be read.
        error: why it cannot be read; empty if it can.
    """

    topic: str
    received_ns: int
    stamp_ns: int | None
    message: Any
    error: str = ''


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """Open a rosbag2 folder, an .mcap, .db3 or ROS 1 .bag file.

    Raises:
        DatasetError: missing, foreign, empty or damaged.
    """
    check_bag(path)
    standard = create_typestore()
    try:
        reader = AnyReader([path], default_typestore=standard)
        reader.open()
        known = reader.typestore.fielddefs
        if any(connection.msgtype not in known for connection in reader.connections):
            # rosbags takes the default definitions only where a bag has none at all.
            reader.typestore.register({name: d for name, d in standard.fielddefs.items() if name not in known})
    except Exception as error:  # a damaged file makes codecs, SQLite and the parsers raise whatever they like
        raise DatasetError(explain_failure(path, error)) from error
    try:
        yield reader
    finally:
        with suppress(AnyReaderError):  # it is closed already where `BagReader` could not open it again
            reader.close()


def find_image_topics(path: Path) -> list[ImageTopic]:
    """All topics of a bag with images, whoever's they are, sorted by name.

    Raises:
        DatasetError: the bag cannot be read.
    """
    with open_bag(path) as reader:
        return _image_topics(reader)


def _image_topics(reader: AnyReader) -> list[ImageTopic]:
    counts: Counter[tuple[str, str]] = Counter()
    for connection in reader.connections:  # a topic has several where several nodes publish to it
        if connection.msgtype in IMAGE_TYPES:
            counts[connection.topic, connection.msgtype] += connection.msgcount
    return [ImageTopic(name, kind, count) for (name, kind), count in sorted(counts.items())]


def choose_image_topics(path: Path, topics: Sequence[str] = (), *, truth: Sequence[str] = ()) -> list[ImageTopic]:
    """The image topics to replay.

    Args:
        path: the bag.
        topics: their names, in the order of the result; 'all' takes all cameras', none the only one. Ground truth and
            what the node publishes are no camera's and must be named.
        truth: topics with ground truth that are not found out by their names.

    Raises:
        DatasetError: the bag cannot be read; it has no images, or those of several cameras and none is named; a topic
            is not there, has another type, or one with a definition of its own. Lists what there is.
    """
    with open_bag(path) as reader:
        found = [topic for topic in _image_topics(reader) if topic.name not in truth]
        chosen = _choose(path, found, topics, {c.topic: c.msgtype for c in reader.connections})
        standard = create_typestore().fielddefs
        for topic in chosen:
            if reader.typestore.fielddefs[topic.type] != standard[topic.type]:
                raise DatasetError(f'bag: {path}: {topic.name} has a {topic.type} of its own, not that of ROS')
    return chosen


def _choose(path: Path, found: Sequence[ImageTopic], topics: Sequence[str], types: dict[str, str]) -> list[ImageTopic]:
    cameras = [topic for topic in found if not _NO_CAMERA.search(topic.name)]
    cameras = [topic for topic in cameras if topic.messages] or cameras  # a silent one makes no choice unclear
    if not topics or list(topics) == ['all']:
        if not cameras:
            raise DatasetError(f"bag: {path} has no camera's image topic; topics in it: {_listed(types)}")
        if len(cameras) > 1 and not topics:
            listed = ', '.join(map(str, cameras))
            raise DatasetError(
                f'bag: {path} has several image topics, choose with --image-topic NAME or --image-topic all: {listed}'
            )
        return cameras
    by_name = {topic.name: topic for topic in found}
    for name in topics:
        if name in by_name:
            continue
        if name in types:
            raise DatasetError(f"bag: {path}: topic '{name}' has the type {types[name]}, expected an image")
        close = get_close_matches(name, by_name, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ''
        raise DatasetError(f"bag: {path} has no topic '{name}'; {hint}there is: {_listed(types)}")
    return [by_name[name] for name in dict.fromkeys(topics)]


def _listed(types: dict[str, str]) -> str:
    return ', '.join(f'{name} ({kind})' for name, kind in sorted(types.items())) or 'none'


def camera_names(topics: Sequence[str]) -> list[str]:
    """A name for each camera: what is before the image in its topic, or the whole topic where that is not unique.

    Returns:
        Without a slash at either end, in the order of `topics`; empty for the only one.
    """
    if len(topics) == 1:
        return ['']
    short = []
    for topic in topics:
        parts = [part for part in topic.split('/') if part]
        while parts and _LEAF.fullmatch(parts[-1]):
            parts.pop()
        short.append('/'.join(parts))
    names: list[str] = []
    for topic, name in zip(topics, short, strict=True):
        base = name if name and short.count(name) == 1 else topic.strip('/')
        unique, number = base, 1
        while unique in names:
            number += 1
            unique = f'{base}_{number}'
        names.append(unique)
    return names


class BagReader:
    """Messages of some topics in the order of recording; damaged parts are gone around and counted.

    A damaged part is a compressed chunk, a page of a database or a single message. What it held is lost, and so may be
    what was recorded in the same nanosecond.

    Args:
        path: a rosbag2 folder, an .mcap, .db3 or ROS 1 .bag file.
        topics: which; all if none is named.

    Attributes:
        announced: topic -> number of messages according to the bag's index.
        start_ns: time of the first message according to the index, nanoseconds.
        duration_s: from the first to the last message of the bag, seconds.
        lost: announced messages that did not come; known at the end of `messages`.
        damage: the first reason for it; empty if there was none.

    Raises:
        DatasetError: on entering; the bag cannot be read.
    """

    def __init__(self, path: Path, topics: Iterable[str] = ()) -> None:
        self._path = path
        self._names = frozenset(topics)
        self._stack = ExitStack()
        self._reader: AnyReader
        self._connections: list[Connection] = []
        self._span_ns = (0, 0)
        self.announced: Counter[str] = Counter()
        self.start_ns = 0
        self.duration_s = 0.0
        self.lost = 0
        self.damage = ''

    def __enter__(self) -> BagReader:
        self._reader = reader = self._stack.enter_context(open_bag(self._path))
        self._connections = [c for c in reader.connections if not self._names or c.topic in self._names]
        for connection in self._connections:
            self.announced[connection.topic] += connection.msgcount
        self._span_ns = reader.start_time, reader.end_time
        if reader.message_count:
            self.start_ns = reader.start_time
            self.duration_s = max(0, reader.duration - 1) * 1e-9  # rosbags counts to after the last one
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def messages(self, *, skip: int = 0) -> Iterator[BagMessage]:
        """Go through the messages, always in the same order; one at a time may do so.

        Args:
            skip: so many of the first are passed over without being decoded.
        """
        count = 0
        for connection, received_ns, raw in self._raw_messages():
            count += 1
            if count > skip:
                yield self._decode(connection, received_ns, raw)
        self.lost = max(0, self.announced.total() - count)

    def messages_between(self, start_ns: int, stop_ns: int) -> Iterator[BagMessage]:
        """The messages recorded from `start_ns` to before `stop_ns`, up to the first damage among them."""
        if not self._connections:
            return
        try:
            for found in self._reader.messages(connections=self._connections, start=start_ns, stop=stop_ns):
                yield self._decode(*found)
        except Exception as error:  # see open_bag
            self.damage = self.damage or shorten(error)

    def _decode(self, connection: Connection, received_ns: int, raw: bytes) -> BagMessage:
        try:
            message = self._reader.deserialize(raw, connection.msgtype)
            header: Any = getattr(message, 'header', None)
            stamp_ns = None if header is None else _stamp_ns(header.stamp)
        except Exception as error:  # the bytes and even the definition of the message may be anything
            return BagMessage(connection.topic, received_ns, None, None, f'not readable: {shorten(error)}')
        return BagMessage(connection.topic, received_ns, stamp_ns, message)

    def _raw_messages(self) -> Iterator[tuple[Connection, int, bytes]]:
        if not self._connections:  # rosbags would take none as all
            return
        latest_ns = self._span_ns[0] - 1
        start_ns: int | None = None
        while True:
            source = self._reader.messages(connections=self._connections, start=start_ns)
            while True:
                try:
                    found = next(source)
                except StopIteration:
                    return
                except Exception as error:  # see open_bag
                    self.damage = self.damage or shorten(error)
                    self._reset()
                    break
                latest_ns = max(latest_ns, found[1])
                yield found
            start_ns = self._find_restart(latest_ns)
            if start_ns is None:
                return

    def _find_restart(self, failed_ns: int) -> int | None:
        """The time after `failed_ns` from which the bag can be read again; None if there is none.

        The only thing that the library tells is whether reading works from a given time, so that time is searched for:
        in doubling steps that begin with the mean interval of the messages, then by bisection.
        """
        begin_ns, end_ns = self._span_ns
        step = max(1, (end_ns - begin_ns) // max(1, self.announced.total()))
        low, high = failed_ns, failed_ns + step
        while not self._is_readable(high):
            if high > end_ns:
                return None
            step *= 2
            low, high = high, high + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._is_readable(middle):
                high = middle
            else:
                low = middle
        return high

    def _is_readable(self, start_ns: int) -> bool:
        """True if reading from that time gives a message or finds the end."""
        try:
            next(self._reader.messages(connections=self._connections, start=start_ns), None)
        except Exception:  # see open_bag
            self._reset()
            return False
        return True

    def _reset(self) -> None:
        """Make the library usable after a failure: its reader of ROS 1 bags goes on with a chunk that it has closed."""
        if not self._reader.is2:
            with suppress(Exception):  # then every further attempt fails as well, and that is the end of the bag
                self._reader.close()
                self._reader.open()


def _stamp_ns(stamp: Any) -> int:
    seconds, nanoseconds = int(stamp.sec), int(stamp.nanosec)
    if not -(2**31) <= seconds < 2**31:  # ROS 1 counts further, but then nothing could be published with this stamp
        raise ValueError(f'its stamp of {seconds} s is outside the range of ROS 2')
    return seconds * 10**9 + nanoseconds


def read_bag(path: Path, topics: Iterable[str] = ()) -> Iterator[BagMessage]:
    """Messages of some topics (all if none is named) of a whole bag, in the order of recording.

    Raises:
        DatasetError: the bag or a part of it cannot be read; `BagReader` goes on instead.
    """
    with BagReader(path, topics) as reader:
        for entry in reader.messages():
            if entry.error:
                raise DatasetError(f'bag: {path}: a message on {entry.topic} is {entry.error}')
            yield entry
        if reader.damage:
            raise DatasetError(f'bag: {path} is damaged, {reader.lost} messages are lost: {reader.damage}')
