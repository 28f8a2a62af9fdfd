"""What report.html looks like, and the pieces that it and the page of a comparison are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sembox_ros.page import Cell, ClassRow, Picture, Tile, render
from sembox_ros.replay.plot_style import Plot

STYLE = """
:root { --alarm: #c2321f; }
@media (prefers-color-scheme: dark) { :root { --alarm: #ff7a6b; } }
body { max-width: 66rem; }
h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1.25rem; }
h3 { font-size: .85rem; font-weight: 500; color: var(--quiet); margin: 0 0 .4rem; }
.badge { display: inline-block; border-radius: 1rem; padding: .05rem .75rem; margin: .15rem .3rem .15rem 0;
  font-size: .85rem; border: 1px solid var(--line); color: var(--quiet); overflow-wrap: anywhere; }
.badge.good { background: #1a7f4b; border-color: #1a7f4b; color: #fff; }
.badge.alarm { background: #c2321f; border-color: #c2321f; color: #fff; font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.25rem 2rem; align-items: start;
  margin-top: 1rem; }
.grid > * { margin: 0; min-width: 0; }
.wide { grid-column: 1 / -1; }
.grid figcaption { margin: 0 0 .3rem; }
.plain th, .plain td { width: auto; }
.plain td { overflow-wrap: anywhere; }
.plain td:first-child { overflow-wrap: break-word; }
.scroll { overflow-x: auto; }
.scroll td { white-space: nowrap; }
.alarm td { color: var(--alarm); font-weight: 600; }
.grid img { width: auto; max-width: 100%; }
.strip img { min-width: 0; }
ul { padding-left: 1.2rem; max-width: 46rem; }
li { margin: .25rem 0; overflow-wrap: anywhere; }
@media (max-width: 46rem) {
  .grid { grid-template-columns: minmax(0, 1fr); }
  .wide.strip img { max-width: none; width: 42rem; }
  th, td { padding-left: .5rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, section > p { break-after: avoid; }
  figure, tr, .tile { break-inside: avoid; }
  .badge, .tile, .bar i { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

PARTS = """
{% macro badge_row(badges) %}
{% for badge in badges %}
<span class="badge{% if badge.kind %} {{ badge.kind }}{% endif %}">{{ badge.text }}</span>
{% endfor %}
{% endmacro %}

{% macro number_table(table) %}
<table class="plain">
<thead><tr>{% for name in table.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr{% if loop.index0 in table.marked %} class="alarm"{% endif %}>
{%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% endmacro %}

{% macro plot_figure(plot) %}
<figure{% if plot.wide %} class="wide strip" tabindex="0"{% endif %}>
<figcaption>{{ plot.alt }}</figcaption>
<picture>
<source media="(prefers-color-scheme: dark)" srcset="{{ plot.dark }}">
<img src="{{ plot.light }}" alt="{{ plot.alt }}">
</picture>
</figure>
{% endmacro %}
"""

_PAGE = """
{% extends 'layout' %}
{% from 'parts' import class_table, picture_list, tile_row %}
{% block style %}STYLE{% endblock %}
PARTS
{% block body %}
<h1>{{ page.title }}</h1>
<p class="facts">{{ page.facts }}</p>
<p class="badges">{{ badge_row(page.badges) }}</p>
{{ tile_row(page.tiles) }}
{% for section in page.sections %}
<section>
<h2>{{ section.title }}</h2>
{% if section.text %}<p class="quiet">{{ section.text }}</p>{% endif %}
{% if section.points %}
<ul>
{% for point in section.points %}<li>{{ point }}</li>
{% endfor %}
</ul>
{% endif %}
{% if section.plots or section.classes or section.tables %}
<div class="grid">
{% for plot in section.plots %}
{{ plot_figure(plot) }}
{% endfor %}
{% if section.classes %}
<div class="scores">{{ class_table(section.classes.columns, section.classes.rows, section.classes.means) }}</div>
{% endif %}
{% for table in section.tables %}
<div{% if table.wide %} class="wide{% if table.columns | length > 3 %} scroll{% endif %}"{% endif %}>
{{ number_table(table) }}
</div>
{% endfor %}
</div>
{% endif %}
{{ picture_list(section.pictures) }}
</section>
{% endfor %}
{% endblock %}
"""


@dataclass(frozen=True)
class Badge:
    """A word about the whole page; `kind` is '' (quiet), 'good' or 'alarm'."""

    text: str
    kind: str = ''


@dataclass(frozen=True)
class NumberTable:
    """A table, all text.

    Attributes:
        columns: titles.
        rows: cells.
        marked: rows that are to be seen first.
        wide: whether it needs the whole width; with more than three columns, a phone scrolls it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Sequence[int] = ()
    wide: bool = False


@dataclass(frozen=True)
class ClassTable:
    """Scores by class, in the form of `page.score_table`."""

    columns: Sequence[str]
    rows: Sequence[ClassRow]
    means: Sequence[Cell]


@dataclass(frozen=True)
class Section:
    """One chapter of the page; what is empty is not shown.

    Attributes:
        title: heading.
        text: a sentence or two on what is to be seen.
        points: list of remarks.
        plots: pictures of numbers.
        classes: scores by class.
        tables: other numbers.
        pictures: frames.
    """

    title: str
    text: str = ''
    points: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    classes: ClassTable | None = None
    tables: Sequence[NumberTable] = ()
    pictures: Sequence[Picture] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show but words."""
        return not (self.points or self.plots or self.classes or self.tables or self.pictures)


@dataclass(frozen=True)
class Page:
    """Everything on the page, as plain text that is escaped when it is rendered.

    Attributes:
        title: heading.
        facts: one sentence.
        badges: words about the whole.
        tiles: headline numbers.
        sections: chapters in order.
    """

    title: str
    facts: str
    badges: Sequence[Badge] = ()
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = field(default_factory=tuple)


def render_page(page: Page) -> str:
    """HTML of the page, without any reference to another file."""
    return render(_PAGE.replace('STYLE', STYLE).replace('PARTS', PARTS), page)
