"""What our HTML pages share: one file that needs nothing but itself, in light and dark, on paper and on a phone."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from PIL import Image

from sembox_ros.atomic import write_whole
from sembox_ros.errors import DatasetError

PICTURE_SIDE = 1600  # pixels
PICTURE_QUALITY = 82
MAX_PICTURE_PIXELS = 64_000_000

_LAYOUT = """
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ page.title }}</title>
<style>
:root { color-scheme: light dark; --ground: #fff; --text: #1d2127; --quiet: #66707c; --line: #e3e6ea; --card: #f6f7f9;
  --bar: #4a86c5; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171b; --text: #e4e7eb; --quiet: #98a2ad; --line: #2b3037; --card: #1c2026; --bar: #5b97d6; }
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
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
th { font-weight: 500; font-size: .85rem; }
th, td { padding: .3rem 0 .3rem .9rem; border-bottom: 1px solid var(--line); text-align: right; width: 16%; }
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
{% block style %}{% endblock %}
</style>
</head>
<body>
{% block body %}{% endblock %}
</body>
</html>
"""

_PARTS = """
{% macro tile_row(tiles) %}
{% if tiles %}
<div class="tiles">
{% for tile in tiles %}
<div class="tile"><span>{{ tile.title }}</span><b>{{ tile.value }}</b><span>{{ tile.note }}</span></div>
{% endfor %}
</div>
{% endif %}
{% endmacro %}

{% macro class_table(columns, rows, means) %}
<table>
<thead><tr><th scope="col">class</th>
{%- for name in columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr><td>{{ row.name }}</td>
{%- for cell in row.cells %}<td>{{ cell.text }}
{%- if cell.width is not none %}<span class="bar"><i style="width:{{ cell.width }}%"></i></span>{% endif %}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
<tfoot><tr><td>mean</td>{% for cell in means %}<td>{{ cell.text }}</td>{% endfor %}</tr></tfoot>
</table>
{% endmacro %}

{% macro picture_list(pictures) %}
{% for picture in pictures %}
<figure>
{% if picture.source %}
<div class="strip" tabindex="0"><img src="{{ picture.source }}" alt="{{ picture.caption }}"></div>
{% endif %}
<figcaption>{{ picture.caption }}</figcaption>
</figure>
{% endfor %}
{% endmacro %}
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
    cells: list[Cell]


@dataclass(frozen=True)
class Picture:
    """A picture; `source` is a data URI, empty if the file could not be read."""

    caption: str
    source: str


def render(template: str, page: object) -> str:
    """HTML of a page, without any reference to another file and forbidden to make one.

    Args:
        template: Jinja text that extends 'layout', whose blocks are `style` and `body`; it may import the macros
            `tile_row`, `class_table` and `picture_list` from 'parts'.
        page: what the template shows, as `page`; it needs a `title`. All text in it is escaped.
    """
    texts = {'layout': _LAYOUT.lstrip(), 'parts': _PARTS, 'page': template.lstrip()}
    environment = Environment(
        loader=DictLoader(texts), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template('page').render(page=page)


def write_page(path: Path, html: str) -> None:
    """Write a page, wholly or not at all.

    Raises:
        DatasetError: it cannot be written.
    """
    # Names of files and text from JSON may hold half characters (lone surrogates), which UTF-8 cannot.
    write_whole(path, html.encode(errors='replace'), DatasetError)


def finite(value: Any) -> float:
    """The value as a finite float, NaN if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:  # an int beyond the range of float
        return math.nan


def percent(value: Any) -> str:
    """A share 0..1 in percent with one decimal, without the sign; '-' for what is no number."""
    number = finite(value)
    return '-' if math.isnan(number) else f'{100 * number:.1f}'


def fixed(value: Any, decimals: int) -> str:
    """A number with so many decimals; '-' for what is no number."""
    number = finite(value)
    return '-' if math.isnan(number) else f'{number:.{decimals}f}'


def duration(seconds: float) -> str:
    """Two units at most, such as '3 h 12 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours:,} h {minutes} min'
    return f'{minutes} min {rest} s' if minutes else f'{rest} s'


def percent_cell(value: Any) -> Cell:
    """A share 0..1 as a cell with a bar; '-' and no bar for what is no number."""
    number = finite(value)
    width = None if math.isnan(number) else round(100 * min(max(number, 0.0), 1.0), 1)
    return Cell(percent(number), width)


def score_table(
    semantic: Mapping[str, Any] | None, boxes: Mapping[str, Any] | None, panoptic: Mapping[str, Any] | None = None
) -> tuple[list[str], list[ClassRow], list[Cell]]:
    """Scores by class in the form of the macro `class_table`; columns without any class are left out.

    Args:
        semantic: `SemanticScores.to_dict`, or as much of it as there is.
        boxes: `BoxScores.to_dict`, likewise.
        panoptic: `PanopticScores.to_dict`, likewise.

    Returns:
        Titles of the columns without the name, a row for each class, the row of means.
    """
    sources = (
        ('IoU', semantic or {}, 'iou_per_class', 'miou'),
        ('AP', boxes or {}, 'ap_per_class', 'ap'),
        ('AP50', boxes or {}, 'ap50_per_class', 'ap50'),
        ('PQ', panoptic or {}, 'pq_per_class', 'pq'),
    )
    columns = {title: scores[per_class] for title, scores, per_class, _ in sources if scores.get(per_class)}
    means = [percent_cell(scores.get(mean)) for title, scores, _, mean in sources if title in columns]
    names = dict.fromkeys(name for values in columns.values() for name in values)
    rows = [ClassRow(name, [percent_cell(values.get(name)) for values in columns.values()]) for name in names]
    return list(columns), rows, means


def data_uri(kind: str, data: bytes) -> str:
    """The data as an address that holds it; `kind` is its media type."""
    return f'data:{kind};base64,{base64.b64encode(data).decode("ascii")}'


def embed_picture(path: Path) -> str:
    """An image file as data URI of a JPEG of at most `PICTURE_SIDE` pixels a side; empty if it cannot be read."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                return ''
            picture = image.convert('RGB')
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # Pillow's, for damaged files
        return ''
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, format='JPEG', quality=PICTURE_QUALITY, optimize=True)
    return data_uri('image/jpeg', data.getvalue())
