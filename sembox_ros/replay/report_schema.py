"""What a report.json holds, and the check of one that may come from anywhere. docs/replay.md explains the fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sembox_ros.errors import DatasetError
from sembox_ros.page import finite

SCHEMA, VERSION = 'sembox_ros/replay_report', 1
MAX_NAMES = 2_000  # in one object
MAX_ITEMS = 500_000  # in one list
MAX_TEXT = 4_000
MAX_COUNT = 2**63


@dataclass(frozen=True)
class Maybe:
    """A field that may be null or absent."""

    kind: Any


@dataclass(frozen=True)
class Table:
    """An object whose names are free: classes, stages or reasons; `kind` is that of each value."""

    kind: Any


@dataclass(frozen=True)
class Stamp:
    """A time in nanoseconds: a whole number, which a bag may have below zero."""


_NUMBER = Maybe(float)
_NUMBERS = [_NUMBER]
_PERCENTILES = {'p50': _NUMBER, 'p95': _NUMBER, 'p99': _NUMBER}
_LATENCY = {**_PERCENTILES, 'mean': _NUMBER, 'max': _NUMBER}
_HISTOGRAM = {'edges': [float], 'counts': [int]}

# A dict is an object with these fields, a list one of any length; int is a whole number >= 0.
REPORT: dict[str, Any] = {
    'schema': str,
    'version': int,
    'name': str,
    'mode': str,
    'created': str,
    'sembox_ros': str,
    'partial': Maybe(str),
    'bag': {'name': str, 'duration_s': float, 'cameras': [{'name': str, 'topic': str, 'type': str, 'messages': int}]},
    'network': {
        'checkpoint': str, 'sha256': Maybe(str), 'model': str, 'trained': bool, 'device': str, 'engine': str,
        'precision': str, 'batch': int, 'score_threshold': float,
        'graded_score_threshold': float, 'nms_iou_threshold': float, 'max_detections': int, 'fusion': Maybe(str),
    },
    'labels': {'semantic': Maybe([str]), 'palette': Maybe([[int]]), 'detection': [str]},
    'frames': {
        'in_bag': int, 'processed': int, 'skipped': Table(int),
        'stamps': {'zero': int, 'duplicate': int, 'backwards': int}, 'lost': int,
    },
    'outputs_sha256': Maybe(str),
    'speed': {
        'seconds': float, 'frames_per_s': float, 'latency_ms': Table(_LATENCY),
        'histogram': Maybe({'stage': str, 'edges_ms': [float], 'counts': [int]}),
    },
    'accuracy': Maybe({
        'truth': str, 'masks': int, 'images': int, 'scenes': Maybe(int), 'depths': Maybe(int), 'motions': Maybe(int),
        'semantic': Maybe({'miou': _NUMBER, 'iou_per_class': Table(_NUMBER), 'pixel_accuracy': _NUMBER}),
        'boxes': Maybe({
            **dict.fromkeys(('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large'), _NUMBER),
            'ap_per_class': Table(_NUMBER), 'ap50_per_class': Table(_NUMBER),
        }),
        'panoptic': Maybe({
            **{f'{name}{part}': _NUMBER for part in ('', '_things', '_stuff') for name in ('pq', 'sq', 'rq')},
            **{f'{name}_per_class': Table(_NUMBER) for name in ('pq', 'sq', 'rq')},
        }),
        'depth': Maybe(dict.fromkeys(('abs_rel', 'rmse_m', 'delta1'), _NUMBER)),
        'motion': Maybe(dict.fromkeys(('motion_miou', 'moving_iou', 'static_iou'), _NUMBER)),
        'confusion': Maybe({'names': [str], 'counts': [[int]]}),
        'pr_curves': Maybe({'iou': float, 'recall': [float], 'precision': Table([float])}),
        'notes': [str],
    }),
    'stability': Maybe({
        'frame_pairs': int, 'mask_agreement': _NUMBER, 'mask_flicker': _NUMBER, 'box_flicker': _NUMBER,
        'box_gaps': _NUMBER, 'class_share': Table(_NUMBER), 'boxes_per_frame': Table(_NUMBER),
        'confidence_histogram': Maybe(_HISTOGRAM), 'score_histogram': Maybe(_HISTOGRAM),
    }),
    'timeline': {
        't_s': [float], 'bin_s': float, 'processed': [int], 'skipped': [int], 'latency_ms': _NUMBERS, 'miou': _NUMBERS,
        'pq': Maybe(_NUMBERS), 'mask_agreement': _NUMBERS, 'boxes': _NUMBERS, 'class_share': Table(_NUMBERS),
    },
    'online': Maybe({
        'rate': float, 'played': int, 'answered': int,
        'counts': dict.fromkeys(('received', 'processed', 'dropped', 'stale', 'failed', 'paused', 'idle'), int),
        'end_to_end_ms': Maybe(_LATENCY), 'age_ms': Maybe(_LATENCY), 'stages_ms': Table(_PERCENTILES),
        'throughput_hz': _NUMBER, 'cpu_percent_mean': _NUMBER, 'memory_mib_max': _NUMBER,
        'samples': {
            't_s': [float],
            **dict.fromkeys(('cpu_percent', 'memory_mib', 'device_memory_mib'), _NUMBERS),
            **dict.fromkeys(('received', 'processed', 'dropped', 'stale'), _NUMBERS),
        },
    }),
    'worst': [
        {'picture': str, 'camera': str, 'stamp_ns': Stamp(), 'measure': str, 'value': _NUMBER, 'caption': str},
    ],
}  # fmt: skip


class _FieldError(Exception):
    """A field is not what the schema says; the message names it."""


def check_report(report: Any, where: str) -> dict[str, Any]:
    """Check a report's fields.

    Args:
        report: what a report.json holds, parsed.
        where: what to call it in errors, such as the file's path.

    Returns:
        A copy in which absent fields that may be null are null and text is fit for a terminal; fields that the
        schema does not know are left out.

    Raises:
        DatasetError: of another type or version, or a field is missing or of another kind; names it.
    """
    if not isinstance(report, Mapping) or report.get('schema') != SCHEMA:
        raise DatasetError(f'{where}: not a report of `python -m sembox_ros replay`: expected "schema": "{SCHEMA}"')
    if report.get('version') != VERSION:
        raise DatasetError(
            f'{where}: version: expected {VERSION}, got {str(report.get("version"))[:40]}; '
            'it was written by another version of sembox_ros, replay the bag again'
        )
    try:
        checked: dict[str, Any] = _check(report, REPORT, '')
        for field, length, expected in _lengths(checked):
            if length != expected:
                raise _FieldError(f'{field}: expected {expected} items, got {length}')
    except _FieldError as error:
        raise DatasetError(f'{where}: {error}; the file is damaged, replay the bag again') from error
    return checked


def _check(value: Any, kind: Any, field: str) -> Any:
    """The value as the schema knows it; `field` is its dotted name."""
    if isinstance(kind, Maybe):
        return None if value is None else _check(value, kind.kind, field)
    if isinstance(kind, Table):
        if len(_object(value, field)) > MAX_NAMES:
            raise _FieldError(f'{field}: expected at most {MAX_NAMES} names, got {len(value)}')
        return {printable(name): _check(item, kind.kind, f'{field}.{printable(name)}') for name, item in value.items()}
    if isinstance(kind, dict):
        fields = _object(value, field or 'the report')
        prefix = f'{field}.' if field else ''
        return {name: _check(fields.get(name), item, f'{prefix}{name}') for name, item in kind.items()}
    if isinstance(kind, Stamp):
        if not _is_whole(value):
            raise _FieldError(f'{field}: expected a whole number, got {_what(value)}')
        return value
    if isinstance(kind, list):
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise _FieldError(f'{field}: expected a list of at most {MAX_ITEMS} items, got {_what(value)}')
        return [_check(item, kind[0], f'{field}[{index}]') for index, item in enumerate(value)]
    return _check_plain(value, kind, field)


def _check_plain(value: Any, kind: type, field: str) -> Any:
    if kind is str and isinstance(value, str):
        return printable(value)
    if kind is float and finite(value) == value:
        return float(value)
    if kind is int and _is_whole(value) and value >= 0:
        return value
    if kind is bool and isinstance(value, bool):
        return value
    expected = {str: 'text', float: 'a number', int: 'a whole number of 0 or more', bool: 'true or false'}[kind]
    raise _FieldError(f'{field}: expected {expected}, got {_what(value)}')


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_COUNT


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _FieldError(f'{field}: expected an object, got {_what(value)}')
    return value


def _what(value: Any) -> str:
    """What came, in a few words."""
    if isinstance(value, (list, dict)):
        return f'{"a list" if isinstance(value, list) else "an object"} of {len(value)}'
    return 'nothing' if value is None else f'{type(value).__name__} {printable(repr(value)[:60])}'


def printable(text: str) -> str:
    """Text without control characters and halves of characters, of bounded length."""
    return ''.join(c if c.isprintable() else '?' for c in text[:MAX_TEXT])


def _lengths(report: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """(field, its length, the length that other fields ask for) of all lists that belong together."""
    labels = report['labels']
    if labels['palette'] is not None:
        yield 'labels.palette', len(labels['palette']), len(labels['semantic'] or ())
        yield from (('labels.palette', len(color), 3) for color in labels['palette'])
    timeline = report['timeline']
    bins = len(timeline['t_s'])
    for name in ('processed', 'skipped', 'latency_ms', 'miou', 'mask_agreement', 'boxes'):
        yield f'timeline.{name}', len(timeline[name]), bins
    if timeline['pq'] is not None:
        yield 'timeline.pq', len(timeline['pq']), bins
    yield from (('timeline.class_share', len(shares), bins) for shares in timeline['class_share'].values())
    if (histogram := report['speed']['histogram']) is not None:
        yield 'speed.histogram.edges_ms', len(histogram['edges_ms']), len(histogram['counts']) + 1
    for name in ('confidence_histogram', 'score_histogram'):
        if (histogram := (report['stability'] or {}).get(name)) is not None:
            yield f'stability.{name}.edges', len(histogram['edges']), len(histogram['counts']) + 1
    if (confusion := (report['accuracy'] or {}).get('confusion')) is not None:
        names = len(confusion['names'])
        yield 'accuracy.confusion.counts', len(confusion['counts']), names
        yield from (('accuracy.confusion.counts', len(row), names + 1) for row in confusion['counts'])
    if (curves := (report['accuracy'] or {}).get('pr_curves')) is not None:
        points = len(curves['recall'])
        yield from (('accuracy.pr_curves.precision', len(line), points) for line in curves['precision'].values())
    if report['online'] is not None:
        samples = report['online']['samples']
        yield from ((f'online.samples.{name}', len(line), len(samples['t_s'])) for name, line in samples.items())


def main_latency(report: Mapping[str, Any]) -> tuple[str, Mapping[str, float | None]]:
    """The latency that people ask for: (stage, its percentiles), of an online run from image to answer."""
    if report['online'] is not None:
        return 'end_to_end', report['online']['end_to_end_ms'] or {}
    stages, histogram = report['speed']['latency_ms'], report['speed']['histogram']
    names = [histogram['stage'] if histogram else '', 'total', *reversed(stages)]
    return next(((name, stages[name]) for name in names if name in stages), ('', {}))


def is_inside(picture: str) -> bool:
    """Whether a picture's path stays in the report's folder."""
    path = PurePosixPath(picture)
    return bool(path.parts) and not path.is_absolute() and '..' not in path.parts and '\\' not in picture
