from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from example_report import empty_report, offline_report, online_report
from hypothesis import given
from hypothesis import strategies as st

from sembox_ros.errors import DatasetError
from sembox_ros.replay.report_schema import REPORT, Maybe, Table, check_report, is_inside, main_latency

ROOT = Path(__file__).parents[2]
LATENCY = {'p50', 'p95', 'p99', 'mean', 'max'}


def fields(kind: Any, name: str) -> Iterator[str]:
    """Dotted names of the schema's leaves, as docs/replay.md writes them."""
    if isinstance(kind, Maybe):
        kind = kind.kind
    if isinstance(kind, dict) and not {'p50', 'edges'} & set(kind):
        for key, item in kind.items():
            yield from fields(item, f'{name}.{key}'.lstrip('.'))
    elif isinstance(kind, Table):
        yield from fields(kind.kind, f'{name}.*')
    elif isinstance(kind, list) and name not in ('labels.semantic', 'labels.palette', 'labels.detection'):
        yield from [f'{name}[]'] if isinstance(kind[0], list) else fields(kind[0], f'{name}[]')
    else:
        yield name


def chapter(title: str) -> str:
    """The text below a heading of docs/replay.md."""
    return (ROOT / 'docs' / 'replay.md').read_text().split(f'\n## {title}\n')[1].split('\n## ')[0]


def paths(value: Any, kind: Any, name: str = '') -> Iterator[str]:
    """Every field that a report has and its schema lacks, or the other way round."""
    if isinstance(kind, Maybe):
        if value is not None:
            yield from paths(value, kind.kind, name)
    elif isinstance(kind, dict):
        yield from (f'{name}.{key}' for key in set(value) ^ set(kind))
        for key in set(value) & set(kind):
            yield from paths(value[key], kind[key], f'{name}.{key}')
    elif isinstance(kind, Table):
        for item in value.values():
            yield from paths(item, kind.kind, name)
    elif isinstance(kind, list):
        for item in value:
            yield from paths(item, kind[0], name)


def test_every_field_is_documented():
    rows = re.findall(r'^\| `([^`]+)` \| ([^|]+) \| ([^|]*) \|$', chapter('report.json'), re.MULTILINE)
    optional = {name for name, kind, _ in rows if kind == 'object or null'}
    documented = [name for name, *_ in rows]
    assert len(documented) == len(set(documented))
    leaves = list(fields(REPORT, ''))
    assert set(leaves) <= set(documented)
    assert set(documented) - set(leaves) <= optional
    assert [n for n in documented if n in leaves] == leaves  # in the order of the schema


@pytest.mark.parametrize('make', [offline_report, online_report])
def test_the_examples_have_every_field_and_no_other(make: Callable[[], dict[str, Any]]):
    report = make()
    report['worst'] = [
        {'picture': 'worst/0.jpg', 'camera': '', 'stamp_ns': 1, 'measure': 'mIoU', 'value': 0.1, 'caption': ''}
    ]
    assert list(paths(report, REPORT)) == []
    assert check_report(report, 'x') == report


def test_absent_fields_that_may_be_null_are_null_and_unknown_ones_are_left_out():
    report = empty_report()
    for name in ('partial', 'accuracy', 'stability', 'online', 'outputs_sha256'):
        del report[name]
    report['more'] = {'a': 1}
    checked = check_report(json.loads(json.dumps(report)), 'x')
    assert checked['accuracy'] is checked['stability'] is checked['online'] is checked['partial'] is None
    assert 'more' not in checked


def test_a_report_from_before_depth_and_motion_were_graded_is_read():
    report, now = offline_report(), offline_report()
    for name in ('depths', 'motions', 'depth', 'motion'):
        del report['accuracy'][name]
        now['accuracy'][name] = None
    assert check_report(report, 'x') == now


