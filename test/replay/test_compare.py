from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from example_report import empty_report, offline_report, online_report
from parsed_page import Parsed

from sembox_ros.page import write_page
from sembox_ros.replay.compare import METRICS, Row, Tolerance, compare_reports
from sembox_ros.replay.compare_page import build_comparison_page, render_text, verdict
from sembox_ros.replay.report_page import render_page
from sembox_ros.replay.report_schema import check_report


def report(make: Any = offline_report, /, **changes: Any) -> dict[str, Any]:
    """A checked report; `accuracy__semantic__miou=0.5` changes one field."""
    made = make()
    for path, value in changes.items():
        *parents, last = path.split('__')
        inner = made
        for name in parents:
            inner = inner[name]
        inner[last] = value
    return check_report(made, 'x')


def rows(a: dict[str, Any], b: dict[str, Any], **tolerances: Tolerance) -> dict[str, Row]:
    return {row.metric.name: row for row in compare_reports(a, b, tolerances).rows}


def test_a_report_is_as_good_as_itself():
    comparison = compare_reports(report(), report(), {})
    assert {row.verdict for row in comparison.rows} == {'equal'}
    assert comparison.worse == comparison.classes == comparison.settings == comparison.warnings == []
    assert [row.metric.name for row in comparison.rows] == [
        'miou', 'pixel_accuracy', 'ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large', 'pq', 'pq_things',
        'pq_stuff', 'sq', 'rq', 'abs_rel', 'rmse_m', 'delta1', 'motion_miou', 'moving_iou', 'static_iou',
        'mask_agreement', 'mask_flicker', 'box_flicker', 'box_gaps', 'latency_p50', 'latency_p95', 'latency_p99',
        'frames_per_s', 'skipped',
    ]  # fmt: skip
    online = compare_reports(report(online_report), report(online_report), {})
    assert {row.verdict for row in online.rows} == {'equal'}
    assert set(METRICS) - {r.metric.name for r in (*comparison.rows, *online.rows)} == {'device_memory_mib'}


@pytest.mark.parametrize(
    ('make', 'field', 'a', 'b', 'metric', 'worse'),
    [
        (offline_report, 'accuracy__semantic__miou', 0.66, 0.65, 'miou', False),  # just as much as is tolerated
        (offline_report, 'accuracy__semantic__miou', 0.66, 0.6499, 'miou', True),
        (offline_report, 'accuracy__semantic__miou', 0.65, 0.7, 'miou', None),
        (offline_report, 'accuracy__depth__abs_rel', 0.12, 0.13, 'abs_rel', False),
        (offline_report, 'accuracy__depth__abs_rel', 0.12, 0.14, 'abs_rel', True),
        (offline_report, 'accuracy__depth__rmse_m', 4.0, 4.3, 'rmse_m', True),
        (offline_report, 'accuracy__depth__delta1', 0.8, 0.9, 'delta1', None),
        (offline_report, 'accuracy__motion__moving_iou', 0.6, 0.5, 'moving_iou', True),
        (offline_report, 'stability__mask_flicker', 0.01, 0.02, 'mask_flicker', True),
        (offline_report, 'stability__mask_flicker', 0.02, 0.01, 'mask_flicker', None),
        (offline_report, 'speed__latency_ms__total__p50', 100.0, 110.0, 'latency_p50', False),
        (offline_report, 'speed__latency_ms__total__p50', 100.0, 110.1, 'latency_p50', True),
        (offline_report, 'speed__frames_per_s', 10.0, 8.9, 'frames_per_s', True),
        (offline_report, 'frames__lost', 0, 1, 'skipped', True),
        (online_report, 'online__counts__dropped', 10, 20, 'dropped', True),
        (online_report, 'online__counts__failed', 0, 1, 'failed', True),
        (online_report, 'online__end_to_end_ms__p99', 100.0, 120.0, 'latency_p99', False),
        (online_report, 'online__memory_mib_max', 100.0, 111.0, 'memory_mib', True),
    ],
)  # fmt: skip
def test_directions_and_limits(make: Any, field: str, a: float, b: float, metric: str, worse: bool | None):
    row = rows(report(make, **{field: a}), report(make, **{field: b}))[metric]
    assert row.verdict == ('better' if worse is None else 'WORSE' if worse else 'worse, within tolerance')
    assert row.is_worse is bool(worse)


def test_given_tolerances_take_the_place_of_the_defaults():
    a, b = report(accuracy__semantic__miou=0.6), report(accuracy__semantic__miou=0.54)
    assert rows(a, b)['miou'].is_worse
    assert not rows(a, b, miou=Tolerance(0.06))['miou'].is_worse
    assert not rows(a, b, miou=Tolerance(0.1, relative=True))['miou'].is_worse
    assert rows(a, b, miou=Tolerance(0.09, relative=True))['miou'].is_worse


def test_device_memory_is_the_most_that_a_device_held():
    a, b = (report(online_report, online__samples__device_memory_mib=[None, 0, top, 5.0] * 15) for top in (10.0, 20.0))
    row = rows(a, b)['device_memory_mib']
    assert (row.a, row.b, row.is_worse) == (10.0, 20.0, True)


