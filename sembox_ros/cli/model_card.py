"""What a checkpoint says of itself, as a table; every text in it comes from a file and is shown as plain text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.checkpoint_file import FileHeader, printable
from sembox_ros.models.classifier import published_crop
from sembox_ros.postprocess.scene import parts_of

MAX_ENTRIES = 24  # of the recipe or the metrics
MAX_VALUE = 160  # characters of one of their values


def model_card(path: str | Path, checkpoint: Checkpoint, header: FileHeader) -> Table:
    """A two-column table: what it is, what it was made for, how it was checked."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style='bold', no_wrap=True)
    table.add_column(overflow='fold')
    for title, value in (
        ('file', f'{path} ({header.file_bytes / 1e6:.1f} MB)'),
        *_model_rows(checkpoint, header),
        *(_category_rows(checkpoint) if checkpoint.categories else _scene_rows(checkpoint)),
        *_free_rows('metric', checkpoint.metrics),
        *_free_rows('recipe', checkpoint.recipe),
        ('format', f'version {header.metadata["format_version"]}'),
        ('sha256', f'{header.metadata["sha256"]}'),
    ):
        table.add_row(Text(printable(title, limit=40)), Text(printable(value)))
    return table


def _model_rows(checkpoint: Checkpoint, header: FileHeader) -> Iterator[tuple[str, str]]:
    config = checkpoint.config
    state = 'trained' if checkpoint.trained else 'UNTRAINED'
    yield 'model', f'{state} {config.name} (encoder {config.encoder})'
    if not checkpoint.trained:
        yield '', 'its weights are random: what it finds means nothing'
    formats = Counter(entry.dtype for entry in header.tensors.values())
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    kinds = ', '.join(f'{count} {name}' for name, count in sorted(formats.items()))
    yield 'weights', f'{parameters:,} parameters; tensors: {kinds}'


def _scene_rows(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    yield from _label_rows(checkpoint.labels, parts_of(checkpoint.config, checkpoint.labels))
    yield from _input_rows(checkpoint)


def _category_rows(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """Of a network that names whole images."""
    names, crop = checkpoint.categories, published_crop(checkpoint.config.encoder)
    yield 'images', f'{len(names)} categories ({", ".join(names[:6])}{", …" * (len(names) > 6)})'
    yield 'input', f'the middle {crop.side}x{crop.side} after scaling the shorter side to {crop.shorter_side}, bicubic'
    yield '', f'{checkpoint.input.channel_order} channels'
    yield from _normalisation_rows(checkpoint)


def _label_rows(labels: SceneLabels, parts: frozenset[str]) -> Iterator[tuple[str, str]]:
    yield 'masks', _describe(labels.semantic) if labels.semantic else 'none'
    yield 'boxes', _describe(labels.detection) if 'detections' in parts else 'none'
    for part, words in (('depth', 'in metres'), ('motion', 'what moves in the world')):
        if part in parts:
            yield part, words
    if 'instances' in parts and labels.semantic:
        names = labels.semantic.names
        linked = (f'{labels.detection.names[d]} = {names[s]}' for d, s in labels.thing_links.items())
        yield 'box = mask', ', '.join(linked) or '-'


def _describe(labels: LabelSet) -> str:
    """Name, size and the first few names of a set."""
    first = ', '.join(labels.names[:6])
    return f'{labels.name}: {len(labels)} classes, {sum(labels.is_thing)} things ({first}{", …" * (len(labels) > 6)})'


def _input_rows(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    shape = checkpoint.input
    yield 'inputs', ' and '.join(checkpoint.config.inputs)
    yield 'input', f'{shape.size_hw[0]}x{shape.size_hw[1]} (HxW), {shape.resize}, {shape.channel_order} channels'
    yield from _normalisation_rows(checkpoint)
    yield 'mask covers', f'the {shape.semantic_extent}'


def _normalisation_rows(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    shape = checkpoint.input
    yield 'mean, std', f'{_numbers(shape.mean)} and {_numbers(shape.std)}, of values scaled to 0..1'


def _numbers(values: tuple[float, ...]) -> str:
    return ' '.join(f'{value:.6g}' for value in values)


def _free_rows(title: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Entries of free form, as many as fit."""
    if not values:
        yield title, '-'
    for index, (name, value) in enumerate(values.items()):
        if index == MAX_ENTRIES:
            yield '', f'and {len(values) - MAX_ENTRIES} more'
            break
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield title if index == 0 else '', f'{printable(name, limit=60)}: {printable(text, limit=MAX_VALUE)}'
