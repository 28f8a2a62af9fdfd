"""The numbers of an online replay, as report.json has them in its section `online`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sembox_ros.evaluation.latency import summarize_ms
from sembox_ros.replay.health import HealthReport
from sembox_ros.replay.live import LiveRun

COUNTED = ('received', 'processed', 'dropped', 'stale')  # whose course is of interest


def online_section(run: LiveRun) -> dict[str, Any]:
    """Everything measured of a live run, as plain numbers; None where there is no such number.

    played, answered: images published, and those of them to which an answer was recorded.
    counts: what the node says became of the images that it received; at the end, received is the sum of the others.
    end_to_end_ms, age_ms: see `LiveFrame`; of the answered images.
    stages_ms: the node's own times, of its last 300 images.
    throughput_hz: answers per second, between the first and the last.
    cpu_percent_mean: of the node's process, from the first image to the last answer; 100 % is one core.
    memory_mib_max: of the node's process, resident.
    samples: the course of these; t_s is seconds since the first image was played, counts are those of the node's last
    report before.
    """
    last = run.reports[-1] if run.reports else HealthReport()
    times_ns = [frame.answered_ns for frame in run.frames if frame.answered_ns is not None]
    busy = [sample for sample in run.usage if times_ns and sample.wall_ns <= max(times_ns)] or run.usage[:1]
    return {
        'rate': run.rate,
        'played': len(run.frames),
        'answered': len(times_ns),
        'counts': last.counts,
        'end_to_end_ms': latencies_ms([frame.end_to_end_ms for frame in run.frames]),
        'age_ms': latencies_ms([frame.age_ms for frame in run.frames]),
        'stages_ms': last.stages_ms,
        'throughput_hz': throughput_hz(times_ns),
        'cpu_percent_mean': mean([sample.cpu_percent for sample in busy]),
        'memory_mib_max': max((sample.memory_mib for sample in run.usage), default=None),
        'samples': course(run),
    }


def course(run: LiveRun) -> dict[str, list[float | int]]:
    """Use of the machine and counts over time, one list each, all of one length."""
    begin_ns = run.frames[0].played_ns if run.frames else 0
    reports = [latest_report(run.reports, sample.wall_ns) for sample in run.usage]
    samples: dict[str, list[float | int]] = {
        't_s': [(sample.wall_ns - begin_ns) * 1e-9 for sample in run.usage],
        'cpu_percent': [sample.cpu_percent for sample in run.usage],
        'memory_mib': [sample.memory_mib for sample in run.usage],
        'device_memory_mib': [report.memory_mib('device') for report in reports],
    }
    for name in COUNTED:
        samples[name] = [report.counts[name] for report in reports]
    return samples


def latest_report(reports: Sequence[HealthReport], wall_ns: int) -> HealthReport:
    """The last of the reports that was recorded by then; an empty one if there is none."""
    return next((report for report in reversed(reports) if report.recorded_ns <= wall_ns), HealthReport())


def latencies_ms(values: Sequence[float | None]) -> dict[str, float | None]:
    """p50, p95, p99, mean and max of those that there are; None each without any."""
    known = [value for value in values if value is not None]
    return {**summarize_ms(known)} if known else dict.fromkeys(('p50', 'p95', 'p99', 'mean', 'max'))


def throughput_hz(times_ns: Sequence[int]) -> float | None:
    """Events per second between the first and the last of them; None of fewer than two."""
    span_s = (max(times_ns) - min(times_ns)) * 1e-9 if times_ns else 0.0
    return (len(times_ns) - 1) / span_s if span_s > 0 else None


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if values else None
