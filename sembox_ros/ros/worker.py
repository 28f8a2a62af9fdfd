"""Newest frame wins: one slot, one thread, and a count of everything that happened to a frame."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

# What can become of a received frame; every one ends in exactly one of these.
OUTCOMES = ('processed', 'dropped', 'stale', 'failed', 'paused', 'idle')
WINDOW = 300  # frames that the percentiles look back on


class FrameStatistics:
    """Counts and latencies of frames; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latencies: dict[str, deque[float]] = {}
        self.last_failure = ''

    def count(self, what: str) -> None:
        """Add one to `received` or to an outcome."""
        with self._lock:
            self._counts[what] += 1

    def record(self, timings_ms: Mapping[str, float]) -> None:
        """Remember the latencies of one processed frame, stage name -> milliseconds."""
        with self._lock:
            for stage, value in timings_ms.items():
                self._latencies.setdefault(stage, deque(maxlen=WINDOW)).append(value)

    def counts(self) -> dict[str, int]:
        """Totals since the node was configured: `received` and every outcome."""
        with self._lock:
            return {name: self._counts[name] for name in ('received', *OUTCOMES)}

    def percentiles_ms(self) -> dict[str, tuple[float, float, float]]:
        """Stage -> (p50, p95, p99) over the last `WINDOW` processed frames, in milliseconds."""
        with self._lock:
            windows = {stage: list(values) for stage, values in self._latencies.items()}
        result = {}
        for stage, values in windows.items():
            p50, p95, p99 = np.percentile(values, (50, 95, 99))
            result[stage] = (float(p50), float(p95), float(p99))
        return result


class Stopwatch:
    """Adds up the milliseconds spent in named stages of one frame."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body as stage `name`; several bodies of one name add up."""
        start = time.perf_counter()
        yield
        self.timings_ms[name] = self.timings_ms.get(name, 0.0) + (time.perf_counter() - start) * 1e3


class FrameWorker:
    """A thread that always works on the newest frame.

    `offer` only stores a frame; one that was stored and not yet taken is dropped and counted, so nothing
    queues up behind a slow network.

    Args:
        process: called in the thread with a frame and the `time.perf_counter` of its arrival; must not raise.
        statistics: where arrivals and drops are counted.
    """

    def __init__(self, process: Callable[[Any, float], None], statistics: FrameStatistics) -> None:
        self._process = process
        self._statistics = statistics
        self._condition = threading.Condition()
        self._pending: tuple[Any, float] | None = None
        self._stopping = False
        # A daemon: a frame in flight must not keep the process alive after a signal.
        self._thread = threading.Thread(target=self._run, name='sembox-worker', daemon=True)
        self._thread.start()

    def offer(self, frame: Any) -> None:
        """Store a frame for the thread, in place of one that it has not taken yet."""
        with self._condition:
            if self._pending is not None:
                self._statistics.count('dropped')
            self._pending = (frame, time.perf_counter())
            self._condition.notify()

    def discard(self, outcome: str) -> None:
        """Throw away the frame that waits, if any, and count it as `outcome`."""
        with self._condition:
            if self._pending is not None:
                self._pending = None
                self._statistics.count(outcome)

    def stop(self, timeout_s: float) -> bool:
        """End the thread after the frame in flight; False if it was still busy after `timeout_s` seconds."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self.discard('dropped')
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending is not None or self._stopping)
                if self._stopping:
                    return
                assert self._pending is not None
                frame, arrival = self._pending
                self._pending = None
            self._process(frame, arrival)
            del frame  # megabytes that need not wait for the next one
