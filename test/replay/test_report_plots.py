from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from example_report import empty_report, offline_report, online_report
from matplotlib.colors import to_hex

from sembox_ros.replay import report_plots as plots
from sembox_ros.replay.plot_style import BLUE, DARK, RED, TEXT, plain, to_plot

LABELS = offline_report()['labels']
COLORS = plots.class_colors(LABELS)


def svg(source: str) -> str:
    return base64.b64decode(source.split(',')[1], validate=True).decode()


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def all_figures(report: dict[str, Any]) -> list[Any]:
    """Every plot of a report, as its page draws them."""
    accuracy, stability = report['accuracy'] or {}, report['stability'] or {}
    semantic, boxes = accuracy.get('semantic') or {}, accuracy.get('boxes') or {}
    colors = plots.class_colors(report['labels'])
    iou = semantic.get('iou_per_class', {})
    return [
        plots.draw_latency(report['speed']['histogram'], {}),
        plots.draw_stages(report['speed']['latency_ms']),
        plots.draw_timeline(report['timeline'], 'skipped'),
        plots.draw_class_iou(iou, semantic.get('miou'), colors),
        plots.draw_pr_curves(accuracy.get('pr_curves'), boxes.get('ap50_per_class', {})),
        plots.draw_confusion(accuracy.get('confusion')),
        plots.draw_class_shares(report['timeline'], colors),
        plots.draw_histogram(stability.get('confidence_histogram'), 'confidence', 'pixels'),
        plots.draw_histogram(stability.get('score_histogram'), 'score', 'boxes'),
        plots.draw_resources(report['online']['samples']) if report['online'] else None,
        plots.draw_class_pairs(iou, iou),
        plots.draw_latency_pairs(report['speed']['latency_ms'].get('total', {}), {}),
    ]


def shrink(value: Any, length: int) -> Any:
    """The same with lists of at most `length` items; bins keep their two edges."""
    if isinstance(value, dict):
        return {k: shrink(v, length + 1 if k.startswith('edges') and length else length) for k, v in value.items()}
    return value[:length] if isinstance(value, list) else value


def nullify(value: Any) -> Any:
    """The same with every number that may be null gone, as far as a plot could meet it."""
    if isinstance(value, dict):
        return {k: nullify(v) for k, v in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], (float, type(None))):
        return [None] * len(value)
    return None if isinstance(value, float) else value


def single(report: dict[str, Any]) -> dict[str, Any]:
    for name in ('timeline', 'stability', 'online'):
        report[name] = shrink(report[name], 1)
    return report


def one_class(report: dict[str, Any]) -> dict[str, Any]:
    accuracy = report['accuracy']
    accuracy['semantic'] = {'miou': 0.5, 'iou_per_class': {'road': 0.5}, 'pixel_accuracy': 1.0}
    accuracy['confusion'] = {'names': ['road'], 'counts': [[3, 0]]}
    accuracy['pr_curves']['precision'] = {'car': [0.5] * 101}
    report['timeline']['class_share'] = {'road': [None] * 59 + [1.0]}
    return report


def all_null(report: dict[str, Any]) -> dict[str, Any]:
    timeline = report['timeline']
    report['timeline'] = {**nullify(timeline), **{k: timeline[k] for k in ('t_s', 'bin_s', 'processed', 'skipped')}}
    report['online']['samples'] = {**nullify(report['online']['samples']), 't_s': report['online']['samples']['t_s']}
    report['speed']['latency_ms'] = nullify(report['speed']['latency_ms'])
    report['accuracy']['semantic'] = nullify(report['accuracy']['semantic'])
    report['accuracy']['boxes'] = nullify(report['accuracy']['boxes'])
    return report


@pytest.mark.parametrize(
    ('report', 'count'),
    [
        (offline_report(), 10), (online_report(), 11), (empty_report(), 0), (single(online_report()), 11),
        (one_class(online_report()), 11), (all_null(online_report()), 6),
    ],
    ids=['offline', 'online', 'empty', 'one frame', 'one class', 'all null'],
)  # fmt: skip
def test_every_plot_can_be_drawn_or_is_none(report: dict[str, Any], count: int):
    figures = [figure for figure in all_figures(report) if figure is not None]
    assert len(figures) == count
    for figure in figures:
        plot = to_plot(figure, 'x')
        assert '<svg' in svg(plot.light)
        assert len(plot.light) < 250_000


def test_light_and_dark_differ_in_ink_only():
    plot = to_plot(plots.draw_latency({'edges_ms': [0.0, 1.0, 2.0], 'counts': [3, 1]}, {'p50': 0.7}), 'what it shows')
    assert plot.alt == 'what it shows'
    assert not plot.wide
    light, dark = svg(plot.light), svg(plot.dark)
    assert TEXT in light
    assert TEXT not in dark
    for bright, dim in DARK.items():
        light = light.replace(bright, dim)
    assert light == dark
    assert to_plot(plots.draw_timeline(offline_report()['timeline'], 'skipped'), '').wide


