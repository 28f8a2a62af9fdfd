"""What a training run came to, as one page: summary.html and curves.png from the files in its folder."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.page import (
    Picture,
    Tile,
    data_uri,
    duration,
    embed_picture,
    finite,
    percent,
    score_table,
    write_page,
)
from sembox_ros.training.report_curves import SCORES, draw_curves
from sembox_ros.training.report_page import Page, render_page

PICTURES_BYTES = 4_500_000  # of all examples together, as text
MAX_JSON_BYTES = 16_000_000
MAX_CONFIG_CHARACTERS = 200_000
# Headline numbers of each part of a validation, their names and titles.
TILES = {
    'semantic': {'miou': 'mIoU', 'pixel_accuracy': 'pixel accuracy'},
    'boxes': {'ap': 'AP', 'ap50': 'AP50'},
    'panoptic': {'pq': 'PQ', 'pq_things': 'PQ of things', 'pq_stuff': 'PQ of stuff'},
    'depth': {'abs_rel': 'relative error of depth', 'rmse_m': 'RMSE of depth', 'delta1': 'depth within 1.25 times'},
    'motion': {'moving_iou': 'IoU of what moves', 'motion_miou': 'mIoU of motion'},
}
METRES = frozenset({'rmse_m'})  # the others are shares
GRADES = {'ap75': 'AP75', 'ap_small': 'AP small', 'ap_medium': 'AP medium', 'ap_large': 'AP large'}
# Scores by class: the part of a validation that has them, their name.
PER_CLASS = (
    ('semantic', 'iou_per_class'), ('boxes', 'ap_per_class'), ('boxes', 'ap50_per_class'), ('panoptic', 'pq_per_class'),
)  # fmt: skip

Row = dict[str, float]


def write_summary(folder: Path) -> Path:
    """Write `summary.html` and `curves.png` into the folder of a run, which may still be going on.

    Args:
        folder: with `history.jsonl` and, as far as they are there, `metrics.json`, `config.yaml`, `examples/*.png`.

    Returns:
        The path of `summary.html`, which needs no other file.

    Raises:
        ConfigError: no history, so this is not the folder of a run.
        DatasetError: `metrics.json` is not what a run writes.
    """
    folder = Path(folder)
    train, val = read_history(folder / 'history.jsonl')
    metrics = read_metrics(folder / 'metrics.json')
    best = _section(metrics, 'best') or _as_grades(max(val, key=_rank, default={}))
    last = _section(metrics, 'last') or _as_grades(val[-1] if val else {})
    picture = io.BytesIO()
    draw_curves(train, val, finite(best.get('step'))).savefig(picture, format='png')
    (folder / 'curves.png').write_bytes(picture.getvalue())
    pictures, left_out = _examples(folder / 'examples')
    columns, classes, means = score_table(*(_section(best, part) for part in ('semantic', 'boxes', 'panoptic')))
    page = Page(
        title=str(metrics.get('name') or folder.resolve().name),
        facts=_facts(metrics, train, val),
        state=_state(metrics, train, val),
        tiles=_tiles(best, last),
        grades=_grades(best, bool(_section(metrics, 'best'))),
        curves=data_uri('image/png', picture.getvalue()),
        columns=columns,
        classes=classes,
        means=means,
        pictures=pictures,
        pictures_left_out=left_out,
        config=_config(folder / 'config.yaml'),
    )
    path = folder / 'summary.html'
    write_page(path, render_page(page))
    return path


def read_history(path: Path) -> tuple[list[Row], list[Row]]:
    """Read the numbers that a run has logged.

    Args:
        path: one JSON object per line. Lines that are none are left out: a killed run leaves half a line.

    Returns:
        Records of training and of validation in the order of the file, name -> number, NaN for what is none; each has
        a finite `step` and `epoch`.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(
            f'folder: expected the folder of a training run with {path.name}, found none in {path.parent}; '
            'give the folder that training printed, such as runs/<name>'
        )
    records: dict[str, list[Row]] = {'train': [], 'val': []}
    with path.open(encoding='utf-8', errors='replace') as file:
        for line in file:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(record, dict) or record.get('kind') not in ('train', 'val'):
                continue
            row = {name: finite(value) for name, value in record.items() if name != 'kind'}
            if math.isfinite(row.get('step', math.nan)) and math.isfinite(row.get('epoch', math.nan)):
                records[record['kind']].append(row)
    return records['train'], records['val']


def read_metrics(path: Path) -> dict[str, Any]:
    """Read what a run wrote at its end; empty if it has not come that far.

    Raises:
        DatasetError: not a JSON object with objects (or null) in `best`, `last` and their parts.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_JSON_BYTES:
        raise DatasetError(f'{path}: expected at most {MAX_JSON_BYTES} bytes, got {path.stat().st_size}')
    try:
        metrics = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'{path}: not JSON ({error}); delete it for a summary without it') from error
    try:
        if not isinstance(metrics, dict):
            raise TypeError(f'expected an object, got {type(metrics).__name__}')
        for grades in (_section(metrics, 'best'), _section(metrics, 'last')):
            for part, per_class in PER_CLASS:
                _section(_section(grades, part), per_class)
    except TypeError as error:
        raise DatasetError(f'{path}: {error}; delete it for a summary without it') from error
    return metrics


def _section(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of that name, empty if it is absent or null; TypeError if it is something else."""
    value = record.get(name)
    if value is not None and not isinstance(value, dict):
        raise TypeError(f'{name}: expected an object or null, got {type(value).__name__}')
    return value or {}


