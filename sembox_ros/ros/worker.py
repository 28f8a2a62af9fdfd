"""Three threads between a camera's message and its answer: decode, infer, publish. The newest frame wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sembox_ros.config import NodeConfig
from sembox_ros.ros.slots import NewestSlots
from sembox_ros.ros.statistics import FrameStatistics, Stopwatch
from sembox_ros.types import Scene


@dataclass(eq=False)
class Frame:
    """One image on its way; stages fill in what the next ones need, and take away what they do not.

    Attributes:
        camera: name of its slot.
        message: as it came; None once it is decoded.
        arrival: `time.perf_counter` at which it came.
        published: `time.perf_counter` of its last message so far.
        watch: times of its stages.
        header: of the message, for its answers.
        image: (H, W, 3) uint8 rgb, while somebody needs it.
        previous: the one before it from the same camera, for networks that see what moved.
        topics: what its camera's subscribers want.
        config: what the node was told when the frame was inferred.
        scene: what the network saw.
    """

    camera: str
    message: Any
    arrival: float = field(default_factory=time.perf_counter)
    published: float = 0.0
    watch: Stopwatch = field(default_factory=Stopwatch)
    header: Any = None
    image: np.ndarray | None = None
    previous: np.ndarray | None = None
    topics: frozenset[str] = frozenset()
    config: NodeConfig | None = None
    scene: Scene | None = None

    def latencies_ms(self) -> dict[str, float]:
        """Milliseconds per stage; `total` is arrival to last message, `wait` all of it that no stage accounts for."""
        total = (self.published - self.arrival) * 1e3
        waited = max(0.0, total - sum(self.watch.timings_ms.values()))
        return {'wait': waited, **self.watch.timings_ms, 'total': total}


class Stages(Protocol):
    """What a `FrameWorker` does with frames.

    The steps for one frame return the outcome that it ends in, or None if it goes on to the next step.
    Whatever a step raises fails its frame.
    """

    def decode(self, frame: Frame) -> str | None:
        """First thread: the message becomes an image."""

    def admit(self, frame: Frame) -> str | None:
        """Second thread: whether the image still deserves the network."""

    def infer(self, frames: list[Frame]) -> None:
        """Second thread: give each frame its scene, all or none."""

    def publish_results(self, frame: Frame) -> str | None:
        """Third thread: what robots wait for."""

    def publish_pictures(self, frame: Frame) -> str | None:
        """Third thread, after the results of the whole batch: what people look at."""

    def report_failure(self, frame: Frame, error: Exception) -> None:
        """Any thread: tell why a frame fails."""

    def report_retry(self, count: int, error: Exception) -> None:
        """Second thread: tell why a batch of `count` frames is done again, one by one."""


class FrameWorker:
    """Works on the newest frame of each camera, in three threads.

    `offer` only stores a frame; one that was stored and not yet taken is dropped and counted, so nothing queues
    up behind a slow network. While one batch is inferred, the next frames are decoded and the last results
    published:

        offer > slot per camera > decode > slot per camera > batch, infer > one batch > publish

    Inference takes no new batch while one still waits for the publisher: it would only grow old. Each step is one
    thread that takes frames in order, so the answers of a camera come in the order of its frames.

    Args:
        stages: what is done with frames.
        statistics: camera -> where its outcomes and latencies go; its keys are the cameras.
        max_batch: most frames inferred at once.
        window_s: asked before each batch for how many seconds the first decoded frame waits for other cameras'.
    """

    def __init__(
        self,
        stages: Stages,
        statistics: Mapping[str, FrameStatistics],
        *,
        max_batch: int = 8,
        window_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._stages = stages
        self._statistics = statistics
        self._max_batch = max_batch
        self._full = min(max_batch, len(statistics))
        self._window_s = window_s
        self._condition = threading.Condition()  # guards everything below
        self._received: NewestSlots[Frame] = NewestSlots(statistics)
        self._decoded: NewestSlots[Frame] = NewestSlots(statistics)
        self._inferred: list[Frame] = []
        self._inferring = True
        self._stopping = False
        steps = {'decode': self._decode_next, 'infer': self._infer_next, 'publish': self._publish_next}
        # Daemons: a frame in flight must not keep the process alive after a signal.
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=f'sembox-{name}', daemon=True)
            for name, step in steps.items()
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, camera: str, message: Any) -> None:
        """Store a frame, in place of one of the same camera that waits to be decoded."""
        self._put(self._received, Frame(camera, message))

    def discard(self, outcome: str) -> None:
        """Throw away all frames that wait for decoding or inference, and count them as `outcome`."""
        with self._condition:
            for frame in self._received.clear() + self._decoded.clear():
                self._end(frame, outcome)

    def stop(self, timeout_s: float) -> bool:
        """End the threads after the batches in flight; False if one was still busy after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self.discard('dropped')
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, step: Callable[[], bool]) -> None:
        # Each step is a call of its own, so that a waiting thread holds no frame of the last one: they are megabytes.
        while step():
            pass

    def _decode_next(self) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._received or self._stopping)
            if self._stopping:
                return False
            [frame] = self._received.take(1)
        if self._goes_on(frame, self._stages.decode):
            self._put(self._decoded, frame)
        return True

    def _infer_next(self) -> bool:
        batch = self._next_batch()
        if not batch:
            with self._condition:
                self._inferring = False
                self._condition.notify_all()
            return False
        inferred = self._infer([frame for frame in batch if self._goes_on(frame, self._stages.admit)])
        with self._condition:
            self._inferred = inferred
            self._condition.notify_all()
        return True

    def _next_batch(self) -> list[Frame]:
        """Wait for frames and for their company; empty when the worker stops."""
        with self._condition:
            while True:
                self._condition.wait_for(lambda: self._stopping or (self._decoded and not self._inferred))
                if self._stopping:
                    return []
                left_s = self._decoded.since + self._window_s() - time.perf_counter()
                if len(self._decoded) >= self._full or left_s <= 0:
                    return self._decoded.take(self._max_batch)
                self._condition.wait(left_s)

    def _infer(self, batch: list[Frame]) -> list[Frame]:
        """Infer a batch, or if that fails its frames one by one; returns those that succeeded."""
        if not batch:
            return []
        try:
            self._stages.infer(batch)
            return batch
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0], error)
                return []
            self._stages.report_retry(len(batch), error)
        # Outside of the handler, whose traceback holds on to all memory of the attempt.
        return [frame for single in batch for frame in self._infer([single])]

    def _publish_next(self) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._inferred or not self._inferring)
            batch, self._inferred = self._inferred, []
            self._condition.notify_all()
        unfinished = [frame for frame in batch if self._goes_on(frame, self._stages.publish_results)]
        for frame in unfinished:
            self._goes_on(frame, self._stages.publish_pictures)
        return bool(batch)

    def _put(self, slots: NewestSlots[Frame], frame: Frame) -> None:
        with self._condition:
            replaced = frame if self._stopping else slots.put(frame.camera, frame)
            if replaced is not None:
                self._end(replaced, 'dropped')
            self._condition.notify_all()

    def _goes_on(self, frame: Frame, step: Callable[[Frame], str | None]) -> bool:
        """Take one step with a frame; one that ends there is counted."""
        try:
            outcome = step(frame)
        except Exception as error:  # a frame must never end the node
            self._fail(frame, error)
            return False
        if outcome is not None:
            self._end(frame, outcome)
        return outcome is None

    def _fail(self, frame: Frame, error: Exception) -> None:
        self._stages.report_failure(frame, error)
        self._end(frame, 'failed')

    def _end(self, frame: Frame, outcome: str) -> None:
        statistics = self._statistics[frame.camera]
        if outcome == 'processed':
            statistics.record(frame.latencies_ms())
        statistics.count(outcome)
        # Its batch may still hold the frame for a while.
        frame.message = frame.image = frame.previous = frame.scene = None
