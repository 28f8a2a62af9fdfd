"""Two reports against each other: what became better or worse, and whether by more than is tolerated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sembox_ros.page import finite, percent
from sembox_ros.replay.report_schema import main_latency

Report = Mapping[str, Any]

CLASS_IOU = 'class_iou'  # the tolerance that holds for each class
CLASS_CHANGE = 0.02  # changes of a class from here on are shown


@dataclass(frozen=True)
class Tolerance:
    """How much worse B may be than A.

    Attributes:
        value: 0 or more.
        relative: whether it is a share of A's number; else it is in the metric's own unit.
    """

    value: float
    relative: bool = False

    def __str__(self) -> str:
        return f'{100 * self.value:g}%' if self.relative else f'{self.value:g}'

    def limit(self, a: float) -> float:
        """The difference that it allows beside this number of A."""
        return self.value * abs(a) if self.relative else self.value


@dataclass(frozen=True)
class Metric:
    """A number of a report.

    Attributes:
        name: of the metric and of its tolerance.
        read: gives it, None where the report has none.
        unit: 'share' (0..1, shown in percent) or what stands behind the number.
        higher_is_better: direction.
        tolerance: where none is given.
    """

    name: str
    read: Callable[[Report], float | None]
    unit: str
    higher_is_better: bool
    tolerance: Tolerance

    def show(self, value: float | None, *, signed: bool = False) -> str:
        """A number of this metric, with its unit; '-' for None."""
        if value is None:
            return '-'
        if self.unit == 'share':
            return f'{100 * value:+.1f}' if signed else f'{percent(value)} %'
        return f'{value:+.3g}' if signed else f'{value:.4g} {self.unit}'.rstrip()

    def show_tolerance(self, tolerance: Tolerance) -> str:
        """A tolerance beside numbers that `show` has shown."""
        is_points = self.unit == 'share' and not tolerance.relative
        return f'{100 * tolerance.value:g}' if is_points else str(tolerance)


@dataclass(frozen=True)
class Row:
    """One metric of both reports.

    Attributes:
        metric: which.
        a: its number in A, None where there is none.
        b: its number in B.
        tolerance: that was applied.
        verdict: 'better', 'equal', 'worse, within tolerance', 'WORSE', 'WORSE: missing in B' or 'only in B'.
    """

    metric: Metric
    a: float | None
    b: float | None
    tolerance: Tolerance
    verdict: str

    @property
    def is_worse(self) -> bool:
        """Whether B is worse than is tolerated."""
        return self.verdict.startswith('WORSE')

    @property
    def difference(self) -> float | None:
        """B - A, None where one is missing."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """What two reports say beside each other.

    Attributes:
        rows: metrics that at least one report has.
        classes: (class, IoU in A, IoU in B), largest change first, from `CLASS_CHANGE` on.
        settings: (setting, value in A, value in B) of all that differ.
        warnings: why the two cannot simply be compared.
    """

    rows: list[Row]
    classes: list[tuple[str, float | None, float | None]]
    settings: list[tuple[str, str, str]]
    warnings: list[str]

    @property
    def worse(self) -> list[str]:
        """Names of the metrics that are worse than is tolerated."""
        return [row.metric.name for row in self.rows if row.is_worse]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; docs/replay.md explains the fields."""
        return {
            'schema': 'sembox_ros/replay_comparison',
            'version': 1,
            'worse': self.worse,
            'metrics': [
                {
                    'name': row.metric.name, 'a': row.a, 'b': row.b, 'difference': row.difference,
                    'tolerance': str(row.tolerance), 'verdict': row.verdict,
                } for row in self.rows
            ],
            'classes': [{'name': name, 'iou_a': a, 'iou_b': b} for name, a, b in self.classes],
            'settings': [{'name': name, 'a': a, 'b': b} for name, a, b in self.settings],
            'warnings': self.warnings,
        }  # fmt: skip


def _at(path: str) -> Callable[[Report], float | None]:
    """Reader of the number at a dotted path, None where a part of it is absent."""

    def read(report: Report) -> float | None:
        value: Any = report
        for name in path.split('.'):
            value = value.get(name) if isinstance(value, Mapping) else None
        return _number(value)

    return read


def _number(value: Any) -> float | None:
    return None if math.isnan(number := finite(value)) else number