def test_text_stays_text():
    assert plain('$x^{ 5$') == r'\$x^{ 5\$'
    assert plain('a' * 40) == 'a' * 27 + '…'
    figure = plots.draw_class_iou({'$x^{<b>中': 0.5}, 0.5, {})
    assert '>$x^{&lt;b&gt;中</text>' in svg(to_plot(figure, '').light)


def test_latency_marks_its_percentiles():
    figure = plots.draw_latency(
        {'edges_ms': [10.0, 20.0, 30.0], 'counts': [3, 1]}, {'p50': 12.0, 'p95': 28.5, 'p99': None}
    )
    [axes] = figure.axes
    assert legend(axes) == ['p50 12 ms', 'p95 28.5 ms']
    assert [line.get_xdata()[0] for line in axes.get_lines()] == [12.0, 28.5]
    assert axes.patches[0].get_data().values.tolist() == [3, 1]
    assert plots.draw_latency({'edges_ms': [0.0, 1.0], 'counts': [0]}, {'p50': 1.0}) is None


def test_stages_show_the_percentiles_that_they_have():
    stages = {
        'decode': {'p50': 3.0, 'p95': None, 'p99': 5.0},
        'end_to_end': {'p50': 9.0, 'p95': 12.0},
        'x': {'p50': None},
    }
    figure = plots.draw_stages(stages)
    [axes] = figure.axes
    assert legend(axes) == ['p50', 'p95', 'p99']
    assert [text.get_text() for text in axes.get_yticklabels()] == ['decode', 'end to end']
    assert [bar.get_width() for bar in axes.patches] == [3, 9]
    assert '<svg' in svg(to_plot(figure, '').light)


def test_the_timeline_shows_what_was_lost_in_red():
    timeline = {
        't_s': [0.0, 0.5, 1.0], 'bin_s': 0.5, 'processed': [5, 3, 5], 'skipped': [0, 2, 0],
        'latency_ms': [10.0, None, 12.0], 'miou': [None, None, None], 'mask_agreement': [0.5, 0.75, 1.0],
        'pq': [0.5, None, 0.25], 'boxes': [1.0, 2.0, 3.0], 'class_share': {},
    }  # fmt: skip
    frames, latency, agreement, pq, boxes = plots.draw_timeline(timeline, 'dropped').axes
    assert legend(frames) == ['processed', 'dropped (2)']
    lost = frames.patches[1].get_data()
    assert to_hex(frames.patches[1].get_facecolor()) == RED
    assert (lost.values - lost.baseline).tolist() == [0, 2, 0]
    assert lost.edges.tolist() == [0, 0.5, 1, 1.5]
    assert latency.get_lines()[0].get_ydata() == pytest.approx([10, np.nan, 12], nan_ok=True)
    assert agreement.get_ylabel() == 'agreement, %'
    assert agreement.get_lines()[0].get_ydata().tolist() == [50, 75, 100]
    assert agreement.get_ylim()[0] > 40
    assert pq.get_ylabel() == 'PQ, %'
    assert pq.get_lines()[0].get_ydata() == pytest.approx([50, np.nan, 25], nan_ok=True)
    assert boxes.get_xlim() == (0.0, 1.5)
    for axes in (frames, latency, agreement, pq, boxes):
        [background] = [p for p in axes.patches if p.get_alpha() == 0.13]
        assert background.get_data().values.tolist() == [False, True, False]
        assert background.get_extents().height == pytest.approx(axes.bbox.height)


def test_a_timeline_without_losses_has_no_red():
    timeline = {**offline_report()['timeline'], 'skipped': [0] * 60}
    frames, *others = plots.draw_timeline(timeline, 'skipped').axes
    assert legend(frames) == ['processed']
    assert [axes.get_ylabel() for axes in others] == ['latency, ms', 'mIoU, %', 'PQ, %', 'boxes']
    assert [len(axes.patches) for axes in others] == [0, 0, 0, 0]
    older = plots.draw_timeline({**timeline, 'pq': None}, 'skipped')  # a report from before there was PQ
    assert len(older.axes) == 4


def test_classes_are_sorted_and_wear_their_colours():
    figure = plots.draw_class_iou({'road': 0.5, 'car': 0.875, 'train': None, 'new': 0.25}, 0.54, COLORS)
    [axes] = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ['car', 'road', 'new']
    assert [bar.get_width() for bar in axes.patches] == [87.5, 50, 25]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == ['#00008e', '#804080', BLUE]
    assert legend(axes) == ['mean 54.0']


