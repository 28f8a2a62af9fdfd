"""`python -m sembox_ros info`: what a model costs, or what a checkpoint file holds."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sembox_ros.cli.common import parse_size, run_command
from sembox_ros.models.checkpoint import load_checkpoint
from sembox_ros.models.profile import profile_model
from sembox_ros.models.zoo import MODELS, find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('model', help=f'a checkpoint file, or one of: {", ".join(MODELS)}')
    parser.add_argument('--size', default='768x768', metavar='HxW', help='input size for multiply-adds and shapes')


def run(options: argparse.Namespace) -> int:
    """Print the tables."""
    size_hw = parse_size(options.size)
    console = Console(soft_wrap=True)
    if options.model.endswith('.safetensors') or Path(options.model).is_file():
        checkpoint = load_checkpoint(options.model)
        config = checkpoint.config
        console.print(f'{options.model}: {"trained" if checkpoint.trained else "UNTRAINED"} {config.name}')
        for title, values in (
            ('input', dataclasses.asdict(checkpoint.input)),
            ('labels', {'semantic': checkpoint.labels.semantic.name, 'detection': checkpoint.labels.detection.name}),
            ('recipe', checkpoint.recipe),
            ('metrics', checkpoint.metrics),
        ):
            console.print(f'  {title}: ' + (', '.join(f'{k}={v}' for k, v in values.items()) or '-'), highlight=False)
    else:
        config = find_model(options.model).config
    parts = profile_model(config, size_hw)
    table = Table(title=f'{config.name} at {size_hw[0]}x{size_hw[1]}, {config.detection_classes} box classes')
    table.add_column('component')
    table.add_column('parameters', justify='right')
    table.add_column('multiply-adds (G)', justify='right')
    table.add_column('output shapes')
    for part in parts:
        shapes = '  '.join('x'.join(str(n) for n in shape) for shape in part.outputs)
        table.add_row(part.name, f'{part.parameters:,}', f'{part.multiply_adds / 1e9:.2f}', shapes)
    table.add_section()
    parameters, multiply_adds = sum(p.parameters for p in parts), sum(p.multiply_adds for p in parts)
    table.add_row('total', f'{parameters:,}', f'{multiply_adds / 1e9:.2f}', '')
    console.print(table)
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='info', description=__doc__, add_arguments=add_arguments, run=run)