def _latency(name: str) -> Callable[[Report], float | None]:
    return lambda report: _number(main_latency(report)[1].get(name))


def _skipped(report: Report) -> float | None:
    """Share of the frames without a result; an online run's are dropped, stale and failed."""
    frames = report['frames']
    if report['online'] is not None or not frames['in_bag']:
        return None
    return (sum(frames['skipped'].values()) + frames['lost']) / frames['in_bag']


def _share_of_received(name: str) -> Callable[[Report], float | None]:
    def read(report: Report) -> float | None:
        counts = report['online']['counts'] if report['online'] is not None else {}
        return counts[name] / counts['received'] if counts.get('received') else None

    return read


def _device_memory(report: Report) -> float | None:
    samples = report['online']['samples']['device_memory_mib'] if report['online'] is not None else []
    return max((value for value in samples if value), default=None)  # 0 stands for no device


def _metrics() -> Iterator[Metric]:
    point, flicker = Tolerance(0.01), Tolerance(0.005)
    for name in ('miou', 'pixel_accuracy'):
        yield Metric(name, _at(f'accuracy.semantic.{name}'), 'share', True, point)
    for name in ('ap', 'ap50', 'ap75'):
        yield Metric(name, _at(f'accuracy.boxes.{name}'), 'share', True, point)
    for name in ('ap_small', 'ap_medium', 'ap_large'):
        yield Metric(name, _at(f'accuracy.boxes.{name}'), 'share', True, Tolerance(0.02))
    for name in ('pq', 'pq_things', 'pq_stuff', 'sq', 'rq'):
        yield Metric(name, _at(f'accuracy.panoptic.{name}'), 'share', True, point)
    yield Metric('abs_rel', _at('accuracy.depth.abs_rel'), '', False, point)
    yield Metric('rmse_m', _at('accuracy.depth.rmse_m'), 'm', False, Tolerance(0.05, relative=True))
    yield Metric('delta1', _at('accuracy.depth.delta1'), 'share', True, point)
    for name in ('motion_miou', 'moving_iou', 'static_iou'):
        yield Metric(name, _at(f'accuracy.motion.{name}'), 'share', True, point)
    yield Metric('mask_agreement', _at('stability.mask_agreement'), 'share', True, flicker)
    yield Metric('mask_flicker', _at('stability.mask_flicker'), 'share', False, flicker)
    for name in ('box_flicker', 'box_gaps'):
        yield Metric(name, _at(f'stability.{name}'), 'share', False, Tolerance(0.02))
    for name, value in (('p50', 0.1), ('p95', 0.15), ('p99', 0.25)):
        yield Metric(f'latency_{name}', _latency(name), 'ms', False, Tolerance(value, relative=True))
    yield Metric('age_p50', _at('online.age_ms.p50'), 'ms', False, Tolerance(0.1, relative=True))
    yield Metric('frames_per_s', _at('speed.frames_per_s'), '/s', True, Tolerance(0.1, relative=True))
    yield Metric('throughput_hz', _at('online.throughput_hz'), '/s', True, Tolerance(0.1, relative=True))
    yield Metric('skipped', _skipped, 'share', False, Tolerance(0.0))
    for name, value in (('dropped', 0.02), ('stale', 0.02), ('failed', 0.0)):
        yield Metric(name, _share_of_received(name), 'share', False, Tolerance(value))
    yield Metric('cpu_percent', _at('online.cpu_percent_mean'), '% CPU', False, Tolerance(0.2, relative=True))
    yield Metric('memory_mib', _at('online.memory_mib_max'), 'MiB', False, Tolerance(0.1, relative=True))
    yield Metric('device_memory_mib', _device_memory, 'MiB', False, Tolerance(0.1, relative=True))


METRICS = {metric.name: metric for metric in _metrics()}


