"""What is known to be in the images: from topics of the bag itself, or from a labelled dataset with stamps."""

from __future__ import annotations

import csv
import dataclasses
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import lz4.frame
import numpy as np

from sembox_ros.decoding import DEPTH_ENCODING, INSTANCE_ENCODINGS, decode_depth, decode_instances, decode_mask
from sembox_ros.errors import ConfigError, DatasetError, InputError
from sembox_ros.labels import LABEL_SETS, LabelSet, SceneLabels
from sembox_ros.panoptic import compose_truth
from sembox_ros.replay.bags import BagMessage
from sembox_ros.replay.scene_messages import DETECTIONS, IMAGE, read_detections, read_is_crowd, read_motion
from sembox_ros.types import MAX_INSTANCE

MAX_STAMP_NS = 2**63 - 1
TRUTH_TYPES = (IMAGE, DETECTIONS)  # of topics with truth: boxes are of the second, all else of the first
MAPS = frozenset({'depth', 'motion'})  # parts that a replay records only if they are wanted or graded

_DECODERS: Mapping[str, Callable[[Any], np.ndarray]] = {
    'mask': decode_mask, 'instances': decode_instances, 'depth': decode_depth, 'motion': read_motion,
}  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What is to be seen in one image; a part that is not known is None.

    Attributes:
        semantic: (H, W) uint8 ids of the truth's semantic label set, 255 = unlabeled.
        boxes_xyxy: (N, 4) float32 in pixels.
        class_ids: (N,) int64 ids of the truth's detection label set.
        is_crowd: (N,) bool, True for what need not be found.
        instances: (H, W) uint16, k = pixels of box k - 1, 0 = none.
        image_id: name of the image in its dataset; empty for one from a bag.
        depth: (H, W) float32 metres, 0 = unknown.
        motion: (H, W) uint8, 1 = moves, 0 = does not, 255 = ignored.
    """

    semantic: np.ndarray | None = None
    boxes_xyxy: np.ndarray | None = None
    class_ids: np.ndarray | None = None
    is_crowd: np.ndarray | None = None
    instances: np.ndarray | None = None
    image_id: str = ''
    depth: np.ndarray | None = None
    motion: np.ndarray | None = None

    def compose_panoptic(self, labels: SceneLabels) -> tuple[np.ndarray, tuple[int, ...]] | None:
        """(H, W) int32 panoptic ids, and those of crowds; None where a part is not known.

        Args:
            labels: of this truth.

        Raises:
            InputError: its parts do not fit each other.
        """
        if self.semantic is None or self.instances is None or self.class_ids is None or self.is_crowd is None:
            return None
        return compose_truth(self.semantic, self.instances, self.class_ids, self.is_crowd, labels)


class TruthSource(Protocol):
    """Where the truth about images comes from."""

    @property
    def labels(self) -> SceneLabels:
        """What its ids mean."""
        ...

    @property
    def description(self) -> str:
        """Where it comes from, in words."""
        ...

    @property
    def unusable(self) -> Mapping[str, int]:
        """Why parts of it could not be used -> how many."""
        ...

    @property
    def maps(self) -> frozenset[str]:
        """Those of `MAPS` that it has."""
        ...

    def find(self, camera: str, stamp_ns: int) -> Truth | None:
        """The truth about a camera's image of that stamp, None where there is none."""
        ...


def graded_maps(truth: TruthSource | None, parts: frozenset[str]) -> frozenset[str]:
    """Those of `MAPS` that are graded: the truth has them, and the network, whose parts of a scene are `parts`."""
    offered = MAPS & parts
    return offered & truth.maps if truth is not None and offered else frozenset()


