"""What happened to frames: a count of every outcome, and how long each stage took."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

# What can become of a received frame; every one ends in exactly one of these.
OUTCOMES = ('processed', 'dropped', 'stale', 'failed', 'paused', 'idle')
WINDOW = 300  # frames that the percentiles look back on


class FrameStatistics:
    """Counts and latencies of frames; safe to use from several threads.

    Args:
        total: statistics of several cameras, to which everything is added as well.
    """

    def __init__(self, total: FrameStatistics | None = None) -> None:
        self._total = total
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latencies: dict[str, deque[float]] = {}
        self.last_failure = ''

    def count(self, what: str) -> None:
        """Add one to `received` or to an outcome."""
        with self._lock:
            self._counts[what] += 1
        if self._total is not None:
            self._total.count(what)

    def record(self, timings_ms: Mapping[str, float]) -> None:
        """Remember the latencies of one processed frame, stage name -> milliseconds."""
        with self._lock:
            for stage, value in timings_ms.items():
                self._latencies.setdefault(stage, deque(maxlen=WINDOW)).append(value)
        if self._total is not None:
            self._total.record(timings_ms)

    def remember_failure(self, reason: str) -> None:
        """Keep the reason of the newest failure; counting it is `count`'s business."""
        self.last_failure = reason
        if self._total is not None:
            self._total.remember_failure(reason)

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
