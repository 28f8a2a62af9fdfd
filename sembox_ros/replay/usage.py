"""How much of the machine a process uses."""

from __future__ import annotations

import time
from typing import NamedTuple

import psutil


class UsageSample(NamedTuple):
    """Use of the machine at one time.

    Attributes:
        wall_ns: `time.time_ns`.
        cpu_percent: since the sample before; 100 is one core.
        memory_mib: resident.
    """

    wall_ns: int
    cpu_percent: float
    memory_mib: float


class UsageSampler:
    """Takes samples of a process and its children.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = (time.monotonic(), self._measure()[0])

    def sample(self) -> UsageSample:
        """The use since the sample before, or since the sampler was made; zeros once the process has ended."""
        cpu_s, memory_bytes = self._measure()
        now = time.monotonic()
        elapsed_s, used_s = now - self._before[0], cpu_s - self._before[1]
        self._before = (now, cpu_s)
        # A child that ended takes its time with it.
        percent = 100 * max(0.0, used_s) / max(elapsed_s, 1e-3)
        return UsageSample(time.time_ns(), percent, memory_bytes / 2**20)

    def _measure(self) -> tuple[float, int]:
        """Seconds of CPU and bytes of resident memory so far."""
        cpu_s, memory_bytes = 0.0, 0
        try:
            root = psutil.Process(self._pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0.0, 0
        for process in processes:
            try:
                times = process.cpu_times()
                cpu_s += times.user + times.system
                memory_bytes += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return cpu_s, memory_bytes
