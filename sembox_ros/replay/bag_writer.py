"""Bags written without ROS: what the network saw, and parts joined to one bag."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.serde import SerdeError

from sembox_ros.atomic import write_whole
from sembox_ros.errors import DatasetError
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.replay.scene_messages import DETECTIONS, IMAGE, LABEL_INFO, MessageEncoder
from sembox_ros.types import Scene

METADATA = 'metadata.yaml'
_INFO = 'rosbag2_bagfile_information'
_FOREVER = QosTime(9_223_372_036, 854_775_807)
_LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, _FOREVER, _FOREVER,
    QosLiveliness.AUTOMATIC, _FOREVER, avoid_ros_namespace_conventions=False,
)  # fmt: skip


def topic_of(camera: str, topic: str) -> str:
    """The absolute name of a camera's topic; without a camera's name, that of the topic alone."""
    return f'/{camera}/{topic}' if camera else f'/{topic}'


class BagWriter:
    """A new rosbag2 folder (mcap, in chunks compressed with zstd); use it as a context manager.

    A bag that is left by an exception has no index and cannot be read.

    Args:
        path: folder of the bag, which must not exist.

    Attributes:
        encoder: makes the messages to write.

    Raises:
        DatasetError: in any call; the bag cannot be written, and why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.encoder = MessageEncoder()
        self._connections: dict[str, Connection] = {}
        with self._errors():
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)

    def __enter__(self) -> BagWriter:
        with self._errors():
            self._writer.open()
        return self

    def __exit__(self, *raised: Any) -> None:
        with self._errors():
            self._writer.__exit__(*raised)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatasetError(f'bag: {self._path} cannot be written: {error.strerror or error}') from error
        except (WriterError, SerdeError, struct.error, OverflowError) as error:  # the last three: numbers out of range
            raise DatasetError(f'bag: {self._path} cannot be written: {error}') from error

    def write(self, topic: str, kind: str, received_ns: int, message: Any, *, latched: bool = False) -> None:
        """Append a message.

        Args:
            topic: absolute name.
            kind: message type, always the same for a topic.
            received_ns: time of recording, nanoseconds.
            message: of that type, made by `encoder`.
            latched: of a topic's first message: late joiners get the newest one when the bag is played.
        """
        store = self.encoder.typestore
        with self._errors():
            if topic not in self._connections:
                qos = (_LATCHED,) if latched else ()
                connection = self._writer.add_connection(topic, kind, typestore=store, offered_qos_profiles=qos)
                self._connections[topic] = connection
            data = store.serialize_cdr(message, kind)
            self._writer.write(self._connections[topic], max(0, received_ns), data)  # mcap knows no negative times

    def write_labels(
        self, camera: str, stamp_ns: int, received_ns: int, label_sets: Sequence[tuple[str, LabelSet | None, float]]
    ) -> None:
        """Write the latched messages that say what ids mean.

        Args:
            camera: name before the topics.
            stamp_ns: stamp of their headers, nanoseconds.
            received_ns: time of recording.
            label_sets: topic, label set and least score of each; those without a label set are left out.
        """
        header = self.encoder.make_header(stamp_ns, '')
        for topic, labels, threshold in label_sets:
            if labels is not None:
                message = self.encoder.encode_label_info(labels, header, threshold=threshold)
                self.write(topic_of(camera, topic), LABEL_INFO, received_ns, message, latched=True)