def test_what_only_one_side_has():
    a, b = report(), report(accuracy__boxes=None)
    row = rows(a, b)['ap']
    assert (row.verdict, row.is_worse, row.difference) == ('WORSE: missing in B', True, None)
    row = rows(b, a)['ap']
    assert (row.verdict, row.is_worse) == ('only in B', False)


def test_classes_that_changed_come_largest_first_and_are_judged_on_demand():
    a = report()
    b = report()
    b['accuracy']['semantic']['iou_per_class'] |= {'road': 0.9, 'car': 0.92, 'sky': 0.93, 'bus': None, 'train': 0.5}
    comparison = compare_reports(a, b, {})
    assert comparison.classes == [
        ('bus', 0.693, None), ('train', None, 0.5), ('road', 0.968, 0.9), ('car', 0.884, 0.92)
    ]  # fmt: skip
    assert comparison.worse == []
    worse = compare_reports(a, b, {'class_iou': Tolerance(0.05)}).worse
    assert worse == ['IoU road', 'IoU bus']


def test_it_warns_of_what_cannot_be_compared():
    b = report(
        online_report, bag__name='other', frames__in_bag=200, accuracy__truth='folder', partial='disk full',
        network__trained=False, network__graded_score_threshold=0.3, labels__detection=['car'],
    )  # fmt: skip
    assert compare_reports(report(), b, {}).warnings == [
        'A ran offline, B online: their latencies are of other things',
        "different bags: A 'city_drive_0', B 'other'",
        'different numbers of frames in the bag: A 300, B 200',
        'different numbers of processed frames: A 296, B 248',
        "different ground truth: A 'topics of the bag', B 'folder'",
        'different classes of the boxes',
        'AP depends on the least score that is graded: A 0.05, B 0.3',
        'B is partial: disk full',
        'B has UNTRAINED weights',
    ]


def test_settings_that_differ_are_shown_and_no_reason_to_warn():
    b = report(network__engine='torch', network__sha256=None)
    comparison = compare_reports(report(), b, {})
    assert comparison.settings == [('sha256', 'a1' * 32, '-'), ('engine', 'openvino', 'torch')]
    assert comparison.warnings == []


def test_the_table_for_a_terminal():
    b = report(accuracy__semantic__miou=0.5, speed__frames_per_s=9.0, network__engine='torch', partial='')
    b['accuracy']['semantic']['iou_per_class']['road'] = 0.5
    lines = render_text(compare_reports(report(), b, {})).splitlines()
    assert lines[0] == 'warning: B is partial: not the whole bag'
    words = [line.split() for line in lines]
    assert ['engine', 'openvino', 'torch'] in words
    assert ['miou', '66.4', '%', '50.0', '%', '-16.4', '1', 'WORSE'] in words
    assert ['abs_rel', '0.1234', '0.1234', '+0', '0.01', 'equal'] in words
    assert ['rmse_m', '4.567', 'm', '4.567', 'm', '+0', '5%', 'equal'] in words
    assert ['frames_per_s', '7.18', '/s', '9', '/s', '+1.82', '10%', 'better'] in words
    assert ['road', '96.8', '50.0', '-46.8'] in words
    assert lines[-1] == 'WORSE beyond tolerance: miou'


def test_nothing_to_compare():
    a = report(empty_report, frames__in_bag=0)
    del a['speed']['frames_per_s']
    comparison = compare_reports(a, a, {})
    assert comparison.rows == []
    assert verdict(comparison) == 'nothing to compare: no metric in either report'
    assert 'nothing to compare' in render_page(build_comparison_page(comparison, a, a))


def test_the_page_marks_what_is_worse(tmp_path: Path):
    a, b = report(), report(accuracy__boxes__ap=0.1, network__engine='<i>torch', partial='x')
    comparison = compare_reports(a, b, {})
    write_page(tmp_path / 'compare.html', render_page(build_comparison_page(comparison, a, b)))
    page = Parsed(tmp_path / 'compare.html')
    assert 'WORSE beyond tolerance: ap' in page.of('alarm')
    assert [row for row in page.rows if row[-1] == 'WORSE'] == [['ap', '30.5 %', '10.0 %', '-20.5', '1', 'WORSE']]
    assert ['engine', 'openvino', '<i>torch'] in page.rows
    assert 'B is partial: x' in page.texts
    assert len(page.sources) == 2
    assert all(source.startswith('data:image/svg') for source in (*page.sources, *page.references))


def test_the_fields_of_compare_json_are_documented():
    page = (Path(__file__).parents[2] / 'docs' / 'replay.md').read_text().split('\n## compare.json\n')[1]
    documented = re.findall(r'^\| `(\w+)` \|', page.split('\n## ')[0], re.MULTILINE)
    assert documented == list(compare_reports(report(), report(), {}).to_dict())


def test_the_comparison_is_json():
    b = report(accuracy__boxes=None)
    record = json.loads(json.dumps(compare_reports(report(), b, {}).to_dict(), allow_nan=False))
    assert record['worse'][0] == 'ap'
    by_name = {metric['name']: metric for metric in record['metrics']}
    assert by_name['latency_p50'] | {'a': 0, 'b': 0} == {
        'name': 'latency_p50', 'a': 0, 'b': 0, 'difference': 0.0, 'tolerance': '10%', 'verdict': 'equal',
    }  # fmt: skip
    assert by_name['ap']['b'] is None
