"""`python -m sembox_ros list-models`: every network by name, what it costs, and what its publisher says of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from sembox_ros.cli.common import parse_size, run_command
from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.models.profile import profile_model
from sembox_ros.models.published import PUBLISHED, SOURCES, Published
from sembox_ros.models.zoo import MODELS

WIDEST = 1000  # columns of a table that nobody's terminal limits


@dataclass(frozen=True)
class Row:
    """One network at one size, for one number of classes.

    Attributes:
        config: the network.
        size_hw: of its input.
        published: what is published for just that; None: nothing.
    """

    config: ModelConfig
    size_hw: tuple[int, int]
    published: Published | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        '--size', metavar='HxW',
        help='size of all inputs; otherwise that of each published result, or the own one of a model without any',
    )  # fmt: skip
    parser.add_argument('--filter', metavar='TEXT', default='', help='only names, encoders and decoders with this text')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    rows = list(choose_rows(options.filter, parse_size(options.size) if options.size else None))
    if not rows:
        raise ConfigError(f"filter: expected a part of a name, encoder or decoder, none has '{options.filter}'")
    progress = Console(stderr=True)
    shown = track(rows, 'counting', console=progress, transient=True, disable=not progress.is_terminal)
    records = [describe(row) for row in shown]
    if options.json:
        print(json.dumps(records, indent=1))
    else:
        print_table(records)
    return 0


def choose_rows(text: str, size_hw: tuple[int, int] | None) -> Iterator[Row]:
    """The zoo's networks in its order: a row for each published result, one for a network without.

    Args:
        text: that name, encoder or decoder must have; upper and lower case count alike.
        size_hw: the only size, with what is published for it; None: the sizes that were published, or the own one.
    """
    for name, entry in MODELS.items():
        config = entry.config
        if not any(text.lower() in word.lower() for word in (name, config.encoder, config.decoder)):
            continue
        found = [row for row in PUBLISHED if row.model == name and size_hw in (None, row.size_hw)]
        for published in found:
            counted = dataclasses.replace(config, semantic_classes=published.classes)
            yield Row(counted, published.size_hw, published)
        if not found:
            yield Row(config, size_hw or entry.input.size_hw, None)


def describe(row: Row) -> dict[str, Any]:
    """What there is to know about a row, as JSON; counts what the network costs.

    Raises:
        InputError: the size does not fit the network.
    """
    config, parts = row.config, profile_model(row.config, row.size_hw)
    return {
        'model': config.name,
        'encoder': config.encoder,
        'decoder': config.decoder,
        'inputs': config.inputs,
        'tasks': config.tasks,
        'size_hw': row.size_hw,
        'classes': config.semantic_classes,
        'parameters': sum(part.parameters for part in parts),
        'multiply_adds': sum(part.multiply_adds for part in parts),
        'published': None if row.published is None else dataclasses.asdict(row.published),
    }


def print_table(records: Iterable[dict[str, Any]]) -> None:
    """Print a line for each record, and notes below; as wide as need be where no terminal shows it."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    numbers = ('classes', 'M params', 'G MACs', 'published')
    for title in ('model', 'encoder', 'decoder', 'size', *numbers, 'mIoU (%)', 'dataset', 'source'):
        table.add_column(title, justify='right' if title in numbers else 'left', overflow='fold')
    notes, last = [], ''
    for record in records:
        published: dict[str, Any] = record['published'] or {}
        name, last = ('' if record['model'] == last else record['model']), record['model']
        macs = published.get('giga_macs')
        table.add_row(
            *((name, record['encoder'], record['decoder'] or 'BiFPN') if name else ('', '', '')),
            'x'.join(map(str, record['size_hw'])),
            str(record['classes'] or '-'),
            f'{record["parameters"] / 1e6:.2f}',
            f'{record["multiply_adds"] / 1e9:.2f}',
            '-' if macs is None else f'{macs:.2f}',
            _scores(published),
            published.get('dataset', '-'),
            published.get('source', '-'),
        )
        notes += _notes(published)
    console = Console()
    if not console.is_terminal:
        console.width = WIDEST
    console.print(table)
    if notes:
        console.print()
    for note in dict.fromkeys(notes):
        console.print(note, highlight=False)


def _scores(published: dict[str, Any]) -> str:
    """The mIoU, and what else there is with its name."""
    scores = ((title, published.get(name)) for name, title in (('miou', ''), ('miou_qat', 'QAT '), ('dice', 'Dice ')))
    return ', '.join(f'{title}{score:.2f}' for title, score in scores if score is not None) or '-'


def _notes(published: dict[str, Any]) -> list[str]:
    """What a line has no room for."""
    notes = [f'{published["source"]}: {SOURCES[published["source"]]}'] if published else []
    if published.get('parameters'):
        twice = published['counted_twice']
        counted = f', {twice:,} of them counted twice' if twice else ''
        notes.append(f'{published["model"]}: published with {published["parameters"]:,} parameters{counted}')
    return notes


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='list-models', description=__doc__, add_arguments=add_arguments, run=run)