class SceneBagWriter:
    """Writes what the network saw as the node publishes it, to a new bag; use it as a context manager.

    Args:
        path: folder of the bag, which must not exist.
        labels: label sets of the checkpoint.
        score_threshold: least score of the boxes.

    Raises:
        DatasetError: in any call; the bag cannot be written, and why.
    """

    def __init__(self, path: Path, labels: SceneLabels, score_threshold: float) -> None:
        self._bag = BagWriter(path)
        self._label_sets = (
            ('segmentation/label_info', labels.semantic, 0.0),
            ('detections/label_info', labels.detection, score_threshold),
        )
        self._cameras: set[str] = set()

    def __enter__(self) -> SceneBagWriter:
        self._bag.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._bag.__exit__(*raised)

    def write(
        self,
        camera: str,
        header: Any,
        received_ns: int,
        scene: Scene,
        *,
        color: np.ndarray | None = None,
        panoptic_color: np.ndarray | None = None,
        overlay: np.ndarray | None = None,
    ) -> None:
        """Append a message for each part that is there; the first of a camera come after its label sets.

        Args:
            camera: name before the topics, empty for a single camera.
            header: of the image, of any ROS; its stamp and frame_id are those of all messages.
            received_ns: time of recording of the image, and of all messages.
            scene: what was seen.
            color: (H, W, 3) uint8 rgb for segmentation/color.
            panoptic_color: (H, W, 3) uint8 rgb for panoptic/color.
            overlay: (H, W, 3) uint8 rgb for overlay.
        """
        encoder = self._bag.encoder
        if camera not in self._cameras:
            stamp_ns = header.stamp.sec * 10**9 + header.stamp.nanosec
            # Those of what this network finds: one that has decoders for masks alone knows no boxes.
            given = [row for row, part in zip(self._label_sets, (scene.semantic, scene.detections), strict=True)
                     if part is not None]
            self._bag.write_labels(camera, stamp_ns, received_ns, given)
            self._cameras.add(camera)
        header = encoder.copy_header(header)
        pictures: tuple[tuple[str, Any, np.ndarray | None], ...] = (
            ('segmentation/mask', 'mono8', scene.semantic),
            ('segmentation/confidence', 'mono8', scene.confidence),
            ('segmentation/color', 'rgb8', color),
            ('panoptic/instances', '16UC1', scene.instances),
            ('panoptic/color', 'rgb8', panoptic_color),
            ('overlay', 'rgb8', overlay),
            ('depth', '32FC1', scene.depth),
            ('motion/mask', 'mono8', None if scene.motion is None else scene.motion.view(np.uint8) * np.uint8(255)),
        )
        for topic, encoding, picture in pictures:
            if picture is not None:
                message = encoder.encode_image(picture, encoding, header)
                self._bag.write(topic_of(camera, topic), IMAGE, received_ns, message)
        if scene.detections is not None:
            message = encoder.encode_detections(scene.detections, header)
            self._bag.write(topic_of(camera, 'detections'), DETECTIONS, received_ns, message)


def merge_bags(parts: Sequence[Path], path: Path) -> None:
    """Make one bag of several, whose files it shares (hard links, where the file system has them); the parts stay.

    Args:
        parts: folders of finished bags of one mcap file each, in order and on the file system of `path`.
        path: folder of the new bag; replaces what is there.

    Raises:
        DatasetError: a part is not there or not finished, or a file cannot be written.
    """
    if not parts:
        raise DatasetError(f'bag: {path}: expected at least one part')
    infos = [_read_info(part) for part in parts]  # before anything is written: an unfinished part has none
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        for index, (part, info) in enumerate(zip(parts, infos, strict=True)):
            name = f'{path.name}_{index}.mcap'
            _share(part / info['relative_file_paths'][0], path / name)
            info['relative_file_paths'] = [name]
            info['files'][0]['path'] = name
        text = yaml.safe_dump({_INFO: _merge_infos(infos)}, sort_keys=False, default_flow_style=False)
        write_whole(path / METADATA, text.encode(), DatasetError)
    except OSError as error:
        raise DatasetError(f'bag: {path} cannot be written: {error.strerror or error}') from error


def _share(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where that cannot be."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _read_info(part: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = yaml.safe_load((part / METADATA).read_text('utf-8'))[_INFO]
    except FileNotFoundError as error:
        raise DatasetError(f'bag: {part} is no finished bag, it has no {METADATA}') from error
    if info['storage_identifier'] != 'mcap' or len(info['relative_file_paths']) != 1:
        raise DatasetError(f'bag: {part}: expected one mcap file, got {info["relative_file_paths"]}')
    return info


def _merge_infos(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The metadata of the whole from those of its parts, as rosbag2 writes it in version 9."""
    files = [file for info in infos for file in info['files']]
    # An empty part has no times: rosbags gives it the largest start there is.
    spans = [
        (file['starting_time']['nanoseconds_since_epoch'], file['duration']['nanoseconds'])
        for file in files
        if file['message_count']
    ] or [(0, 0)]
    begin_ns = min(start for start, _ in spans)
    topics: dict[tuple[str, str], dict[str, Any]] = {}
    for info in infos:
        for topic in info['topics_with_message_count']:
            key = topic['topic_metadata']['name'], topic['topic_metadata']['type']
            if key in topics:
                topics[key]['message_count'] += topic['message_count']
            else:
                topics[key] = topic
    return {
        **infos[0],
        'relative_file_paths': [name for info in infos for name in info['relative_file_paths']],
        'files': files,
        'starting_time': {'nanoseconds_since_epoch': begin_ns},
        'duration': {'nanoseconds': max(start + duration for start, duration in spans) - begin_ns},
        'message_count': sum(info['message_count'] for info in infos),
        'topics_with_message_count': list(topics.values()),
    }
