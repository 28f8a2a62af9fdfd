"""The plots of a replay's report. Each gives None where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sembox_ros.page import finite
from sembox_ros.replay.plot_style import (
    BLUE,
    CYCLE,
    FULL,
    HALF,
    LINE,
    QUIET,
    RED,
    TEXT,
    as_array,
    create_axes,
    create_figure,
    legend_above,
    plain,
    style_axes,
)

MAX_BARS = 40  # classes among the bars
MAX_LINES = 10  # classes among the precision-recall curves
MAX_CONFUSED = 24  # classes of the confusion matrix
PERCENTILES = ('p50', 'p95', 'p99')

Colors = Mapping[str, str]


def class_colors(labels: Mapping[str, Any]) -> dict[str, str]:
    """Semantic class name -> '#rrggbb', from a report's `labels`."""
    palette = labels['palette'] or ()
    colors = ('#' + ''.join(f'{min(part, 255):02x}' for part in color) for color in palette)
    return dict(zip(labels['semantic'] or (), colors, strict=False))


def draw_latency(histogram: Mapping[str, Any] | None, latency: Mapping[str, float | None]) -> Figure | None:
    """How many frames took how long, with the percentiles marked.

    Args:
        histogram: `edges_ms` (n + 1) and `counts` (n).
        latency: `p50`, `p95` and `p99` in milliseconds.
    """
    if histogram is None or not sum(histogram['counts']):
        return None
    figure, axes = create_axes(HALF, 2.9)
    axes.grid(visible=False, axis='x')
    edges = np.array(histogram['edges_ms'])
    axes.stairs(histogram['counts'], edges, fill=True, color=BLUE, alpha=0.75)
    styles = (('p50', TEXT, '-'), ('p95', TEXT, '--'), ('p99', RED, '--'))
    for name, color, style in styles:
        value = finite(latency.get(name))
        if math.isfinite(value):
            axes.axvline(value, color=color, linewidth=1.3, linestyle=style, label=f'{name} {value:.3g} ms')
    axes.set_xlim(left=max(0.0, float(edges[0])))
    axes.set_xlabel('ms per frame')
    axes.set_ylabel('frames')
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.get_legend_handles_labels()[0]:
        legend_above(axes)
    return figure


def draw_stages(stages: Mapping[str, Mapping[str, float | None]]) -> Figure | None:
    """The percentiles of every stage: a bar to the median, a line to p95, a tick at p99.

    Args:
        stages: name -> `p50`, `p95`, `p99` in milliseconds; a stage without a median is left out.
    """
    known = {name: [finite(values.get(p)) for p in PERCENTILES] for name, values in stages.items()}
    known = {name: values for name, values in known.items() if math.isfinite(values[0])}
    if not known:
        return None
    figure, axes = create_axes(HALF, 0.9 + 0.34 * len(known))
    axes.grid(visible=False, axis='y')
    places = np.arange(len(known))
    p50, p95, p99 = np.array(list(known.values())).T
    bars = axes.barh(places, p50, height=0.55, color=BLUE, alpha=0.75, label='p50')
    lines = axes.hlines(places, p50, p95, color=TEXT, linewidth=1.3, label='p95')
    [ticks] = axes.plot(
        p99, places, color=RED, marker='|', markersize=9, markeredgewidth=1.6, linestyle='', label='p99'
    )
    axes.set_yticks(places, [plain(name.replace('_', ' ')) for name in known], color=TEXT)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel('ms')
    axes.xaxis.set_major_locator(MaxNLocator(6))
    legend_above(axes, handles=[bars, lines, ticks])
    return figure


