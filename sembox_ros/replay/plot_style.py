"""How the plots of the replay's pages look: one figure, two pictures of it, for light and for dark pages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sembox_ros.page import data_uri

HALF, FULL = 4.9, 10.4  # inches wide: half a page, which is also a phone, and a whole one
TEXT, QUIET, LINE, BLUE, RED = '#1d2127', '#66707c', '#e3e6ea', '#3d7cbf', '#d13a32'
# Colours on a light page -> on a dark one. Nothing else in a plot uses them.
DARK = {TEXT: '#e4e7eb', QUIET: '#98a2ad', LINE: '#2b3037', BLUE: '#5b97d6', RED: '#f2665c'}
# Lines of several classes: apart from each other, and from both grounds.
CYCLE = (
    '#4a86c5', '#e0862f', '#3fa06b', '#c2569b', '#8d6cc0', '#b5892b', '#2ba3b0', '#d4605a', '#7f8c3a', '#8a8f98',
)  # fmt: skip
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


@dataclass(frozen=True)
class Plot:
    """A plot on a page.

    Attributes:
        alt: what it shows, in words.
        light: data URI of the picture for light pages.
        dark: for dark ones.
        wide: whether it needs the whole width.
    """

    alt: str
    light: str
    dark: str
    wide: bool


def create_figure(width: float, height: float) -> Figure:
    """An empty figure without a ground of its own, unknown to pyplot; sizes in inches."""
    return Figure(figsize=(width, height), layout='constrained', facecolor='none')


def create_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = create_figure(width, height)
    axes = figure.subplots()
    style_axes(axes)
    return figure, axes


def style_axes(axes: Axes, *, grid: str = 'both') -> None:
    """Quiet lines, no box, and a grid along `grid`: 'x', 'y' or 'both'."""
    axes.set_facecolor('none')
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(LINE)
    axes.grid(color=LINE, linewidth=0.8, axis=grid)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color=LINE, labelcolor=QUIET)
    axes.xaxis.label.set(color=QUIET, size=9.5)
    axes.yaxis.label.set(color=QUIET, size=9.5)


def legend_above(axes: Axes, columns: int = 3, handles: Sequence[Any] = ()) -> None:
    """A legend above the axes, where it never covers a line: of `handles`, or of all that has a label."""
    axes.legend(
        handles=handles or axes.get_legend_handles_labels()[0], loc='lower left', bbox_to_anchor=(0, 1), ncols=columns,
        frameon=False, fontsize=9, labelcolor=QUIET, borderaxespad=0.2, handlelength=1.3, columnspacing=1.3,
    )  # fmt: skip


def plain(text: str, limit: int = 28) -> str:
    """Text that is drawn as it is written: no formulas between dollars, no end of the page."""
    return (text if len(text) <= limit else f'{text[: limit - 1]}…').replace('$', r'\$')


def as_array(values: Sequence[float | None]) -> np.ndarray:
    """(N,) float64, NaN for None."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def to_plot(figure: Figure, alt: str) -> Plot:
    """The two pictures of a figure, as SVG."""
    settings: Any = {'svg.fonttype': 'none', 'svg.hashsalt': 'sembox_ros', 'font.sans-serif': ['DejaVu Sans']}
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        # Text is measured here in a font that has no Chinese, say, but drawn by a browser that has it.
        warnings.filterwarnings('ignore', message='Glyph .* missing')
        file = io.StringIO()
        figure.savefig(file, format='svg', metadata=dict.fromkeys(('Date', 'Creator', 'Format', 'Type')))
    light = file.getvalue().replace("'DejaVu Sans', sans-serif", FONT)
    dark = light
    for bright, dim in DARK.items():
        dark = dark.replace(bright, dim)
    return Plot(alt, _encode(light), _encode(dark), wide=figure.get_figwidth() > HALF)


def _encode(svg: str) -> str:
    return data_uri('image/svg+xml', svg.encode(errors='replace'))
