"""Which played frame was answered when: the player's log against the recorder's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class LogRow(NamedTuple):
    """One message in the log of the player or of the recorder.

    Attributes:
        topic: its name.
        stamp_ns: stamp of its header in nanoseconds, None without one.
        bag_ns: its time in the bag that is played or recorded.
        wall_ns: `time.time_ns` when it was about to be published, or had arrived.
    """

    topic: str
    stamp_ns: int | None
    bag_ns: int
    wall_ns: int


class LogFollower:
    """Reads a log that another process is still writing.

    Args:
        path: of the CSV file; made if it is not there yet.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open()
        self._rest = ''

    def __enter__(self) -> LogFollower:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> list[LogRow]:
        """The rows that were completed since the last call."""
        *lines, self._rest = (self._rest + self._file.read()).split('\n')
        fields = (line.split(',') for line in lines)
        return [
            LogRow(topic, int(stamp) if stamp else None, int(bag), int(wall))
            for topic, stamp, bag, wall in fields
            if topic != 'topic'  # the head of the table
        ]


@dataclass
class LiveFrame:
    """One image that was played.

    Attributes:
        camera: its name, empty for the only one.
        stamp_ns: stamp of its header, None without one.
        bag_ns: its time in the bag.
        played_ns: `time.time_ns` just before it was published.
        answered_ns: `time.time_ns` when the answer had arrived; None without one.
    """

    camera: str
    stamp_ns: int | None
    bag_ns: int
    played_ns: int
    answered_ns: int | None = None

    @property
    def end_to_end_ms(self) -> float | None:
        """From just before publishing to the arrival of the answer."""
        return None if self.answered_ns is None else (self.answered_ns - self.played_ns) * 1e-6

    @property
    def age_ms(self) -> float | None:
        """How old the picture was when its answer arrived, had the camera been live.

        That is what lay between its stamp and its recording, plus `end_to_end_ms`. None for an image without a stamp.
        """
        if self.end_to_end_ms is None or not self.stamp_ns:
            return None
        return (self.bag_ns - self.stamp_ns) * 1e-6 + self.end_to_end_ms


class Exchange:
    """Matches answers to frames by camera and stamp.

    Of frames with one stamp, an answer belongs to the newest that has none yet: the newest frame wins in the node, too.

    Args:
        images: camera -> topic of its images.
        answers: camera -> topic of its answers.

    Attributes:
        frames: played so far, in order.
        last_answer_ns: `time.time_ns` of the last answer, 0 before the first.
    """

    def __init__(self, images: Mapping[str, str], answers: Mapping[str, str]) -> None:
        self._cameras = {topic: camera for camera, topic in images.items()}
        self._answering = {topic: camera for camera, topic in answers.items()}
        self._open: dict[tuple[str, int | None], list[LiveFrame]] = {}
        self._last: dict[str, LiveFrame] = {}
        self.frames: list[LiveFrame] = []
        self.last_answer_ns = 0

    def add_played(self, rows: Iterable[LogRow]) -> None:
        """Take rows of the player's log; before the rows of the recorder's log that answer them."""
        for row in rows:
            if row.topic in self._cameras:
                frame = LiveFrame(self._cameras[row.topic], row.stamp_ns, row.bag_ns, row.wall_ns)
                self.frames.append(frame)
                self._last[frame.camera] = frame
                self._open.setdefault((frame.camera, frame.stamp_ns), []).append(frame)

    def add_recorded(self, rows: Iterable[LogRow]) -> None:
        """Take rows of the recorder's log."""
        for row in rows:
            camera = self._answering.get(row.topic)
            if camera is None:
                continue
            waiting = self._open.get((camera, row.stamp_ns), [])
            index = next((i for i in reversed(range(len(waiting))) if waiting[i].played_ns <= row.wall_ns), None)
            if index is not None:
                waiting.pop(index).answered_ns = self.last_answer_ns = row.wall_ns

    def is_complete(self) -> bool:
        """True if the last frame of each camera has its answer: then no other will come, for answers keep the order."""
        return bool(self._last) and all(frame.answered_ns is not None for frame in self._last.values())

    def answered(self) -> list[LiveFrame]:
        """The frames with an answer, in the order of playing."""
        return [frame for frame in self.frames if frame.answered_ns is not None]