def draw_timeline(timeline: Mapping[str, Any], lost_word: str) -> Figure | None:
    """Frames, latency and quality over the time of the bag, below each other; bins that lost frames are red in all.

    Args:
        timeline: the report's section.
        lost_word: what became of the frames in `skipped`: 'skipped' or 'dropped'.
    """
    starts, width = np.array(timeline['t_s']), timeline['bin_s']
    if not len(starts):
        return None
    quality = [('miou', 'mIoU'), ('mask_agreement', 'agreement')]
    rows = [('latency_ms', 'latency, ms', 1.0)]
    rows += [(name, f'{title}, %', 100.0) for name, title in quality if not _is_empty(timeline[name])][:1]
    rows += [('pq', 'PQ, %', 100.0), ('boxes', 'boxes', 1.0)]
    rows = [row for row in rows if not _is_empty(timeline[row[0]])]
    figure = create_figure(FULL, 1.9 + 1.15 * len(rows))
    every = figure.subplots(1 + len(rows), 1, sharex=True, squeeze=False, height_ratios=[1.3, *[1] * len(rows)])[:, 0]
    middle = starts + width / 2
    edges = np.append(starts, starts[-1] + width)
    processed, lost = np.array(timeline['processed']), np.array(timeline['skipped'])
    for axes in every:
        style_axes(axes)
    frames = every[0]
    frames.stairs(processed, edges, fill=True, color=BLUE, alpha=0.75, label='processed')
    if lost.any():
        label = f'{lost_word} ({lost.sum():,})'
        frames.stairs(processed + lost, edges, baseline=processed, fill=True, color=RED, label=label)
    frames.set_ylabel('frames')
    frames.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    legend_above(frames)
    for axes, (name, title, factor) in zip(every[1:], rows, strict=True):
        marker = 'o' if len(starts) == 1 else None  # a line of one point would be invisible
        axes.plot(middle, factor * as_array(timeline[name]), color=BLUE, linewidth=1.6, marker=marker)
        axes.set_ylabel(title)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.margins(y=0.15)
        if factor == 1.0:
            axes.set_ylim(bottom=0)
    for axes in every if lost.any() else ():
        limits, from_bottom_to_top = axes.get_ylim(), axes.get_xaxis_transform()
        axes.stairs(lost > 0, edges, fill=True, color=RED, alpha=0.13, linewidth=0, transform=from_bottom_to_top)
        axes.set_ylim(limits)  # which the line above takes for data from 0 to 1
    every[-1].set_xlabel('seconds since the start of the bag')
    every[-1].set_xlim(starts[0], max(starts[-1] + width, starts[0] + 1e-3))
    figure.align_ylabels()
    return figure


def draw_class_iou(iou: Mapping[str, float | None], miou: float | None, colors: Colors) -> Figure | None:
    """A bar per class in its colour, best first, and a line at the mean; classes that did not occur are left out."""
    known = sorted(((finite(v), name) for name, v in iou.items() if math.isfinite(finite(v))), reverse=True)
    shown = known[-MAX_BARS:]
    if not shown:
        return None
    figure, axes = create_axes(HALF, 0.75 + 0.25 * len(shown))
    axes.grid(visible=False, axis='y')
    places = np.arange(len(shown))
    values = 100 * np.array([value for value, _ in shown])
    fills = [colors.get(name, BLUE) for _, name in shown]
    axes.barh(places, values, height=0.66, color=fills, edgecolor=QUIET, linewidth=0.5)
    for place, value in enumerate(values.tolist()):
        axes.text(109, place, f'{value:.1f}', ha='right', va='center', color=QUIET, fontsize=8.5)
    names = [plain(name) for _, name in shown]
    axes.set_yticks(places, names, color=TEXT)
    axes.invert_yaxis()
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 109)
    axes.set_xticks(range(0, 101, 20))
    left_out = f', the lowest {len(shown)} of {len(known)} classes' if len(shown) < len(known) else ''
    axes.set_xlabel(f'IoU, %{left_out}')
    if math.isfinite(mean := finite(miou)):
        axes.axvline(100 * mean, color=TEXT, linewidth=1.2, linestyle='--', label=f'mean {100 * mean:.1f}')
        legend_above(axes)
    return figure