class BagTruth:
    """Truth from topics of the bag; what was read is kept in a temporary file, so that memory does not grow with it.

    Args:
        topics: topic -> its camera, of boxes (vision_msgs/Detection2DArray) and of sensor_msgs/Image: masks (mono8),
            instances (16UC1, whose values are the `id` of boxes), depth (32FC1) and, on topics that end in
            `motion/mask`, what moves (mono8).
        labels: what ids mean where the bag has no LabelInfo beside a topic. One that comes after the truth is too late
            for what is above its ids or has its names, so these topics are to be read first.
        folder: where the temporary file goes.
        maps: those of `MAPS` that are on the topics.

    Attributes:
        unusable: why messages could not be used -> how many.
        maps: as given.

    Raises:
        OSError: in any call; the temporary file cannot be written.
    """

    def __init__(
        self, topics: Mapping[str, str], labels: SceneLabels, folder: Path, *, maps: frozenset[str] = frozenset()
    ) -> None:
        self.topics: Mapping[str, str] = MappingProxyType(dict(topics))
        self.maps = maps
        self.unusable: dict[str, int] = {}
        self._default = labels
        self._names: dict[str, tuple[str, ...]] = {}  # topic of a LabelInfo -> class names
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this object)
        self._places: dict[tuple[str, str, int], tuple[int, int]] = {}  # (kind, camera, stamp) -> offset, bytes
        self._kinds: dict[str, str] = {}  # topic -> `truth_kind`, once its first message was read

    @property
    def info_topics(self) -> tuple[str, ...]:
        """Topics that may say what the ids of a truth topic mean."""
        return tuple(dict.fromkeys(name for topic in self.topics for name in _info_topics(topic, 'mask')))

    @property
    def description(self) -> str:
        """The topics."""
        return f'topics {", ".join(self.topics)}'

    @property
    def labels(self) -> SceneLabels:
        """The label sets of LabelInfo messages, else those given; without masks there is no semantic set."""
        masks = 'mask' in self._kinds.values()
        detection = _label_set(self._class_names('boxes'), self._default.detection)
        assert detection is not None
        things = frozenset(detection.names)
        semantic = _label_set(self._class_names('mask'), self._default.semantic, things) if masks else None
        return SceneLabels.linked_by_name(semantic, detection)

    def _class_names(self, kind: str) -> tuple[str, ...] | None:
        topics = (topic for topic, found in self._kinds.items() if found == kind)
        places = (name for topic in topics for name in _info_topics(topic, kind))
        return next((self._names[name] for name in places if name in self._names), None)

    def add(self, entry: BagMessage) -> None:
        """Take one message of the bag; those of other topics and a second one of a stamp are passed over."""
        try:
            if entry.topic in self.info_topics:
                self._names[entry.topic] = _read_label_info(entry)
            elif entry.topic in self.topics:
                self._add_truth(self.topics[entry.topic], entry)
        except (InputError, DatasetError) as error:
            self._count(entry.topic, error)

    def find(self, camera: str, stamp_ns: int) -> Truth | None:
        """The truth about a camera's image of that stamp, None where there is none."""
        truth = Truth(
            self._load_plane('mask', camera, stamp_ns, np.uint8),
            depth=self._load_plane('depth', camera, stamp_ns, np.float32),
            motion=self._load_plane('motion', camera, stamp_ns, np.uint8),
        )
        boxes = self._load('boxes', camera, stamp_ns)
        if boxes is None:
            return None if truth.semantic is truth.depth is truth.motion is None else truth
        rows = np.frombuffer(boxes, np.float64).reshape(-1, 7)
        return dataclasses.replace(
            truth,
            boxes_xyxy=rows[:, :4].astype(np.float32),
            class_ids=rows[:, 4].astype(np.int64),
            is_crowd=rows[:, 5] > 0,
            instances=self._find_instances(camera, stamp_ns, rows[:, 6].astype(np.int64)),
        )

    def _find_instances(self, camera: str, stamp_ns: int, ids: np.ndarray) -> np.ndarray | None:
        numbers = self._load_plane('instances', camera, stamp_ns, np.uint16)
        if numbers is None:
            return None
        try:
            return _index_instances(numbers, ids)
        except InputError as error:
            topics = (t for t, kind in self._kinds.items() if kind == 'instances' and self.topics[t] == camera)
            self._count(next(topics), error)
            del self._places['instances', camera, stamp_ns]  # counted once, however often it is asked for
            return None

    def _count(self, topic: str, error: Exception) -> None:
        reason = f'{topic}: {error}'
        self.unusable[reason] = self.unusable.get(reason, 0) + 1

    def _add_truth(self, camera: str, entry: BagMessage) -> None:
        if entry.message is None:
            raise InputError(entry.error or 'cannot be read')
        if entry.stamp_ns is None:
            raise InputError('expected a message with a header')
        kind = truth_kind(entry.topic, entry.message)
        if kind == 'boxes':
            self._kinds[entry.topic] = kind  # first: it says which label set is that of the boxes
            found = read_detections(entry.message, self.labels.detection)
            columns = (found.class_ids, read_is_crowd(entry.message), found.ids)
            rows = np.column_stack((found.boxes_xyxy, *columns)).astype(np.float64)
            self._keep(kind, camera, entry.stamp_ns, rows.tobytes())
        else:
            self._keep(kind, camera, entry.stamp_ns, _pack(_DECODERS[kind](entry.message)))
            self._kinds[entry.topic] = kind

    def _keep(self, kind: str, camera: str, stamp_ns: int, data: bytes) -> None:
        if (kind, camera, stamp_ns) in self._places:
            return
        packed = lz4.frame.compress(data)
        self._places[kind, camera, stamp_ns] = (self._file.seek(0, 2), len(packed))
        self._file.write(packed)

    def _load(self, kind: str, camera: str, stamp_ns: int) -> bytes | None:
        place = self._places.get((kind, camera, stamp_ns))
        if place is None:
            return None
        self._file.seek(place[0])
        return lz4.frame.decompress(self._file.read(place[1]))

    def _load_plane(self, kind: str, camera: str, stamp_ns: int, dtype: type[np.generic]) -> np.ndarray | None:
        data = self._load(kind, camera, stamp_ns)
        return None if data is None else _unpack(data, dtype)


