"""`python -m sembox_ros verify-import`: proof that an imported network is the same function as the original."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import nn

from sembox_ros.cli.common import run_command
from sembox_ros.errors import ConfigError
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.folding import fold
from sembox_ros.models.importers.verification import Report, read_golden, verify_golden


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('golden', nargs='+', type=Path, help='reference outputs of the original network (.npz)')
    parser.add_argument('--tolerance', type=float, default=1e-3, help='largest absolute difference that passes')
    parser.add_argument('--fold', action='store_true', help='compare the folded network')
    parser.add_argument('--through-file', action='store_true', help='save as .safetensors and load before comparing')


def run(options: argparse.Namespace) -> int:
    """Print a table for each file; 1 if any difference is above the tolerance."""
    if not options.tolerance > 0:
        raise ConfigError(f'tolerance: expected a positive number, got {options.tolerance}')
    passed = True
    for path in options.golden:
        golden = read_golden(path)
        report = verify_golden(golden, _transform(fold_model=options.fold, through_file=options.through_file))
        steps = ''.join(
            text for text, on in ((', through a file', options.through_file), (', folded', options.fold)) if on
        )
        print_report(report, title=f'{path.name}: {golden.source}{steps}', tolerance=options.tolerance)
        passed = passed and report.largest <= options.tolerance
    return 0 if passed else 1


def _transform(*, fold_model: bool, through_file: bool) -> Callable[[Checkpoint], nn.Module]:
    """What happens to the network between the import and the comparison."""

    def transform(checkpoint: Checkpoint) -> nn.Module:
        if through_file:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / 'imported.safetensors'
                save_checkpoint(checkpoint, file)
                checkpoint = load_checkpoint(file)
        return fold(checkpoint.model) if fold_model else checkpoint.model

    return transform


def print_report(report: Report, *, title: str, tolerance: float) -> None:
    """Print the table and the verdict."""
    table = Table(title=title)
    table.add_column('tensor')
    table.add_column('shape', justify='right')
    table.add_column('max absolute', justify='right')
    table.add_column('max relative', justify='right')
    table.add_column('')
    for name, shape, absolute, relative in report.differences:
        passed = absolute <= tolerance
        table.add_row(
            f'{name} (share that differs)' if name == 'sem_argmax' else name,
            'x'.join(str(n) for n in shape),
            f'{absolute:.1e}',
            f'{relative:.1e}',
            'ok' if passed else 'ABOVE',
            style=None if passed else 'red',
        )
    console = Console(soft_wrap=True, width=None)
    console.print(table)
    if report.skipped:
        console.print(f'not compared, the network has no such tensor: {", ".join(report.skipped)}', highlight=False)
    verdict = 'equal' if report.largest <= tolerance else 'DIFFERENT'
    console.print(
        f'{verdict}: largest absolute difference {report.largest:.1e}, tolerance {tolerance:.1e}', highlight=False
    )


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='verify-import', description=__doc__, add_arguments=add_arguments, run=run)
