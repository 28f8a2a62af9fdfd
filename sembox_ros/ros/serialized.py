"""Serialized messages as they travel: their Python class, their stamp, and a log of when they went or came."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

from sembox_ros.errors import DatasetError, InputError

LOG_COLUMNS = ('topic', 'stamp_ns', 'bag_ns', 'wall_ns')


def find_message_class(type_name: str) -> Any | None:
    """The Python class of ``package/msg/Name``, or None if its package is not installed."""
    package, _, rest = type_name.partition('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), rest.rpartition('/')[2])
    except (ImportError, AttributeError):
        return None


def has_header(kind: type) -> bool:
    """True if messages of this class begin with a std_msgs/Header."""
    return next(iter(kind.get_fields_and_field_types().values()), '') == 'std_msgs/Header'


def read_stamp_ns(data: bytes) -> int:
    """The stamp of a serialized message that begins with a std_msgs/Header, in nanoseconds.

    Raises:
        InputError: too short to hold a stamp.
    """
    if len(data) < 12:
        raise InputError(f'message: expected at least 12 bytes with a header, got {len(data)}')
    # Four bytes of encapsulation, of which the second tells the byte order; then int32 sec, uint32 nanosec.
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return seconds * 10**9 + nanoseconds


class MessageLog:
    """A CSV file with one row for each message, complete up to the last message at any time.

    topic, stamp_ns: stamp of the message's header, empty without one; bag_ns: its time in the bag that is played or
    recorded; wall_ns: `time.time_ns` when it was about to be published, or had arrived.

    Args:
        path: of the file, which is replaced; None writes nothing.

    Raises:
        DatasetError: the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            # Buffered by line: who follows the file while it grows sees every message at once.
            self._file = None if path is None else path.open('w', buffering=1)
        except OSError as error:
            raise DatasetError(f'log: {path} cannot be written: {error.strerror}') from error
        self._write(LOG_COLUMNS)

    def __enter__(self) -> MessageLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, topic: str, kind: type, data: bytes, *, bag_ns: int, wall_ns: int) -> None:
        """Write the row of one serialized message of class `kind`."""
        if self._file is not None:
            stamp = read_stamp_ns(data) if has_header(kind) and len(data) >= 12 else ''
            self._write((topic, stamp, bag_ns, wall_ns))

    def _write(self, row: tuple[str | int, ...]) -> None:
        if self._file is not None:
            self._file.write(','.join(map(str, row)) + '\n')
