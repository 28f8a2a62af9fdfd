from __future__ import annotations

import threading
import time

import pytest
from harness import wait_until

from sembox_ros.ros.worker import OUTCOMES, FrameStatistics, FrameWorker, Stopwatch


def test_the_newest_frame_wins_and_the_others_are_counted():
    statistics, done, gate = FrameStatistics(), [], threading.Event()

    def process(frame: int, arrival: float) -> None:
        assert arrival <= time.perf_counter()
        gate.wait(5)
        done.append(frame)

    worker = FrameWorker(process, statistics)
    worker.offer(0)
    wait_until(lambda: worker._pending is None, 'the first frame to be taken')
    for frame in (1, 2, 3):
        worker.offer(frame)
    gate.set()
    wait_until(lambda: len(done) == 2, 'two frames')
    assert done == [0, 3]
    assert statistics.counts()['dropped'] == 2
    assert worker.stop(5)


def test_stop_gives_up_on_a_frame_in_flight_and_counts_the_waiting_one():
    statistics, gate, started = FrameStatistics(), threading.Event(), threading.Event()

    def process(frame: int, arrival: float) -> None:
        started.set()
        gate.wait(10)

    worker = FrameWorker(process, statistics)
    worker.offer(0)
    assert started.wait(5)
    worker.offer(1)
    assert not worker.stop(0.05)
    assert statistics.counts()['dropped'] == 1
    gate.set()
    assert worker.stop(5)


def test_a_discarded_frame_is_counted_as_asked():
    statistics, gate, started = FrameStatistics(), threading.Event(), threading.Event()

    def process(frame: int, arrival: float) -> None:
        started.set()
        gate.wait(10)

    worker = FrameWorker(process, statistics)
    worker.discard('paused')  # nothing waits: nothing counted
    worker.offer(0)
    assert started.wait(5)
    worker.offer(1)
    worker.discard('paused')
    assert statistics.counts()['paused'] == 1
    gate.set()
    assert worker.stop(5)


def test_statistics_count_and_summarise():
    statistics = FrameStatistics()
    for outcome in ('received', *OUTCOMES, 'failed'):
        statistics.count(outcome)
    assert statistics.counts() == {'received': 1, **dict.fromkeys(OUTCOMES, 1), 'failed': 2}
    for value in range(1, 101):
        statistics.record({'network': float(value)})
    assert statistics.percentiles_ms()['network'] == pytest.approx((50.5, 95.05, 99.01))


def test_percentiles_look_back_on_a_window_only():
    statistics = FrameStatistics()
    for _ in range(1000):
        statistics.record({'total': 1000.0})
    for _ in range(300):
        statistics.record({'total': 1.0})
    assert statistics.percentiles_ms()['total'] == (1.0, 1.0, 1.0)


def test_the_stopwatch_adds_up():
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage('a'):
            time.sleep(0.01)
    assert watch.timings_ms['a'] >= 20
