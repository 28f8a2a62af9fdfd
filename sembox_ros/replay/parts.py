"""What a replay has done so far, on disk: parts, each of which is whole or not there."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from sembox_ros.draw import colorize, colorize_panoptic, draw_overlay
from sembox_ros.errors import DatasetError
from sembox_ros.labels import SceneLabels
from sembox_ros.replay.bag_writer import SceneBagWriter, topic_of
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.frames import Frame
from sembox_ros.replay.media import VideoWriter, unique_names
from sembox_ros.replay.scene_messages import MOVES, view_image
from sembox_ros.types import Detections, Scene

MASK_TOPIC, INSTANCES_TOPIC = 'segmentation/mask', 'panoptic/instances'
DEPTH_TOPIC, MOTION_TOPIC = 'depth', 'motion/mask'
BAG, RECORDS, SECONDS = 'bag', 'frames.jsonl', 'seconds.json'  # names inside of a part
MAX_NAME = 60  # characters of a camera's name in that of a file


@dataclass(frozen=True)
class FrameRecord:
    """One frame of a replay, as it is remembered.

    Attributes:
        index: its number among the image messages of the input.
        camera: name of its camera.
        stamp_ns: its header's stamp.
        received_ns: when its image was recorded.
        problem: why it was skipped; empty for one that was processed.
        timings_ms: stage -> milliseconds of this frame; of a batch, its share.
        boxes: rows x0, y0, x1, y1, class id, score and number of all boxes, also of those below the threshold of the
            outputs; None from a network that finds none.
        confidence: counts of the mask's confidences in 20 bins, None where they were not computed.
        size_hw: height and width of the image.
        answered_ns: when the answer to it was recorded; 0: offline, where it is recorded with the image's own time.
    """

    index: int
    camera: str
    stamp_ns: int
    received_ns: int
    problem: str = ''
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    boxes: Sequence[Sequence[float]] | None = ()
    confidence: Sequence[int] | None = None
    size_hw: tuple[int, int] = (0, 0)
    answered_ns: int = 0

    def scene(
        self,
        *,
        semantic: np.ndarray | None,
        instances: np.ndarray | None,
        depth: np.ndarray | None,
        motion: np.ndarray | None,
    ) -> Scene:
        """What was seen, with the parts of a `Scene` that were kept elsewhere."""
        boxes = None
        if self.boxes is not None:
            rows = np.array(self.boxes, np.float64).reshape(-1, 7)
            boxes = Detections(
                rows[:, :4].astype(np.float32),
                rows[:, 4].astype(np.int64),
                rows[:, 5].astype(np.float32),
                rows[:, 6].astype(np.int64),
            )
        size_hw = (self.size_hw[0], self.size_hw[1])
        return Scene(
            size_hw, semantic=semantic, detections=boxes, instances=instances, depth=depth, motion=motion
        )


def box_rows(detections: Detections) -> list[list[float]]:
    """Rows x0, y0, x1, y1, class id, score, number; float32 values survive as decimal text."""
    columns = (detections.class_ids, detections.scores, detections.ids)
    return np.column_stack((detections.boxes_xyxy, *columns)).astype(np.float64).tolist()


class PartWriter:
    """Writes one part: a bag, a video of each camera if wanted, and the records of its frames.

    Args:
        folder: of all parts.
        number: of this one.
        labels: what ids mean.
        score_threshold: least score of the boxes in the outputs.
        outputs: `color`, `overlay`, `depth` and `motion` for the bag, `video`.
        overlay_alpha: weight of the class colours in the overlay.
        rates_hz: camera -> frame rate of its video, of all cameras.

    Attributes:
        seconds: how long its frames took, reading and inference included; set by who knows it.

    Raises:
        DatasetError: nothing can be written there.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        labels: SceneLabels,
        *,
        score_threshold: float,
        outputs: frozenset[str],
        overlay_alpha: float,
        rates_hz: Mapping[str, float],
    ) -> None:
        self._final = folder / f'{number:04d}'
        self._folder = folder / f'{number:04d}.unfinished'
        self._labels, self._threshold, self._alpha = labels, score_threshold, overlay_alpha
        self._outputs, self._rates_hz = outputs, rates_hz
        self.seconds = 0.0
        self._records: list[FrameRecord] = []
        self._videos: dict[str, VideoWriter] = {}
        self._video_names = dict(zip(rates_hz, video_names(rates_hz), strict=True))
        with writing(self._folder):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
        self._bag = SceneBagWriter(self._folder / BAG, labels, score_threshold)
        self._bag.__enter__()

    def __len__(self) -> int:
        return len(self._records)

    def skip(self, frame: Frame, problem: str) -> None:
        """Remember a frame that cannot be used, and why."""
        self._records.append(FrameRecord(frame.index, frame.camera, frame.stamp_ns, frame.received_ns, problem))

    def write(self, frame: Frame, scene: Scene, record: FrameRecord) -> None:
        """Write what was seen in a frame.

        Raises:
            DatasetError: it cannot be written.
        """
        boxes = scene.detections if scene.detections is None else scene.detections.above(self._threshold)
        shown = dataclasses.replace(scene, detections=boxes)
        published = dataclasses.replace(
            shown,
            depth=scene.depth if 'depth' in self._outputs else None,
            motion=scene.motion if 'motion' in self._outputs else None,
        )
        color = panoptic_color = overlay = None
        is_shown = bool(self._outputs & {'color', 'overlay', 'video'})
        if scene.semantic is not None and self._labels.semantic is not None and is_shown:
            color = colorize(scene.semantic, self._labels.semantic)
        if 'color' in self._outputs and scene.instances is not None:
            panoptic_color = colorize_panoptic(published, self._labels)
        if self._outputs & {'overlay', 'video'}:
            assert frame.image is not None
            overlay = draw_overlay(frame.image, shown, self._labels, alpha=self._alpha, color=color)
        with writing(self._folder):
            self._bag.write(
                frame.camera,
                frame.header,
                frame.received_ns,
                published,
                color=color if 'color' in self._outputs else None,
                panoptic_color=panoptic_color,
                overlay=overlay if 'overlay' in self._outputs else None,
            )
            if 'video' in self._outputs and overlay is not None:
                self._video(frame.camera).write(overlay)
        self._records.append(record)

    def finish(self) -> None:
        """Close everything; from now on the part is there.

        Raises:
            DatasetError: it cannot be written.
        """
        with writing(self._folder):
            self._bag.__exit__(None, None, None)
            for video in self._videos.values():
                video.close()
            lines = (json.dumps(asdict(record), separators=(',', ':')) for record in self._records)
            (self._folder / RECORDS).write_text('\n'.join(lines))
            (self._folder / SECONDS).write_text(json.dumps(self.seconds))
            _reach_the_disk(self._folder)
            self._folder.rename(self._final)

    def abandon(self) -> None:
        """Close the files of a part that will not be finished, and remove it."""
        # Why it will not be finished is what is told, whatever closing broken files raises.
        with suppress(Exception):
            self._bag.__exit__(DatasetError, DatasetError(), None)
        for video in self._videos.values():
            with suppress(Exception):
                video.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _video(self, camera: str) -> VideoWriter:
        if camera not in self._videos:
            path = self._folder / self._video_names[camera]
            self._videos[camera] = VideoWriter(path, self._rates_hz[camera], preset='veryfast')
        return self._videos[camera]


