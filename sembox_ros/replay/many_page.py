"""What summary.html looks like: the bags of one run, with links to their reports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sembox_ros.page import Tile, duration, fixed, percent, render, score_table
from sembox_ros.replay.report_page import PARTS, STYLE, Badge, ClassTable
from sembox_ros.replay.report_sections import milliseconds

TITLES = ('frames', 'mIoU %', 'AP %', 'PQ %', 'depth abs-rel', 'motion mIoU %', 'latency p50 ms', 'frames/s')
# Scores in the order of `TITLES` -> the part of `GradeScores` that has them.
SCORES = {'miou': 'semantic', 'ap': 'boxes', 'pq': 'panoptic', 'abs_rel': 'depth', 'motion_miou': 'motion'}

_STYLE = """
a { color: inherit; }
.bags th, .bags td { width: auto; white-space: nowrap; }
.bags th:first-child, .bags td:first-child { min-width: 9rem; white-space: normal; }
.bags th:last-child, .bags td:last-child { min-width: 14rem; white-space: normal; overflow-wrap: anywhere;
  text-align: left; padding-left: 1.5rem; }
"""

_PAGE = """
{% extends 'layout' %}
{% from 'parts' import class_table, tile_row %}
{% block style %}STYLE{% endblock %}
PARTS
{% block body %}
<h1>{{ page.title }}</h1>
<p class="badges">{{ badge_row(page.badges) }}</p>
{{ tile_row(page.tiles) }}
<section>
<h2>Bags</h2>
<div class="strip" tabindex="0">
<table class="bags">
<thead><tr><th scope="col">bag</th>
{%- for title in page.titles %}<th scope="col">{{ title }}</th>{% endfor %}<th scope="col">state</th></tr></thead>
<tbody>
{% for row in page.rows %}
<tr><td>{% if row.link %}<a href="{{ row.link }}">{{ row.name }}</a>{% else %}{{ row.name }}{% endif %}</td>
{%- for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}<td>{{ row.state }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
</section>
{% if page.classes %}
<section>
<h2>Classes</h2>
<p class="quiet">Percent, of all graded bags together.</p>
<div class="scores">{{ class_table(page.classes.columns, page.classes.rows, page.classes.means) }}</div>
</section>
{% endif %}
{% if page.notes %}
<section>
<h2>Left out</h2>
<ul>
{% for note in page.notes %}<li>{{ note }}</li>
{% endfor %}
</ul>
</section>
{% endif %}
{% endblock %}
"""


@dataclass(frozen=True)
class BagRow:
    """One bag; `link` leads to its report and is empty where there is none."""

    name: str
    link: str
    cells: Sequence[str]
    state: str


@dataclass(frozen=True)
class SummaryPage:
    """Everything on the page, as plain text that is escaped when it is rendered."""

    title: str
    badges: Sequence[Badge]
    tiles: Sequence[Tile]
    titles: Sequence[str]
    rows: Sequence[BagRow]
    classes: ClassTable | None
    notes: Sequence[str]


def pick_scores(parts: Mapping[str, Any]) -> dict[str, float | None]:
    """The scores of a bag, or of all bags, from the parts of `GradeScores.to_dict`; None for what is not known."""
    return {name: (parts.get(part) or {}).get(name) for name, part in SCORES.items()}


def show_scores(scores: Mapping[str, Any]) -> list[str]:
    """Scores in the order of `TITLES`; '-' for what is not known."""
    return [fixed(scores[name], 3) if name == 'abs_rel' else percent(scores[name]) for name in SCORES]


def numbers(row: Mapping[str, Any]) -> list[str]:
    """A bag's numbers in the order of `TITLES`; '-' for what is not known."""
    frames, speed = row['frames'], row['frames_per_s']
    return [
        '-' if frames is None else f'{frames:,}',
        *show_scores(row),
        milliseconds(row['latency_p50_ms']),
        '-' if speed is None else f'{speed:.3g}',
    ]


def state_words(row: Mapping[str, Any]) -> str:
    """A bag's state, and why it is not done."""
    why = row['error'] if row['state'] == 'failed' else row['partial']
    again = f' (begun anew {row["retries"]}x)' if row['retries'] and row['state'] != 'failed' else ''
    return row['state'] + (f': {why}' if why else '') + again


def render_summary(summary: Mapping[str, Any]) -> str:
    """HTML of a summary, without any reference but those to the bags' reports."""
    overall, bags = summary['overall'], summary['bags']
    columns, classes, means = score_table(overall['semantic'], overall['boxes'], overall['panoptic'])
    alarms = ('failed', 'interrupted', 'not run', 'partial')
    page = SummaryPage(
        title=f'Replay of {len(bags)} bag{"" if len(bags) == 1 else "s"}',
        badges=[
            Badge(f'{count} {state}', 'alarm' if state in alarms else 'good')
            for state, count in overall['states'].items()
        ],
        tiles=_tiles(overall),
        titles=TITLES,
        rows=[_bag_row(row) for row in bags],
        classes=ClassTable(columns, classes, means) if classes else None,
        notes=overall['notes'],
    )
    return render(_PAGE.replace('STYLE', STYLE + _STYLE).replace('PARTS', PARTS), page)


def _bag_row(row: Mapping[str, Any]) -> BagRow:
    link = quote(os.fsencode(row['page'])) if row['page'] else ''  # names of files need not be UTF-8
    return BagRow(row['name'], link, numbers(row), state_words(row))


def _tiles(overall: Mapping[str, Any]) -> list[Tile]:
    """Quality as far as it is known, then how much was done."""
    tiles = []
    note = f'% over {overall["graded"]} bag{"" if overall["graded"] == 1 else "s"}'
    if overall['semantic'] is not None:
        tiles.append(Tile('mIoU', percent(overall['semantic']['miou']), note))
    if overall['boxes'] is not None:
        tiles.append(Tile('AP', percent(overall['boxes']['ap']), note))
        tiles.append(Tile('AP50', percent(overall['boxes']['ap50']), f'{note}, at IoU 0.5'))
    if overall['panoptic'] is not None:
        tiles.append(Tile('PQ', percent(overall['panoptic']['pq']), note))
    if overall['depth'] is not None:
        tiles.append(Tile('depth abs-rel', fixed(overall['depth']['abs_rel'], 3), note.removeprefix('% ')))
    if overall['motion'] is not None:
        tiles.append(Tile('motion mIoU', percent(overall['motion']['motion_miou']), note))
    return [*tiles, Tile('frames', f'{overall["frames"]:,}', f'in {duration(overall["seconds"])} of replaying')]
