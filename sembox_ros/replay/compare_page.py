"""A comparison of two reports for people: as text, and as compare.html."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sembox_ros.page import percent
from sembox_ros.replay import report_plots as plots
from sembox_ros.replay.compare import Comparison
from sembox_ros.replay.report_page import Badge, NumberTable, Page, Section
from sembox_ros.replay.report_schema import main_latency
from sembox_ros.replay.report_sections import as_plots

METRICS_TEXT = (
    'Differences are B - A. Shares and scores are in percent, their differences and tolerances in points; a tolerance '
    'with % is relative to A.'
)
COLUMNS = ('metric', 'A', 'B', 'difference', 'tolerance', 'verdict')


def render_text(comparison: Comparison) -> str:
    """Warnings, what differs in the settings, the metrics as a table, the classes that changed, the verdict."""
    blocks = ['\n'.join(f'warning: {warning}' for warning in comparison.warnings)]
    blocks.append(_aligned([('setting', 'A', 'B'), *comparison.settings]) if comparison.settings else '')
    blocks.append(_aligned([COLUMNS, *_metric_rows(comparison)]))
    blocks.append(_aligned([('IoU by class', 'A', 'B', 'difference'), *_class_rows(comparison)]))
    if not comparison.classes:
        blocks.pop()
    blocks.append(verdict(comparison))
    return '\n\n'.join(block for block in blocks if block)


def verdict(comparison: Comparison) -> str:
    """The outcome in one line."""
    if comparison.worse:
        return f'WORSE beyond tolerance: {", ".join(comparison.worse)}'
    return 'nothing is worse beyond tolerance' if comparison.rows else 'nothing to compare: no metric in either report'


def build_comparison_page(comparison: Comparison, a: Mapping[str, Any], b: Mapping[str, Any]) -> Page:
    """What compare.html shows of a comparison of the checked reports A and B."""
    semantic = [((report['accuracy'] or {}).get('semantic') or {}).get('iou_per_class', {}) for report in (a, b)]
    stage, latency = main_latency(a)
    metrics = NumberTable(
        COLUMNS, _metric_rows(comparison), [i for i, row in enumerate(comparison.rows) if row.is_worse], wide=True
    )
    settings = NumberTable(('setting', 'A', 'B'), comparison.settings, wide=True)
    changes = NumberTable(('class', 'A', 'B', 'difference'), _class_rows(comparison))
    iou = plots.draw_class_pairs(*semantic)
    bars = plots.draw_latency_pairs(latency, main_latency(b)[1])
    sections = (
        Section('Take care', points=comparison.warnings),
        Section('Settings', tables=[settings] if comparison.settings else []),
        Section('Metrics', METRICS_TEXT, tables=[metrics] if comparison.rows else []),
        Section('Classes', plots=as_plots([(iou, 'IoU by class')]), tables=[changes] if comparison.classes else []),
        Section('Latency', plots=as_plots([(bars, f'Milliseconds per frame, {stage.replace("_", " ")}')])),
    )
    return Page(
        title='A and B',
        facts=f'A: {_describe(a)}. B: {_describe(b)}.',
        badges=[Badge(verdict(comparison), 'alarm' if comparison.worse else 'good' if comparison.rows else '')],
        sections=[section for section in sections if not section.is_empty],
    )


def _describe(report: Mapping[str, Any]) -> str:
    network = report['network']
    return (
        f'{report["name"]}, {network["checkpoint"]} ({network["model"]}) by {network["engine"]} {network["precision"]}'
    )


def _metric_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    return [
        (
            row.metric.name, row.metric.show(row.a), row.metric.show(row.b),
            row.metric.show(row.difference, signed=True), row.metric.show_tolerance(row.tolerance), row.verdict,
        ) for row in comparison.rows
    ]  # fmt: skip


def _class_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    return [
        (name, percent(a), percent(b), '-' if a is None or b is None else f'{100 * (b - a):+.1f}')
        for name, a, b in comparison.classes
    ]


def _aligned(rows: list[tuple[str, ...]]) -> str:
    """Columns of text, the first one to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(f'{c:<{w}}' if i == 0 else f'{c:>{w}}' for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )
