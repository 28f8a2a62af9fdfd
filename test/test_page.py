from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from jinja2 import UndefinedError
from parsed_page import Parsed, decoded
from PIL import Image

from sembox_ros.page import (
    Cell,
    ClassRow,
    Picture,
    Tile,
    duration,
    embed_picture,
    fixed,
    percent,
    percent_cell,
    render,
    score_table,
    write_page,
)

TEMPLATE = """
{% extends 'layout' %}
{% from 'parts' import picture_list, tile_row %}
{% block body %}<h1>{{ page.title }}</h1>{{ tile_row(page.tiles) }}{{ picture_list(page.pictures) }}{% endblock %}
"""


def test_what_a_page_shows_is_escaped_and_nothing_is_fetched(tmp_path: Path):
    page = SimpleNamespace(
        title='<script>alert(1)</script>\ud800', tiles=[Tile('a<b>', '1', 'c')], pictures=[Picture('"d" & <e>', '')]
    )
    write_page(tmp_path / 'page.html', render(TEMPLATE, page))
    parsed = Parsed(tmp_path / 'page.html')
    assert parsed.of('h1') == '<script>alert(1)</script>?'
    assert parsed.of('tiles') == 'a<b> 1 c'
    assert parsed.of('figcaption') == '"d" & <e>'
    assert 'script' not in parsed.tags
    assert parsed.sources == parsed.references == []
    text = (tmp_path / 'page.html').read_text()
    assert text.startswith('<!doctype html>')
    assert "default-src 'none'; img-src data:" in text


def test_a_value_that_the_page_lacks_is_an_error():
    with pytest.raises(UndefinedError, match='pictures'):
        render(TEMPLATE, SimpleNamespace(title='', tiles=[]))


@pytest.mark.parametrize('value', [None, True, 'x', [], math.nan, math.inf, 10**400])
def test_what_is_no_number_is_a_dash(value: object):
    assert percent(value) == fixed(value, 2) == '-'
    assert percent_cell(value) == Cell('-', None)


@pytest.mark.parametrize(
    ('value', 'text', 'width'), [(0, '0.0', 0), (1, '100.0', 100), (0.12345, '12.3', 12.3), (-0.5, '-50.0', 0)]
)
def test_percent(value: float, text: str, width: float):
    assert percent_cell(value) == Cell(text, width)


@pytest.mark.parametrize(
    ('seconds', 'text'), [(0.4, '0 s'), (59.6, '1 min 0 s'), (125, '2 min 5 s'), (3725, '1 h 2 min')]
)
def test_duration(seconds: float, text: str):
    assert duration(seconds) == text


def test_score_table_has_a_column_for_what_was_measured():
    columns, rows, means = score_table({'miou': 0.5, 'iou_per_class': {'road': 0.5, 'car': None}}, {'ap': 0.1})
    assert columns == ['IoU']
    assert rows == [ClassRow('road', [Cell('50.0', 50.0)]), ClassRow('car', [Cell('-', None)])]
    assert means == [Cell('50.0', 50.0)]
    boxes = {'ap': 0.25, 'ap50': None, 'ap_per_class': {'car': 0.25}, 'ap50_per_class': {'bus': 1.0}}
    columns, rows, means = score_table(None, boxes)
    assert columns == ['AP', 'AP50']
    assert [(row.name, [cell.text for cell in row.cells]) for row in rows] == [
        ('car', ['25.0', '-']), ('bus', ['-', '100.0']),
    ]  # fmt: skip
    assert [cell.text for cell in means] == ['25.0', '-']
    columns, rows, means = score_table(None, boxes, {'pq': 0.5, 'pq_per_class': {'car': 0.5}})
    assert columns == ['AP', 'AP50', 'PQ']
    assert [cell.text for cell in (*rows[0].cells, *means)] == ['25.0', '-', '50.0', '25.0', '-', '50.0']
    assert score_table(None, None) == ([], [], [])


def test_a_picture_is_embedded_at_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(np.full((100, 3200, 3), (200, 40, 40), np.uint8)).save(tmp_path / 'a.png')
    picture = decoded(embed_picture(tmp_path / 'a.png'))
    assert (picture.format, picture.size) == ('JPEG', (1600, 50))
    assert picture.getpixel((800, 25)) == pytest.approx((200, 40, 40), abs=6)
    monkeypatch.setattr('sembox_ros.page.MAX_PICTURE_PIXELS', 100 * 3199)
    assert embed_picture(tmp_path / 'a.png') == ''


def test_a_file_that_is_no_picture_is_left_out(tmp_path: Path):
    assert embed_picture(tmp_path / 'absent.png') == ''
    (tmp_path / 'text.png').write_text('no picture')
    assert embed_picture(tmp_path / 'text.png') == ''