def _reach_the_disk(folder: Path) -> None:
    """Wait until all files of a folder are on the disk: a power cut after its renaming must not find it empty."""
    for path in (*folder.rglob('*'), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def video_names(cameras: Iterable[str]) -> list[str]:
    """A file name for each camera's video, all different, whatever characters the cameras' names have."""
    plain = (re.sub(r'[^\w-]', '_', camera)[:MAX_NAME] for camera in cameras)
    return [f'{name}.mp4' for name in unique_names(f'overlay_{name}' if name else 'overlay' for name in plain)]


def finished_parts(folder: Path) -> list[Path]:
    """The parts that are there, in order."""
    return sorted(path for path in folder.glob('[0-9]*') if path.name.isdigit() and (path / RECORDS).is_file())


def read_records(part: Path) -> list[FrameRecord]:
    """The records of a part, in the order of the input.

    Raises:
        DatasetError: the file is damaged.
    """
    try:
        lines = (part / RECORDS).read_text().splitlines()
        return [FrameRecord(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(f'{part / RECORDS}: damaged ({error}); --overwrite begins anew') from error


def read_seconds(part: Path) -> float:
    """How long the frames of a part took.

    Raises:
        DatasetError: the file is damaged.
    """
    try:
        return float(json.loads((part / SECONDS).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(f'{part / SECONDS}: damaged ({error}); --overwrite begins anew') from error


def read_part(
    part: Path, labels: SceneLabels, maps: frozenset[str] = frozenset()
) -> Iterator[tuple[FrameRecord, Scene | None]]:
    """The frames of a part in the order of their recording; the scene is None for those that were skipped.

    Args:
        part: folder of the part.
        labels: those of the network, which say whether there are masks and instances.
        maps: those of `depth` and `motion` that the scenes are to have; they must have been recorded.

    Raises:
        DatasetError: a file of the part is damaged.
    """
    topics = {'depth': DEPTH_TOPIC, 'motion': MOTION_TOPIC}
    planes = _Planes(part, [MASK_TOPIC, INSTANCES_TOPIC, *(topics[name] for name in maps)])
    for record in sorted(read_records(part), key=lambda r: (r.received_ns, r.index)):
        if record.problem:
            yield record, None
            continue
        has_instances = labels.has_instances and record.boxes is not None
        yield record, record.scene(
            semantic=planes.take(MASK_TOPIC, record) if labels.semantic is not None else None,
            instances=planes.take(INSTANCES_TOPIC, record) if has_instances else None,
            depth=planes.take(DEPTH_TOPIC, record) if 'depth' in maps else None,
            motion=planes.take(MOTION_TOPIC, record) == MOVES if 'motion' in maps else None,
        )


class _Planes:
    """Images of some topics of a part's bag, given out by frame; only those that nobody took yet are in memory."""

    def __init__(self, part: Path, names: Iterable[str]) -> None:
        self._part = part
        topics = tuple(f'/{name}' for name in names)
        self._messages = (entry for entry in read_bag(part / BAG) if entry.topic.endswith(topics))
        self._waiting: dict[tuple[str, int, int], deque[np.ndarray]] = defaultdict(deque)

    def take(self, name: str, record: FrameRecord) -> np.ndarray:
        """The image of that topic that belongs to a frame; of several with one key, the first that is left.

        Raises:
            DatasetError: it is not there.
        """
        # As BagWriter writes it.
        key = (topic_of(record.camera, name), record.stamp_ns, max(0, record.received_ns))
        while not self._waiting[key]:
            entry = next(self._messages, None)
            if entry is None:
                raise DatasetError(
                    f'{self._part}: {key[0]} of frame {record.index} is missing; --overwrite begins anew'
                )
            self._waiting[entry.topic, entry.stamp_ns or 0, entry.received_ns].append(view_image(entry.message))
        found = self._waiting[key].popleft()
        if not self._waiting[key]:
            del self._waiting[key]
        return found


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses while the body writes into one clear error.

    Raises:
        DatasetError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DatasetError(f'{path}: cannot be written: {error.strerror or error}') from error