def test_of_very_many_classes_the_lowest_are_shown():
    [axes] = plots.draw_class_iou({f'c{i}': i / 100 for i in range(100)}, None, {}).axes
    assert len(axes.patches) == plots.MAX_BARS
    assert axes.get_yticklabels()[-1].get_text() == 'c0'
    assert axes.get_xlabel() == 'IoU, %, the lowest 40 of 100 classes'


def test_precision_recall_curves_and_their_mean():
    recall = np.linspace(0, 1, 101).tolist()
    curves = {'iou': 0.5, 'recall': recall, 'precision': {'car': [1.0] * 101, 'bus': [0.5] * 101}}
    [axes] = plots.draw_pr_curves(curves, {'car': 0.25, 'bus': 0.75, 'train': None}).axes
    assert legend(axes) == ['bus 75.0', 'car 25.0', 'mean of 2']
    assert [line.get_ydata()[0] for line in axes.get_lines()] == [0.5, 1.0, 0.75]
    many = {**curves, 'precision': {f'c{i:02}': [0.5] * 101 for i in range(30)}}
    [axes] = plots.draw_pr_curves(many, {f'c{i:02}': i / 30 for i in range(30)}).axes
    assert [text.split()[0] for text in legend(axes)[:-1]] == [
        'c29', 'c28', 'c27', 'c26', 'c25', 'c04', 'c03', 'c02', 'c01', 'c00',
    ]  # fmt: skip
    assert legend(axes)[-1] == 'mean of 30'


def cells(axes: Any) -> dict[tuple[int, int], str]:
    """(row, column) -> text."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}


def test_confusion_in_percent_of_each_row():
    counts = [[90, 0, 10], [0, 0, 0], [3, 0, 997]]
    figure = plots.draw_confusion({'names': ['a', 'b'], 'counts': counts[:2]})
    [axes] = figure.axes
    assert cells(axes) == {(0, 0): '90', (0, 2): '10'}
    assert [text.get_text() for text in axes.get_xticklabels()] == ['a', 'b', 'other']
    assert plots.draw_confusion({'names': ['a'], 'counts': [[0, 0]]}) is None


def test_of_very_many_classes_those_with_most_pixels_are_confused():
    size = 40
    counts = np.zeros((size, size + 1), int)
    counts[np.arange(size), np.arange(size)] = 50 * (1 + np.arange(size))
    counts[39, 0] = 2000  # taken for a class that is not shown
    [axes] = plots.draw_confusion({'names': [f'c{i}' for i in range(size)], 'counts': counts.tolist()}).axes
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert shown == [f'c{i}' for i in range(size - plots.MAX_CONFUSED, size)]
    assert cells(axes)[23, 23] == '50'
    assert cells(axes)[23, 24] == '50'


def test_class_shares_add_up_and_leave_gaps():
    timeline = {
        't_s': [0.0, 1.0, 2.0], 'bin_s': 1.0,
        'class_share': {'road': [0.5, None, 0.25], 'car': [None, None, 0.5], 'none': [None] * 3},
    }  # fmt: skip
    [axes] = plots.draw_class_shares(timeline, COLORS).axes
    assert legend(axes) == ['road', 'car']
    assert [to_hex(area.get_facecolor()) for area in axes.collections] == ['#804080', '#00008e']


def test_histograms_are_shares():
    [axes] = plots.draw_histogram({'edges': [0.0, 0.5, 1.0], 'counts': [1, 3]}, 'score', 'boxes').axes
    assert axes.patches[0].get_data().values.tolist() == [25, 75]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('score', '% of the boxes')


def test_resources_show_what_was_measured():
    samples = online_report()['online']['samples']
    cpu, memory, lost = plots.draw_resources(samples).axes
    assert [axes.get_ylabel() for axes in (cpu, memory, lost)] == ['CPU, %', 'memory, MiB', 'frames lost']
    assert legend(lost) == ['dropped', 'stale']
    assert cpu.get_lines()[0].get_ydata().tolist() == samples['cpu_percent']


@pytest.mark.parametrize('draw', [plots.draw_class_pairs, plots.draw_latency_pairs])
def test_pairs_show_what_both_have(draw: Callable[..., Any]):
    a, b = {'p50': 0.5, 'p95': 0.25, 'p99': 1.0}, {'p50': 0.75, 'p95': None}
    [axes] = draw(a, b).axes
    assert legend(axes) == ['A', 'B']
    factor = 100 if draw is plots.draw_class_pairs else 1
    sizes = [p.get_width() if factor == 100 else p.get_height() for p in axes.patches]
    assert sizes == [0.5 * factor, 0.75 * factor]
    assert draw({}, b) is None
