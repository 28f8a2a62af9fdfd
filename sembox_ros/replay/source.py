"""What is replayed: a bag, its cameras, and what it says itself about its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sembox_ros.errors import DatasetError, InputError
from sembox_ros.labels import SceneLabels
from sembox_ros.replay.bag_writer import topic_of
from sembox_ros.replay.bags import BagReader, ImageTopic, camera_names, choose_image_topics, open_bag
from sembox_ros.replay.drive import TRUTH_DEPTH, TRUTH_DETECTIONS, TRUTH_INSTANCES, TRUTH_MASK, TRUTH_MOTION
from sembox_ros.replay.parts import writing
from sembox_ros.replay.truth import MAPS, TRUTH_TYPES, BagTruth, truth_kind

TRUTH_TOPICS = (TRUTH_MASK, TRUTH_DETECTIONS, TRUTH_INSTANCES, TRUTH_DEPTH, TRUTH_MOTION)
MIN_RATE_HZ, MAX_RATE_HZ = 1.0, 60.0


@dataclass(frozen=True)
class Input:
    """A bag and what of it is replayed.

    Attributes:
        path: the bag.
        cameras: camera -> its image topic.
        start_ns: when its first message was recorded.
        duration_s: from the first to the last message.
    """

    path: Path
    cameras: Mapping[str, ImageTopic]
    start_ns: int
    duration_s: float

    @property
    def messages(self) -> int:
        """Images that the bag announces."""
        return sum(topic.messages for topic in self.cameras.values())

    @property
    def rates_hz(self) -> dict[str, float]:
        """Camera -> frame rate of a video of its images."""
        seconds = max(self.duration_s, 1e-3)
        return {
            name: min(MAX_RATE_HZ, max(MIN_RATE_HZ, (topic.messages - 1) / seconds))
            for name, topic in self.cameras.items()
        }

    def describe(self) -> dict[str, Any]:
        """Section `bag` of the report."""
        cameras = [
            {'name': name, 'topic': topic.name, 'type': topic.type, 'messages': topic.messages}
            for name, topic in self.cameras.items()
        ]
        return {'name': self.path.resolve().name, 'duration_s': round(self.duration_s, 3), 'cameras': cameras}


def open_input(path: Path, topics: tuple[str, ...], truth_topics: tuple[str, ...] = ()) -> Input:
    """Look into a bag; see `ReplayOptions` for the topics.

    Raises:
        DatasetError: it cannot be read, the choice of its image topics is not clear, or there are no messages on them.
    """
    chosen = choose_image_topics(path, topics, truth=truth_topics)
    if not any(topic.messages for topic in chosen):
        raise DatasetError(f"bag: {path} has no messages on {', '.join(topic.name for topic in chosen)}")
    with BagReader(path, [topic.name for topic in chosen]) as reader:
        start_ns, duration_s = reader.start_ns, reader.duration_s
    cameras = dict(zip(camera_names([topic.name for topic in chosen]), chosen, strict=True))
    return Input(path, cameras, start_ns, duration_s)


def find_truth(source: Input, topics: tuple[str, ...], labels: SceneLabels, folder: Path) -> BagTruth | None:
    """The truth that the bag itself has; None if it has none.

    Args:
        source: the bag.
        topics: as in `BagTruth`; empty: those of `TRUTH_TOPICS`, below the camera's name where there are several.
        labels: what ids mean where the bag does not say it.
        folder: for a temporary file.

    Returns:
        The truth with the label sets that the bag names; its messages are still to be read.

    Raises:
        DatasetError: a named topic is not there, has another type, or belongs to no camera; or `folder` is full.
    """
    found = _truth_topics(source, topics)
    if not found:
        return None
    with writing(folder):
        truth = BagTruth(found, labels, folder, maps=_find_maps(source.path, found))
    with BagReader(source.path, truth.info_topics) as reader:
        for entry in reader.messages():
            truth.add(entry)
    return truth


def _find_maps(path: Path, topics: Iterable[str]) -> frozenset[str]:
    """Those of `MAPS` that the first readable messages of topics with truth are."""
    kinds = set()
    for topic in topics:
        with BagReader(path, [topic]) as reader:
            first = next((entry.message for entry in reader.messages() if not entry.error), None)
        with suppress(InputError):  # whoever reads them all tells why they cannot be used
            kinds.add(truth_kind(topic, first))
    return MAPS & kinds


def _truth_topics(source: Input, topics: tuple[str, ...]) -> dict[str, str]:
    """Topics with truth -> their cameras."""
    with open_bag(source.path) as bag:
        there = {connection.topic: connection.msgtype for connection in bag.connections}
    if not topics:
        return {
            topic: camera
            for camera in source.cameras
            for name in TRUTH_TOPICS
            if (topic := topic_of(camera, name)) in there
        }
    found = {}
    for topic in topics:
        if topic not in there:
            raise DatasetError(f"truth: the bag has no topic '{topic}'; there is: {', '.join(sorted(there))}")
        if there[topic] not in TRUTH_TYPES:
            raise DatasetError(f"truth: expected '{topic}' to be {' or '.join(TRUTH_TYPES)}, it is {there[topic]}")
        owners = [camera for camera in source.cameras if not camera or topic.startswith(f'/{camera}/')]
        if len(owners) != 1:
            names = ', '.join(source.cameras)
            raise DatasetError(f"truth: '{topic}' belongs to none of the cameras {names} by its name")
        found[topic] = owners[0]
    return found