def _rank(row: Row) -> float:
    """What training compares by as long as nothing else is configured: mIoU + AP."""
    return sum(value for name in ('miou', 'ap') if math.isfinite(value := row.get(name, math.nan)))


def _as_grades(row: Row) -> dict[str, Any]:
    """A validation of the history in the form that `metrics.json` has, as far as it goes."""
    grades = {part: {name: row[name] for name in titles if name in row} for part, titles in TILES.items()}
    return {'step': row['step'], 'epoch': row['epoch'], **grades} if row else {}


def _facts(metrics: Mapping[str, Any], train: Sequence[Row], val: Sequence[Row]) -> str:
    """Model, data, length and speed in a sentence; what is not known is left out."""
    parameters, images, graded = (finite(metrics.get(n)) for n in ('parameters', 'images_train', 'images_val'))
    latest: Row = max((rows[-1] for rows in (train, val) if rows), key=lambda row: row['step'], default={})
    epochs = finite(metrics.get('epochs', latest.get('epoch')))
    steps = finite(metrics.get('steps', latest.get('step')))
    seconds, speed = finite(metrics.get('seconds')), finite(metrics.get('images_per_s'))
    if math.isnan(speed) and train:
        speed = train[-1].get('images_per_s', math.nan)
    counts = [f'{images:,.0f} images'] if images >= 0 else []
    counts += [f'{graded:,.0f} for validation'] if graded >= 0 else []  # NaN, which is what is not known, is never >= 0
    parts = []
    if metrics.get('model'):
        size = f' with {_count(parameters)} parameters' if parameters >= 0 else ''
        parts.append(f'Model {metrics["model"]}{size}')
    if metrics.get('dataset'):
        parts.append(f'dataset {metrics["dataset"]}' + (f' ({", ".join(counts)})' if counts else ''))
    if epochs >= 0:
        parts.append(f'{epochs:.4g} epochs' + (f' ({steps:,.0f} steps)' if steps >= 0 else ''))
    if seconds >= 0:
        parts.append(duration(seconds))
    if speed >= 0:
        parts.append(f'{speed:.3g} images/s')
    return f'{", ".join(parts)}.' if parts else 'Nothing is logged yet.'


def _state(metrics: Mapping[str, Any], train: Sequence[Row], val: Sequence[Row]) -> str:
    logged = max((row['step'] for row in (*train[-1:], *val[-1:])), default=0.0)
    if not metrics or logged > finite(metrics.get('steps')):
        return 'unfinished: going on, or killed'
    return 'interrupted' if metrics.get('interrupted') else 'finished'


def _count(number: float) -> str:
    return f'{number / 1e6:.1f} million' if number >= 1e6 else f'{number:,.0f}'


def _score(grades: Mapping[str, Any], name: str) -> float:
    """A number of any part; their names differ."""
    return finite(next((part[name] for part in map(partial(_section, grades), TILES) if name in part), None))


def _value(grades: Mapping[str, Any], name: str) -> str:
    score = _score(grades, name)
    if name in METRES:
        return f'{score:.2f} m' if math.isfinite(score) else '-'
    return percent(score)


def _tiles(best: Mapping[str, Any], last: Mapping[str, Any]) -> list[Tile]:
    """The best validation's numbers with the last one's below; none before the first validation."""
    return [
        Tile(title, _value(best, name), f'last {_value(last, name)}')
        for part, titles in TILES.items() if _section(best, part) for name, title in titles.items()
    ]  # fmt: skip


def _grades(best: Mapping[str, Any], is_chosen: bool) -> str:
    """Which validation the numbers are of, and the finer ones."""
    if not best:
        return 'No validation yet.'
    rule = 'Percent, best validation' if is_chosen else f'Percent, best validation so far by {SCORES["miou"]} + AP'
    epoch, step = finite(best.get('epoch')), finite(best.get('step'))
    places = [f'epoch {epoch:.4g}'] if epoch >= 0 else []
    places += [f'step {step:,.0f}'] if step >= 0 else []
    text = f'{rule}: {", ".join(places)}.' if places else f'{rule}.'
    finer = [f'{title} {percent(_score(best, n))}' for n, title in GRADES.items() if n in _section(best, 'boxes')]
    return f'{text} {", ".join(finer)}.' if finer else text


def _examples(folder: Path) -> tuple[list[Picture], int]:
    """Pictures in the order of their names until they weigh too much; and how many are left."""
    pictures: list[Picture] = []
    files = sorted(folder.glob('*.png'))
    weight = 0
    for index, file in enumerate(files):
        source = embed_picture(file)
        if not source:
            pictures.append(Picture(f'{file.name}: cannot be read', ''))
            continue
        weight += len(source)
        if weight > PICTURES_BYTES:
            return pictures, len(files) - index
        pictures.append(Picture(file.name, source))
    return pictures, 0


def _config(path: Path) -> str:
    """Text of the configuration, empty if there is none."""
    if not path.is_file():
        return ''
    with path.open(encoding='utf-8', errors='replace') as file:
        return file.read(MAX_CONFIG_CHARACTERS)