def compare_reports(a: Report, b: Report, tolerances: Mapping[str, Tolerance]) -> Comparison:
    """Put two checked reports beside each other.

    Args:
        a: what was.
        b: what is now.
        tolerances: metric -> how much worse it may be, in place of the metric's own; `class_iou` is that of the IoU of
            each class, which is not judged without it.
    """
    rows = [_judge(metric, a, b, tolerances.get(name, metric.tolerance)) for name, metric in METRICS.items()]
    classes = [(name, _class_iou(name)(a), _class_iou(name)(b)) for name in _class_names(a, b)]
    if CLASS_IOU in tolerances:
        limit = tolerances[CLASS_IOU]
        rows += [_judge(Metric(f'IoU {n}', _class_iou(n), 'share', True, limit), a, b, limit) for n, *_ in classes]
    changed = [entry for entry in classes if _change(entry) >= CLASS_CHANGE]
    return Comparison(
        rows=[row for row in rows if row.a is not None or row.b is not None],
        classes=sorted(changed, key=_change, reverse=True),
        settings=list(_settings(a, b)),
        warnings=list(_warnings(a, b)),
    )


def _judge(metric: Metric, report_a: Report, report_b: Report, tolerance: Tolerance) -> Row:
    a, b = metric.read(report_a), metric.read(report_b)
    if a is None or b is None:
        verdict = 'only in B' if a is None else 'WORSE: missing in B'
    else:
        loss = a - b if metric.higher_is_better else b - a
        if loss <= 0:
            verdict = 'better' if loss < 0 else 'equal'
        else:  # 0.66 - 0.65 is a little more than 0.01
            verdict = 'WORSE' if loss > tolerance.limit(a) + 1e-9 else 'worse, within tolerance'
    return Row(metric, a, b, tolerance, verdict)


def _class_names(a: Report, b: Report) -> list[str]:
    """Classes that have an IoU in either report; none where one has no masks graded, which its mIoU says already."""
    parts = [(report['accuracy'] or {}).get('semantic') for report in (a, b)]
    tables = [part['iou_per_class'] for part in parts if part] if all(parts) else []
    return list(dict.fromkeys(name for table in tables for name, value in table.items() if value is not None))


def _class_iou(name: str) -> Callable[[Report], float | None]:
    def read(report: Report) -> float | None:
        semantic = (report['accuracy'] or {}).get('semantic') or {'iou_per_class': {}}
        return _number(semantic['iou_per_class'].get(name))

    return read


def _change(entry: tuple[str, float | None, float | None]) -> float:
    """How far a class went; one that only one side has went all the way."""
    _, a, b = entry
    return 1.0 if a is None or b is None else abs(b - a)


def _settings(a: Report, b: Report) -> Iterator[tuple[str, str, str]]:
    """What differs in how the two were made."""
    names = ('name', 'mode', 'created', 'sembox_ros')
    pairs = [(name, a[name], b[name]) for name in names]
    pairs += [(name, a['network'][name], b['network'][name]) for name in a['network']]
    for name, one, other in pairs:
        if one != other:
            yield name, '-' if one is None else str(one), '-' if other is None else str(other)


def _warnings(a: Report, b: Report) -> Iterator[str]:
    if a['mode'] != b['mode']:
        yield f'A ran {a["mode"]}, B {b["mode"]}: their latencies are of other things'
    if a['bag']['name'] != b['bag']['name']:
        yield f"different bags: A '{a['bag']['name']}', B '{b['bag']['name']}'"
    for name, what in (('in_bag', 'frames in the bag'), ('processed', 'processed frames')):
        if a['frames'][name] != b['frames'][name]:
            yield f'different numbers of {what}: A {a["frames"][name]:,}, B {b["frames"][name]:,}'
    truths = [report['accuracy']['truth'] if report['accuracy'] else 'none' for report in (a, b)]
    if truths[0] != truths[1]:
        yield f"different ground truth: A '{truths[0]}', B '{truths[1]}'"
    for name, what in (('semantic', 'masks'), ('detection', 'boxes')):
        if a['labels'][name] != b['labels'][name]:
            yield f'different classes of the {what}'
    thresholds = [report['network']['graded_score_threshold'] for report in (a, b)]
    if thresholds[0] != thresholds[1] and all(_at('accuracy.boxes.ap')(report) is not None for report in (a, b)):
        yield f'AP depends on the least score that is graded: A {thresholds[0]:g}, B {thresholds[1]:g}'
    for letter, report in (('A', a), ('B', b)):
        if report['partial'] is not None:
            yield f'{letter} is partial: {report["partial"] or "not the whole bag"}'
        if not report['network']['trained']:
            yield f'{letter} has UNTRAINED weights'
