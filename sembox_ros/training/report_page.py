"""The page that sums up a training run: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1d2127; --quiet: #66707c; --line: #e3e6ea; --card: #f6f7f9;
  --bar: #4a86c5; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171b; --text: #e4e7eb; --quiet: #98a2ad; --line: #2b3037; --card: #1c2026; --bar: #5b97d6; }
  .curves { filter: invert(.91) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; }
h1 { font-size: clamp(1.3rem, 5.5vw, 1.7rem); line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.quiet, figcaption, th { color: var(--quiet); }
.state { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .7rem;
  font-size: .85rem; color: var(--quiet); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 .75rem; }
.tile { background: var(--card); border-radius: .6rem; padding: .7rem 1rem; }
.tile b { display: block; font-size: 1.8rem; line-height: 1.25; font-weight: 600; }
.tile span { font-size: .85rem; color: var(--quiet); display: block; }
img { display: block; width: 100%; height: auto; border-radius: .4rem; }
.curves { max-width: 50rem; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
th { font-weight: 500; font-size: .85rem; }
th, td { padding: .3rem 0 .3rem .9rem; border-bottom: 1px solid var(--line); text-align: right; width: 22%; }
th:first-child, td:first-child { padding-left: 0; text-align: left; width: auto; overflow-wrap: anywhere; }
tfoot td { font-weight: 600; border-bottom: 0; }
.bar { display: block; height: 4px; border-radius: 2px; background: var(--line); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--bar); }
figure { margin: 0 0 1.25rem; }
.strip { overflow-x: auto; }
.strip img { min-width: 42rem; }
figcaption { font-size: .85rem; margin-top: .25rem; overflow-wrap: anywhere; }
summary { cursor: pointer; font-size: 1.15rem; font-weight: 600; margin: 2.5rem 0 .75rem; }
pre { background: var(--card); border-radius: .6rem; padding: 1rem; overflow-x: auto; font-size: .85rem;
  line-height: 1.45; }
"""

_PAGE = """
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ page.title }}</title>
<style>STYLE</style>
</head>
<body>
<h1>{{ page.title }}</h1>
<p class="facts">{{ page.facts }}</p>
<span class="state">{{ page.state }}</span>
{% if page.tiles %}
<div class="tiles">
{% for tile in page.tiles %}
<div class="tile"><span>{{ tile.title }}</span><b>{{ tile.value }}</b><span>{{ tile.note }}</span></div>
{% endfor %}
</div>
{% endif %}
<p class="quiet grades">{{ page.grades }}</p>
<h2>Curves</h2>
<img class="curves" src="{{ page.curves }}" alt="Losses, learning rate and scores over epochs">
{% if page.classes %}
<h2>Classes</h2>
<p class="quiet">Percent, of the best validation; '-' where there was nothing to measure.</p>
<table>
<thead><tr><th scope="col">class</th>
{%- for name in page.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in page.classes %}
<tr><td>{{ row.name }}</td>
{%- for cell in row.cells %}<td>{{ cell.text }}
{%- if cell.width is not none %}<span class="bar"><i style="width:{{ cell.width }}%"></i></span>{% endif %}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
<tfoot><tr><td>mean</td>{% for cell in page.means %}<td>{{ cell.text }}</td>{% endfor %}</tr></tfoot>
</table>
{% endif %}
{% if page.pictures %}
<h2>Examples</h2>
<p class="quiet">Image, ground truth and prediction, side by side.</p>
{% for picture in page.pictures %}
<figure>
{% if picture.source %}
<div class="strip" tabindex="0"><img src="{{ picture.source }}" alt="{{ picture.caption }}"></div>
{% endif %}
<figcaption>{{ picture.caption }}</figcaption>
</figure>
{% endfor %}
{% if page.pictures_left_out %}
<p class="quiet">{{ page.pictures_left_out }} more in the folder examples.</p>
{% endif %}
{% endif %}
{% if page.config %}
<details>
<summary>Configuration</summary>
<pre>{{ page.config }}</pre>
</details>
{% endif %}
</body>
</html>
"""


@dataclass(frozen=True)
class Tile:
    """One headline number: `value` below `title`, with a `note` in small print."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Cell:
    """One number of the class table; `width` is that of its bar, 0..100, None for no bar."""

    text: str
    width: float | None


@dataclass(frozen=True)
class ClassRow:
    """One class of the table, a cell per column."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Picture:
    """An example; `source` is a data URI, empty if the file could not be read."""

    caption: str
    source: str


@dataclass(frozen=True)
class Page:
    """Everything on the page, as plain text that is escaped when it is rendered.

    Attributes:
        title: of the run.
        facts: one paragraph.
        state: whether the run is finished.
        tiles: headline numbers.
        grades: sentence below them.
        curves: data URI of a picture.
        columns: titles of the class table's columns, without the name.
        classes: rows of the class table.
        means: last row of the class table.
        pictures: examples.
        pictures_left_out: how many more there are.
        config: text of the configuration; empty: none.
    """

    title: str
    facts: str
    state: str
    tiles: Sequence[Tile]
    grades: str
    curves: str
    columns: Sequence[str]
    classes: Sequence[ClassRow]
    means: Sequence[Cell]
    pictures: Sequence[Picture]
    pictures_left_out: int
    config: str


def render_page(page: Page) -> str:
    """HTML of the page, without any reference to another file."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # The style is part of the template: its quotes must not be escaped.
    return environment.from_string(_PAGE.replace('STYLE', _STYLE).lstrip()).render(page=page)
