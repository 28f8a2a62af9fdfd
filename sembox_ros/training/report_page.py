"""The page that sums up a training run: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sembox_ros.page import Cell, ClassRow, Picture, Tile, render

_PAGE = """
{% extends 'layout' %}
{% from 'parts' import class_table, picture_list, tile_row %}
{% block style %}
.curves { max-width: 50rem; margin: 0 auto; }
@media (prefers-color-scheme: dark) { .curves { filter: invert(.91) hue-rotate(180deg); } }
{% endblock %}
{% block body %}
<h1>{{ page.title }}</h1>
<p class="facts">{{ page.facts }}</p>
<span class="state">{{ page.state }}</span>
{{ tile_row(page.tiles) }}
<p class="quiet grades">{{ page.grades }}</p>
<h2>Curves</h2>
<img class="curves" src="{{ page.curves }}" alt="Losses, learning rate and scores over epochs">
{% if page.classes %}
<h2>Classes</h2>
<p class="quiet">Percent, of the best validation; '-' where there was nothing to measure.</p>
{{ class_table(page.columns, page.classes, page.means) }}
{% endif %}
{% if page.pictures %}
<h2>Examples</h2>
<p class="quiet">Image, ground truth and prediction, side by side.</p>
{{ picture_list(page.pictures) }}
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
{% endblock %}
"""


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
    return render(_PAGE, page)
