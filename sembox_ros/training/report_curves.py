"""The curves of a training run: losses, learning rate and scores over epochs, in one picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

SIZE_INCHES, DPI = (6.8, 8.2), 180
SMOOTHED_SHARE = 30  # the smoothed line looks back over one 30th of the points
LOSS_NAME = re.compile(r'loss(_[a-z0-9]+)*')
SCORES = {
    'miou': 'mIoU', 'ap': 'AP', 'ap50': 'AP50', 'pq': 'PQ', 'delta1': 'depth', 'motion_miou': 'motion',
}  # fmt: skip
TOTAL_COLOR = '#222222'
LOSS_COLORS = ('#2f6fb3', '#d9792b', '#3c9465', '#a5559c', '#8a6d3b', '#c8504f', '#5f9ea8', '#b0a030')
SCORE_COLORS = ('#2f6fb3', '#3c9465', '#d9792b', '#a5559c', '#8a6d3b', '#c8504f')
QUIET = '#777777'


def draw_curves(train: Sequence[Mapping[str, float]], val: Sequence[Mapping[str, float]], best_step: float) -> Figure:
    """Losses, learning rate and scores of a run, above each other over the same epochs.

    Args:
        train: records with `epoch`, `lr` and any of `loss`, `loss_<term>`; names may be absent, values NaN.
        val: records with `step`, `epoch` and any of `SCORES`, 0..1.
        best_step: step of the validation to mark; NaN for none.

    Returns:
        A figure of its own, unknown to pyplot.
    """
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout='constrained', facecolor='white')
    losses, rate, scores = figure.subplots(3, 1, sharex=True, height_ratios=(4, 1.6, 4))
    for axes in (losses, rate, scores):
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(color='#e4e4e4', linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=11, color=QUIET)
    _draw_losses(losses, train)
    _draw_rate(rate, train)
    _draw_scores(scores, val, best_step)
    scores.set_xlabel('epoch', fontsize=12)
    last = max((row['epoch'] for row in (*train, *val)), default=1.0)
    scores.set_xlim(0, last * 1.02 if last > 0 else 1.0)
    figure.align_ylabels()
    return figure


def smooth(values: np.ndarray, span: int) -> np.ndarray:
    """Exponential mean that starts without a bias; NaN are left out of it.

    Args:
        values: (N,) float.
        span: values that matter for each mean, at least 1; 1 gives `values`.

    Returns:
        (N,) float, NaN before the first number.
    """
    share = 2.0 / (span + 1.0)
    total = weight = 0.0
    means = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        if np.isfinite(value):
            total += share * (value - total)
            weight += share * (1.0 - weight)
        if weight > 0:
            means[index] = total / weight
    return means


def _column(rows: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    return np.array([row.get(name, np.nan) for row in rows], dtype=np.float64)


def _draw_losses(axes: Axes, train: Sequence[Mapping[str, float]]) -> None:
    names = dict.fromkeys(name for row in train for name in row if LOSS_NAME.fullmatch(name))
    terms = [name for name in names if name != 'loss']
    colors = {name: LOSS_COLORS[i % len(LOSS_COLORS)] for i, name in enumerate(terms)} | {'loss': TOTAL_COLOR}
    epochs = _column(train, 'epoch')
    drawn = False
    for name in (*(['loss'] if 'loss' in names else []), *terms):
        values = _column(train, name)
        values[values <= 0] = np.nan  # a logarithmic axis has no place for zero
        if np.isnan(values).all():
            continue
        drawn = True
        label = 'total' if name == 'loss' else name.removeprefix('loss_').replace('_', ' ')
        axes.plot(epochs, values, color=colors[name], linewidth=0.7, alpha=0.3)
        smoothed = smooth(values, max(1, len(values) // SMOOTHED_SHARE))
        marker = 'o' if len(values) == 1 else None  # a line of one point would be invisible
        axes.plot(epochs, smoothed, color=colors[name], linewidth=1.8, label=label, marker=marker)
    axes.set_ylabel('loss', fontsize=12)
    if drawn:
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
        axes.yaxis.set_minor_formatter(NullFormatter())
        _legend_above(axes)
    else:
        _say(axes, 'no losses logged yet')


def _draw_rate(axes: Axes, train: Sequence[Mapping[str, float]]) -> None:
    rates = _column(train, 'lr')
    axes.set_ylabel('learning rate', fontsize=12)
    if np.isnan(rates).all():
        _say(axes, 'no learning rate logged yet')
        return
    axes.plot(_column(train, 'epoch'), rates, color=QUIET, linewidth=1.8, marker='o' if len(rates) == 1 else None)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))


def _draw_scores(axes: Axes, val: Sequence[Mapping[str, float]], best_step: float) -> None:
    axes.set_ylabel('score, %', fontsize=12)
    epochs = _column(val, 'epoch')
    is_best = _column(val, 'step') == best_step
    drawn = False
    for color, (name, label) in zip(SCORE_COLORS, SCORES.items(), strict=True):
        values = 100 * _column(val, name)
        if np.isnan(values).all():
            continue
        drawn = True
        axes.plot(epochs, values, color=color, linewidth=1.8, marker='o', markersize=3.5, label=label)
        axes.plot(epochs[is_best], values[is_best], color=color, linestyle='', marker='*', markersize=15)
    if not drawn:
        _say(axes, 'no validation yet')
        return
    if is_best.any():
        epoch = float(epochs[is_best][0])
        axes.axvline(epoch, color=QUIET, linewidth=1, linestyle=':', label=f'best, epoch {epoch:.4g}')
    axes.set_ylim(bottom=0)
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    """A legend above the axes, where it never covers a curve."""
    axes.legend(
        loc='lower left', bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize=11, borderaxespad=0.2,
        handlelength=1.4, columnspacing=1.4,
    )  # fmt: skip


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha='center', va='center', color=QUIET, fontsize=12)
    axes.set_yticks([])