def truth_kind(topic: str, message: Any) -> str:
    """What a message of ground truth says: boxes, instances, depth, motion or mask.

    Raises:
        InputError: its type is none of `TRUTH_TYPES`.
    """
    if hasattr(message, 'detections'):
        return 'boxes'
    if not hasattr(message, 'encoding'):
        raise InputError(f'expected {" or ".join(TRUTH_TYPES)}, got {type(message).__name__}')
    if message.encoding in INSTANCE_ENCODINGS:
        return 'instances'
    if message.encoding == DEPTH_ENCODING:
        return 'depth'
    return 'motion' if f'/{topic}'.endswith('/motion/mask') else 'mask'


def _pack(plane: np.ndarray) -> bytes:
    """An image of numbers with its size before it."""
    return np.array(plane.shape, np.uint32).tobytes() + plane.tobytes()


def _unpack(data: bytes, dtype: type[np.generic]) -> np.ndarray:
    height, width = np.frombuffer(data, np.uint32, count=2).tolist()
    return np.frombuffer(data, dtype, offset=8).reshape(height, width)


def _index_instances(numbers: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Numbers of instances (H, W) uint16, which are `ids` of boxes (N,) int64, to the places of the boxes + 1.

    Raises:
        InputError: a number is no box's.
    """
    places = np.zeros(MAX_INSTANCE + 1, np.uint16)
    places[ids] = np.arange(1, len(ids) + 1)
    instances = places[numbers]
    lost = (instances == 0) & (numbers > 0)
    if lost.any():
        raise InputError('instances: expected ids of the boxes with this stamp, got others')
    return instances


def _info_topics(topic: str, kind: str) -> list[str]:
    """Where a LabelInfo may say what the ids of a topic mean: below it, and beside it for masks."""
    below, beside = f'{topic}/label_info', f'{topic.rpartition("/")[0]}/label_info'
    return [below, beside] if kind == 'mask' else [below]


def _read_label_info(entry: BagMessage) -> tuple[str, ...]:
    """Names by id from a vision_msgs/LabelInfo."""
    if not hasattr(entry.message, 'class_map'):
        raise InputError(entry.error or 'expected a vision_msgs/LabelInfo')
    names = {int(item.class_id): str(item.class_name) for item in entry.message.class_map}
    if sorted(names) != list(range(len(names))) or not names:
        raise InputError(f'expected class ids 0, 1, 2 ..., got {sorted(names)[:8]}')
    return tuple(names[index] for index in range(len(names)))


def _label_set(
    names: tuple[str, ...] | None, default: LabelSet | None, things: frozenset[str] = frozenset()
) -> LabelSet | None:
    """The known label set of these names, or one of its own with these things; the default if there are no names."""
    if names is None or (default is not None and names == default.names):
        return default
    known = next((labels for labels in LABEL_SETS.values() if labels.names == names), None)
    if known is not None:
        return known
    greys = np.linspace(60, 230, len(names)).astype(int).tolist()
    return LabelSet('of the bag', names, tuple((g, g, g) for g in greys), tuple(name in things for name in names))


class LabelledImages(Protocol):
    """The part of a dataset (`data.sample.Dataset`) that truth needs."""

    @property
    def labels(self) -> SceneLabels:
        """What its ids mean."""
        ...

    @property
    def image_ids(self) -> Sequence[str]:
        """The name of each image, in order."""
        ...

    def __getitem__(self, index: int) -> Any: ...


class DatasetTruth:
    """Truth from a labelled dataset whose images are known by their stamps.

    Args:
        dataset: the labelled images.
        description: what it is, in words.
        stamps: csv file with the columns image_id and stamp_ns; without one, image ids must hold their stamps: 16 to
            19 digits of nanoseconds, or seconds and nine digits of nanoseconds (`camera_1700000000_200000000`).
        tolerance_ns: how far the stamp of a frame may be from that of its image.

    Attributes:
        unusable: why the truth of images cannot be read -> 1.

    Raises:
        DatasetError: the file cannot be used, or no image id holds a stamp.
    """

    def __init__(
        self, dataset: LabelledImages, description: str, *, stamps: Path | None = None, tolerance_ns: int = 1_000_000
    ) -> None:
        self._dataset, self.description, self._tolerance_ns = dataset, description, tolerance_ns
        self.unusable: dict[str, int] = {}
        ids = list(dataset.image_ids)
        if stamps is not None:
            found = read_stamps(stamps)
        else:
            found = {i: stamp for i in ids if (stamp := stamp_in_name(i)) is not None}
        pairs = sorted((found[image_id], index) for index, image_id in enumerate(ids) if image_id in found)
        if not pairs:
            raise DatasetError(
                f"truth: none of the {len(ids)} images of {description} has a stamp; expected names such as "
                f"'front_1700000000_200000000' or '1700000000200000000', or --truth-stamps CSV with image_id,stamp_ns"
            )
        self._stamps = np.array([stamp for stamp, _ in pairs], np.int64)
        self._indices = [index for _, index in pairs]

    @property
    def labels(self) -> SceneLabels:
        """What its ids mean."""
        return self._dataset.labels

    @property
    def maps(self) -> frozenset[str]:
        """Those of `MAPS` that it has, as the first image that can be read tells."""
        for index in self._indices:
            with suppress(DatasetError, InputError):
                sample = self._dataset[index]
                return frozenset(name for name in MAPS if getattr(sample, name) is not None)
        return frozenset()

    def find(self, camera: str, stamp_ns: int) -> Truth | None:  # noqa: ARG002 (one dataset serves all cameras)
        """The truth about the image whose stamp is nearest, None if it is too far."""
        right = int(np.searchsorted(self._stamps, stamp_ns))
        near = [i for i in (right - 1, right) if 0 <= i < len(self._stamps)]
        best = min(near, key=lambda i: abs(int(self._stamps[i]) - stamp_ns))
        if abs(int(self._stamps[best]) - stamp_ns) > self._tolerance_ns:
            return None
        try:
            sample = self._dataset[self._indices[best]]
        except (DatasetError, InputError) as error:
            self.unusable[str(error)] = 1  # however often it is asked for
            return None
        return Truth(
            sample.semantic,
            sample.boxes_xyxy,
            sample.class_ids,
            sample.is_crowd,
            sample.instances,
            sample.image_id,
            sample.depth,
            sample.motion,
        )


_STAMP = re.compile(r'(?<!\d)(?:(?P<s>\d{1,10})[_.-](?P<ns>\d{9})|(?P<all>\d{16,19}))(?!\d)')


def stamp_in_name(name: str) -> int | None:
    """The stamp in nanoseconds that a file name holds, the last one if there are several; None without any."""
    found = None
    for match in _STAMP.finditer(name):
        stamp_ns = int(match['all']) if match['all'] else int(match['s']) * 10**9 + int(match['ns'])
        found = stamp_ns if stamp_ns <= MAX_STAMP_NS else found
    return found


def read_stamps(path: Path) -> dict[str, int]:
    """Image id -> stamp in nanoseconds, from a csv file with these two columns.

    Raises:
        ConfigError: there is no such file, a column is missing, or a stamp is no whole number.
    """
    try:
        with path.open(encoding='utf-8-sig', newline='') as file:
            rows = csv.DictReader(file)
            missing = {'image_id', 'stamp_ns'} - set(rows.fieldnames or ())
            if missing:
                raise ConfigError(f'{path}: expected the columns image_id and stamp_ns, {min(missing)} is missing')
            stamps = {row['image_id']: int(row['stamp_ns']) for row in rows}
            np.array(list(stamps.values()), np.int64)  # raises where one is beyond it
            return stamps
    except (OSError, ValueError, TypeError, OverflowError, csv.Error) as error:
        raise ConfigError(f'{path}: expected csv with image_id,stamp_ns in whole nanoseconds: {error}') from error
