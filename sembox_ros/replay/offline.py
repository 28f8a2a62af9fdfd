"""Every frame of a bag through the predictor: reading, inference and writing side by side."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from sembox_ros.config import DetectionConfig
from sembox_ros.errors import InputError
from sembox_ros.evaluation.stability import count_confidence
from sembox_ros.inference.predictor import Predictor
from sembox_ros.replay.bag_files import shorten
from sembox_ros.replay.frames import Frame, FrameReader
from sembox_ros.replay.parts import FrameRecord, PartWriter, box_rows
from sembox_ros.types import Scene

PART_FRAMES = 128
CONFIDENCE_EVERY = 8  # batches: confidences cost time, and a sample of them gives the histogram
BATCHES_WAITING = 2


@dataclass(frozen=True)
class Batch:
    """Consecutive frames of the input and, for the good ones among them, what was seen."""

    frames: list[Frame]
    scenes: Mapping[int, Scene]  # by index of the frame
    problems: Mapping[int, str]  # why the network refused a frame
    record_confidence: bool


class Writer:
    """Writes batches in a thread of its own, part by part.

    Args:
        create_part: makes the writer of the part with a number.
        first_part: number of the first part to write.
        progress: called with the number of frames written.
    """

    def __init__(
        self, create_part: Callable[[int], PartWriter], first_part: int, progress: Callable[[int], None]
    ) -> None:
        self._create_part, self._number, self._progress = create_part, first_part, progress
        self._part: PartWriter | None = None
        self._begun_s = time.monotonic()  # with the part that is being written
        self._queue: queue.Queue[Batch | None] = queue.Queue(BATCHES_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name='replay-write', daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Hand over a batch; waits while the writer is behind.

        Raises:
            DatasetError: something could not be written.
        """
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(batch, timeout=0.1)
                return
            except queue.Full:
                continue

    def finish(self) -> None:
        """Write what is waiting and close the part, however short it is.

        Raises:
            DatasetError: something could not be written; the parts before stay.
        """
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (batch := self._queue.get()) is not None:
                self._write(batch)
            if self._part is not None:
                self._finish_part(self._part)
        except BaseException as error:
            self._error = error
            if self._part is not None:
                self._part.abandon()

    def _write(self, batch: Batch) -> None:
        if self._part is None:
            self._part = self._create_part(self._number)
        for frame in batch.frames:
            scene = batch.scenes.get(frame.index)
            if scene is None:
                self._part.skip(frame, batch.problems.get(frame.index, frame.problem))
            else:
                # Images of one run of the network have its times; those of another size are a run of their own.
                share = sum(other.timings_ms == scene.timings_ms for other in batch.scenes.values())
                self._write_frame(frame, scene, share, batch.record_confidence)
        self._progress(len(batch.frames))
        if len(self._part) >= PART_FRAMES:
            self._finish_part(self._part)
            self._part, self._number = None, self._number + 1

    def _finish_part(self, part: PartWriter) -> None:
        now_s = time.monotonic()
        part.seconds, self._begun_s = now_s - self._begun_s, now_s
        part.finish()

    def _write_frame(self, frame: Frame, scene: Scene, share: int, record_confidence: bool) -> None:
        assert self._part is not None
        timings = {**frame.timings_ms, **{name: ms / share for name, ms in scene.timings_ms.items()}}
        confidence = None
        if record_confidence and scene.confidence is not None:
            confidence = count_confidence(scene.confidence).tolist()
        start = time.perf_counter()
        record = FrameRecord(
            index=frame.index,
            camera=frame.camera,
            stamp_ns=frame.stamp_ns,
            received_ns=frame.received_ns,
            timings_ms=timings,
            boxes=None if scene.detections is None else box_rows(scene.detections),
            confidence=confidence,
            size_hw=scene.size_hw,
        )
        self._part.write(frame, scene, record)
        timings['write'] = (time.perf_counter() - start) * 1e3


def replay_frames(
    reader: FrameReader,
    predictor: Predictor,
    writer: Writer,
    *,
    detection: DetectionConfig,
    min_instance_score: float,
    batch: int,
    parts: frozenset[str],
) -> None:
    """Send all frames through the network, in batches of consecutive good ones; Ctrl-C keeps what was seen so far.

    A batch holds the same frames however fast the threads are, and a replay that goes on continues at a batch's end,
    so the same bag gives the same batches.

    Args:
        reader: gives the frames.
        predictor: the network.
        writer: takes the results.
        detection: thresholds.
        min_instance_score: that of the outputs: boxes below it get no pixels.
        batch: frames per run of the network.
        parts: of a scene, that are wanted beside mask, boxes and instances; the confidence of a sample of batches is
            wanted in any case, for the histogram.

    Raises:
        DatasetError: the results cannot be written.
        KeyboardInterrupt: after what was seen has been written.
    """
    predict = partial(predictor.predict, detection=detection, min_instance_score=min_instance_score)
    try:
        for frames in _batches(reader, batch):
            # By the number of the frame, so that a replay that goes on samples what one in one go does.
            sampled = frames[0].index // batch % CONFIDENCE_EVERY == 0
            outputs = {'semantic', 'detections', 'instances', *parts, *(['confidence'] if sampled else [])}
            scenes, problems = _predict(partial(predict, outputs=outputs), [f for f in frames if not f.problem])
            writer.put(Batch(frames, scenes, problems, sampled))
    finally:
        writer.finish()


def _batches(reader: FrameReader, size: int) -> Iterator[list[Frame]]:
    """Runs of frames with `size` good ones each; the last may be shorter."""
    frames: list[Frame] = []
    good = 0
    for frame in reader:
        frames.append(frame)
        good += not frame.problem
        if good == size:
            yield frames
            frames, good = [], 0
    if frames:
        yield frames


def _predict(
    predict: Callable[..., list[Scene]], frames: list[Frame]
) -> tuple[dict[int, Scene], dict[int, str]]:
    """Scenes by index; a batch that fails is done again one by one, and frames that fail alone are named with why."""
    images = [frame.image for frame in frames if frame.image is not None]
    if not images:
        return {}, {}
    try:
        scenes = predict(images, previous=[frame.previous for frame in frames])
        return {frame.index: scene for frame, scene in zip(frames, scenes, strict=True)}, {}
    except (InputError, RuntimeError, MemoryError) as error:
        if len(frames) == 1:
            return {}, {frames[0].index: shorten(error)}
    scenes_by_index: dict[int, Scene] = {}
    problems: dict[int, str] = {}
    for frame in frames:
        found, refused = _predict(predict, [frame])
        scenes_by_index |= found
        problems |= refused
    return scenes_by_index, problems
