"""Samples of a process's use of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from sembox_ros.replay.usage import UsageSampler


def test_a_busy_process_uses_a_core_and_an_ended_one_nothing():
    sampler = UsageSampler(os.getpid())
    used, start = time.process_time(), time.monotonic()
    while time.process_time() - used < 0.2:
        pass
    elapsed_s = time.monotonic() - start
    sample = sampler.sample()
    assert abs(sample.cpu_percent - 100 * 0.2 / elapsed_s) < 40  # /proc counts in steps of 10 ms; others run beside
    assert 10 < sample.memory_mib < 100_000
    assert abs(sample.wall_ns - time.time_ns()) < 10**9
    ended = subprocess.Popen([sys.executable, '-c', ''])
    sampler = UsageSampler(ended.pid)
    ended.wait()
    assert sampler.sample()[1:] == (0.0, 0.0)