def change(report: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    *parents, last = field.split('.')
    inner: Any = report
    for name in parents:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[int(last) if isinstance(inner, list) else last] = value
    return report


@pytest.mark.parametrize(
    ('field', 'value', 'says'),
    [
        ('schema', 'other', 'not a report of `python -m sembox_ros replay`'),
        ('version', 2, 'version: expected 1, got 2'),
        ('name', 3, 'name: expected text, got int 3'),
        ('bag', None, 'bag: expected an object, got nothing'),
        ('bag.cameras.0.topic', [], r'bag.cameras\[0\].topic: expected text, got a list of 0'),
        ('frames.in_bag', True, 'frames.in_bag: expected a whole number of 0 or more, got bool True'),
        ('frames.skipped.x', -1, 'frames.skipped.x: expected a whole number of 0 or more, got int -1'),
        ('frames.lost', 2**64, 'frames.lost: expected a whole number'),
        ('speed.seconds', math.nan, 'speed.seconds: expected a number, got float nan'),
        ('speed.seconds', 10**400, 'speed.seconds: expected a number'),
        ('speed.latency_ms.network.p50', 'fast', 'speed.latency_ms.network.p50: expected a number'),
        ('network.trained', 1, 'network.trained: expected true or false, got int 1'),
        ('speed.histogram.counts', [1], 'speed.histogram.edges_ms: expected 2 items, got 31'),
        ('labels.palette', [[1, 2, 3]], 'labels.palette: expected 19 items, got 1'),
        ('labels.palette.0', [1, 2], 'labels.palette: expected 3 items, got 2'),
        ('timeline.boxes', [1.0], 'timeline.boxes: expected 60 items, got 1'),
        ('timeline.class_share.road', [], 'timeline.class_share: expected 60 items, got 0'),
        ('accuracy.confusion.counts.3', [1], 'accuracy.confusion.counts: expected 20 items, got 1'),
        ('accuracy.confusion.names', [], 'accuracy.confusion.counts: expected 0 items, got 19'),
        ('accuracy.pr_curves.precision.car', [1.0], 'accuracy.pr_curves.precision: expected 101 items, got 1'),
        ('stability.score_histogram.edges', [], 'stability.score_histogram.edges: expected 21 items, got 0'),
        ('online.samples.stale', [], 'online.samples.stale: expected 60 items, got 0'),
        ('labels.detection', 'car', 'labels.detection: expected a list of at most 500000 items, got str'),
        ('frames.skipped', {str(i): 1 for i in range(2001)}, 'frames.skipped: expected at most 2000 names, got 2001'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(field: str, value: Any, says: str):
    with pytest.raises(DatasetError, match=f'^somewhere.json: {says}') as error:
        check_report(change(online_report(), field, value), 'somewhere.json')
    assert '\n' not in str(error.value)


def test_a_stamp_may_be_below_zero_but_no_fraction():
    report = offline_report()
    frame = {'picture': 'a.jpg', 'camera': '', 'stamp_ns': -5, 'measure': 'mIoU', 'value': None, 'caption': ''}
    assert check_report({**report, 'worst': [frame]}, 'x')['worst'] == [frame]
    for wrong in (0.5, None, 2**64, False):
        with pytest.raises(DatasetError, match=r'worst\[0\].stamp_ns: expected a whole number, got'):
            check_report({**report, 'worst': [{**frame, 'stamp_ns': wrong}]}, 'x')


def test_text_is_fit_for_a_terminal():
    report = empty_report()
    report['name'] = 'a\x1b[31m\nb\ud800' + 'x' * 5000
    report['frames']['skipped'] = {'\x07reason': 1}
    checked = check_report(report, 'x')
    assert checked['name'].startswith('a?[31m?b?xxx')
    assert len(checked['name']) == 4000
    assert checked['frames']['skipped'] == {'?reason': 1}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(field=st.sampled_from(sorted({f.split('[')[0].split('.*')[0] for f in fields(REPORT, '')})), value=_JSON)
def test_any_value_in_any_field_is_taken_or_refused_in_one_line(field: str, value: Any):
    message = ''
    try:
        json.dumps(check_report(change(online_report(), field, value), 'x')['speed'], allow_nan=False)
    except DatasetError as error:
        message = str(error)
    assert '\n' not in message


def test_the_latency_that_counts():
    assert main_latency(online_report())[0] == 'end_to_end'
    report = offline_report()
    assert main_latency(report) == ('total', report['speed']['latency_ms']['total'])
    report['speed'] |= {'histogram': None, 'latency_ms': {'decode': {}, 'network': {'p50': 3.0}}}
    assert main_latency(report) == ('network', {'p50': 3.0})
    assert main_latency(empty_report()) == ('', {})


@pytest.mark.parametrize(
    ('picture', 'inside'),
    [('worst/0.jpg', True), ('/etc/passwd', False), ('worst/../../x', False), ('', False), ('..\\x', False)],
)
def test_pictures_stay_in_the_folder(picture: str, inside: bool):
    assert is_inside(picture) is inside
