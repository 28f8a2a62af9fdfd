from __future__ import annotations

import time

import pytest

from sembox_ros.ros.statistics import OUTCOMES, FrameStatistics, Stopwatch


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


def test_a_total_gets_everything_of_its_parts():
    total = FrameStatistics()
    front, left = FrameStatistics(total), FrameStatistics(total)
    front.count('received')
    left.count('received')
    left.count('failed')
    left.remember_failure('dark')
    front.record({'network': 1.0})
    left.record({'network': 3.0})
    assert total.counts() == {'received': 2, **dict.fromkeys(OUTCOMES, 0), 'failed': 1}
    assert (total.last_failure, left.last_failure, front.last_failure) == ('dark', 'dark', '')
    assert total.percentiles_ms()['network'][0] == 2.0
    assert front.percentiles_ms()['network'][0] == 1.0


def test_the_stopwatch_adds_up():
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage('a'):
            time.sleep(0.01)
    assert watch.timings_ms['a'] >= 20