def draw_pr_curves(curves: Mapping[str, Any] | None, ap50: Mapping[str, float | None]) -> Figure | None:
    """Precision over recall of each class at one IoU, and their mean.

    Args:
        curves: `iou`, `recall` (101) and `precision`, class name -> (101).
        ap50: class name -> AP50, for the legend; with many classes those with the least and the most are shown.
    """
    if curves is None or not curves['precision'] or not curves['recall']:
        return None
    lines = {name: np.array(values) for name, values in curves['precision'].items()}
    names = sorted(lines, key=lambda name: -_rank(ap50.get(name)))
    shown = names if len(names) <= MAX_LINES else [*names[: MAX_LINES // 2], *names[-(MAX_LINES // 2) :]]
    figure, axes = create_axes(HALF, 4.3)
    for color, name in zip(CYCLE, shown, strict=False):
        value = finite(ap50.get(name))
        text = f'{plain(name)} {100 * value:.1f}' if math.isfinite(value) else plain(name)
        axes.plot(curves['recall'], lines[name], color=color, linewidth=1.4, label=text)
    if len(lines) > 1:
        mean = np.mean(list(lines.values()), axis=0)
        label = f'mean of {len(lines)}'
        axes.plot(curves['recall'], mean, color=TEXT, linewidth=2.2, linestyle=(0, (4, 1.5)), label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel('recall')
    axes.set_ylabel(f'precision at IoU {curves["iou"]:g}')
    legend_above(axes, 2)
    return figure


def draw_confusion(confusion: Mapping[str, Any] | None) -> Figure | None:
    """What the pixels of each class were taken for, in percent of the class; the diagonal is framed.

    Args:
        confusion: `names` (K) and `counts` (K, K + 1), rows ground truth, the last column for other classes. With many
            classes those with the most pixels are shown, and the rest counts as other.
    """
    counts = np.array(confusion['counts'], np.float64) if confusion is not None else np.zeros(0)
    if confusion is None or not counts.any():
        return None
    order = np.argsort(-counts.sum(axis=1), kind='stable')[:MAX_CONFUSED]
    order.sort()
    totals = counts[order].sum(axis=1)
    inner = counts[np.ix_(order, order)]
    shares = np.column_stack((inner, totals - inner.sum(axis=1))) / np.maximum(totals, 1)[:, None]
    names = [plain(confusion['names'][index], 16) for index in order]
    side = 1.5 + 0.36 * len(names)
    figure, axes = create_axes(max(HALF, side + 0.8), max(2.4, side))
    axes.grid(visible=False)
    _fill_confusion(axes, shares)
    axes.set_xticks(range(len(names) + 1), [*names, 'other'], rotation=90, color=TEXT)
    axes.set_yticks(range(len(names)), names, color=TEXT)
    axes.tick_params(length=0)
    axes.set_xlim(-0.5, len(names) + 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel('taken for')
    axes.set_ylabel('ground truth')
    return figure


def _fill_confusion(axes: Axes, shares: np.ndarray) -> None:
    """Cells as strong as their share, hits blue and confusions red; what rounds to nothing stays blank."""
    size = max(5.5, min(8.5, 150 / len(shares)))
    for row, values in enumerate(shares):
        for column, share in enumerate(values):
            hit = row == column
            if share >= 0.005:
                strength = 0.08 + 0.87 * share if hit else 0.1 + 0.85 * min(1.0, 2 * share)
                axes.bar(column, 1, 1, row - 0.5, color=BLUE if hit else RED, alpha=strength, linewidth=0)
                ink = '#ffffff' if strength > 0.6 else TEXT
                axes.text(column, row, f'{100 * share:.0f}', ha='center', va='center', color=ink, fontsize=size)
            if hit:
                axes.bar(column, 1, 1, row - 0.5, fill=False, edgecolor=QUIET, linewidth=0.7)


def draw_class_shares(timeline: Mapping[str, Any], colors: Colors) -> Figure | None:
    """How much of the picture each of the largest classes has over time, on top of each other in their colours."""
    starts = np.array(timeline['t_s'])
    shares = {name: as_array(values) for name, values in timeline['class_share'].items() if not _is_empty(values)}
    if not len(starts) or not shares:
        return None
    figure, axes = create_axes(FULL, 3.1)
    middle = starts + timeline['bin_s'] / 2
    values = np.array(list(shares.values()))
    if len(starts) == 1:  # an area needs two points
        middle, values = np.array([starts[0], starts[0] + timeline['bin_s']]), values.repeat(2, axis=1)
    # A class that is absent in a bin has no share there; a bin without any class is a gap.
    values = np.where(np.isnan(values) & ~np.isnan(values).all(axis=0), 0.0, values)
    fills = [colors.get(name, CYCLE[index % len(CYCLE)]) for index, name in enumerate(shares)]
    names = [plain(name) for name in shares]
    axes.stackplot(middle, 100 * values, labels=names, colors=fills, edgecolor=LINE, linewidth=0.4)
    axes.set_ylim(0, 100)
    axes.set_xlim(middle[0], max(middle[-1], middle[0] + 1e-3))
    axes.set_ylabel('% of the pixels')
    axes.set_xlabel('seconds since the start of the bag')
    legend_above(axes, 6)
    return figure


def draw_histogram(histogram: Mapping[str, Any] | None, what: str, unit: str) -> Figure | None:
    """Shares of `unit` ('pixels') over `what` ('confidence'), from `edges` (n + 1) and `counts` (n)."""
    if histogram is None or not sum(histogram['counts']):
        return None
    figure, axes = create_axes(HALF, 2.5)
    axes.grid(visible=False, axis='x')
    counts = np.array(histogram['counts'], np.float64)
    axes.stairs(100 * counts / counts.sum(), histogram['edges'], fill=True, color=BLUE, alpha=0.75)
    axes.set_xlim(histogram['edges'][0], histogram['edges'][-1])
    axes.set_xlabel(what)
    axes.set_ylabel(f'% of the {unit}')
    return figure


def draw_resources(samples: Mapping[str, Sequence[Any]]) -> Figure | None:
    """What the node took while it ran, and how many frames it had lost by then, below each other."""
    rows = [
        (name, title) for name, title in (
            ('cpu_percent', 'CPU, %'), ('memory_mib', 'memory, MiB'), ('device_memory_mib', 'device, MiB'),
        ) if any(samples[name])  # a node without a GPU reports a device memory of 0
    ]  # fmt: skip
    lost = [name for name in ('dropped', 'stale') if np.nansum(as_array(samples[name])) > 0]
    if not rows or not samples['t_s']:
        return None
    count = len(rows) + bool(lost)
    figure = create_figure(FULL, 0.5 + 1.25 * count)
    every = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    marker = 'o' if len(samples['t_s']) == 1 else None
    for axes, (name, title) in zip(every, rows, strict=False):
        axes.plot(samples['t_s'], as_array(samples[name]), color=BLUE, linewidth=1.4, marker=marker)
        axes.set_ylabel(title)
    if lost:
        for name, style in zip(lost, ('-', '--'), strict=False):
            axes = every[-1]
            axes.plot(samples['t_s'], as_array(samples[name]), color=RED, linewidth=1.4, linestyle=style, label=name)
        every[-1].set_ylabel('frames lost')
    for axes in every:
        style_axes(axes)
        axes.margins(x=0, y=0.15)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    if lost:
        legend_above(every[-1])
    every[-1].set_xlabel('seconds')
    figure.align_ylabels()
    return figure


def draw_class_pairs(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> Figure | None:
    """IoU of two reports side by side, classes in the order of A; A is pale, B in full."""
    names = [name for name in a if math.isfinite(finite(a[name])) and math.isfinite(finite(b.get(name)))][:MAX_BARS]
    if not names:
        return None
    figure, axes = create_axes(HALF, 0.9 + 0.36 * len(names))
    axes.grid(visible=False, axis='y')
    places = np.arange(len(names))
    for offset, scores, color, label in ((-0.19, a, QUIET, 'A'), (0.19, b, BLUE, 'B')):
        values = [100 * finite(scores[name]) for name in names]
        axes.barh(places + offset, values, height=0.36, color=color, alpha=0.8, label=label)
    axes.set_yticks(places, [plain(name) for name in names], color=TEXT)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel('IoU, %')
    legend_above(axes)
    return figure


def draw_latency_pairs(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> Figure | None:
    """Percentiles of the latency of two reports side by side, in milliseconds."""
    names = [name for name in PERCENTILES if math.isfinite(finite(a.get(name))) and math.isfinite(finite(b.get(name)))]
    if not names:
        return None
    figure, axes = create_axes(HALF, 2.4)
    axes.grid(visible=False, axis='x')
    places = np.arange(len(names))
    for offset, values, color, label in ((-0.19, a, QUIET, 'A'), (0.19, b, BLUE, 'B')):
        bars = axes.bar(
            places + offset, [finite(values[name]) for name in names], 0.36, color=color, alpha=0.8, label=label
        )
        axes.bar_label(bars, fmt='{:.3g}', color=QUIET, size=8, padding=1)
    axes.set_xticks(places, names, color=TEXT)
    axes.set_ylabel('ms')
    legend_above(axes)
    return figure


def _is_empty(values: Sequence[float | None] | None) -> bool:
    return values is None or all(value is None for value in values)


def _rank(value: float | None) -> float:
    """Where a class stands among others: by its score, those without one last."""
    number = finite(value)
    return number if math.isfinite(number) else -1.0
