"""The section `online` of report.json, from runs whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from example_report import online_report

from sembox_ros.replay.exchange import LiveFrame
from sembox_ros.replay.health import HealthReport
from sembox_ros.replay.live import LiveRun
from sembox_ros.replay.live_numbers import online_section
from sembox_ros.replay.report_schema import check_report
from sembox_ros.replay.usage import UsageSample

MS, S = 10**6, 10**9


def report(at_s: float, **values: int | float) -> HealthReport:
    return HealthReport(int(at_s * S), {name: str(value) for name, value in values.items()})


def check_section(section: dict) -> None:
    """It fits into a report, and comes out of its file as it was."""
    text = json.dumps({**online_report(), 'online': section}, allow_nan=False)
    assert check_report(json.loads(text), 'report')['online'] == section


def test_numbers_of_a_known_run():
    # Four frames 100 ms apart, stamped 20 ms before they were recorded; the third was dropped.
    frames = [
        LiveFrame('', 50 * S + i * 100 * MS, 50 * S + i * 100 * MS + 20 * MS, 10 * S + i * 100 * MS) for i in range(4)
    ]
    for index, latency_ms in ((0, 10), (1, 20), (3, 30)):
        frames[index].answered_ns = frames[index].played_ns + latency_ms * MS
    usage = [UsageSample(10 * S, 50.0, 300.0), UsageSample(11 * S, 1.0, 400.0)]  # the second after the last answer
    reports = [
        report(9.9, received=0, processed=0),
        report(
            10.6, received=4, processed=3, dropped=1, device_memory_mib=77, total_p50_ms=12.5, total_p95_ms=20,
            total_p99_ms=21,
        ),
    ]  # fmt: skip
    section = online_section(LiveRun(Path('bag'), None, 2.0, frames, usage, reports))
    assert (section['rate'], section['played'], section['answered']) == (2.0, 4, 3)
    assert section['counts'] == {
        'received': 4, 'processed': 3, 'dropped': 1, 'stale': 0, 'failed': 0, 'paused': 0, 'idle': 0,
    }  # fmt: skip
    assert section['end_to_end_ms'] == pytest.approx({'p50': 20, 'p95': 29, 'p99': 29.8, 'mean': 20, 'max': 30})
    assert section['age_ms'] == pytest.approx({'p50': 40, 'p95': 49, 'p99': 49.8, 'mean': 40, 'max': 50})
    assert section['stages_ms'] == {'total': {'p50': 12.5, 'p95': 20.0, 'p99': 21.0}}
    assert section['throughput_hz'] == pytest.approx(2 / 0.32)
    assert (section['cpu_percent_mean'], section['memory_mib_max']) == (50.0, 400.0)
    samples = section['samples']
    assert samples['t_s'] == pytest.approx([0, 1])
    assert (samples['cpu_percent'], samples['memory_mib']) == ([50.0, 1.0], [300.0, 400.0])
    assert (samples['device_memory_mib'], samples['dropped'], samples['received']) == ([0, 77], [0, 1], [0, 4])
    check_section(section)


def test_what_was_not_measured_is_none():
    section = online_section(LiveRun(Path('bag'), 'interrupted', 1.0, [], [], []))
    for name in ('throughput_hz', 'cpu_percent_mean', 'memory_mib_max'):
        assert section[name] is None, name
    assert section['end_to_end_ms'] == section['age_ms'] == dict.fromkeys(('p50', 'p95', 'p99', 'mean', 'max'))
    assert section['played'] == section['answered'] == 0
    assert set(section['samples']) == {
        't_s', 'cpu_percent', 'memory_mib', 'device_memory_mib', 'received', 'processed', 'dropped', 'stale',
    }  # fmt: skip
    check_section(section)
