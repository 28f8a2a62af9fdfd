"""`python -m sembox_ros info`: what a model costs, or what a checkpoint file holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sembox_ros.cli.common import parse_size, run_command
from sembox_ros.cli.model_card import model_card
from sembox_ros.config import ModelConfig
from sembox_ros.models.checkpoint import load_with_header
from sembox_ros.models.classifier import published_crop
from sembox_ros.models.profile import ComponentProfile, profile_model
from sembox_ros.models.zoo import CLASSIFIERS, MODELS, find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('model', help=f'a checkpoint file, or one of: {", ".join((*MODELS, *CLASSIFIERS))}')
    parser.add_argument('--size', metavar='HxW', help="size for multiply-adds and shapes, if not the model's own")


def run(options: argparse.Namespace) -> int:
    """Print the tables."""
    size_hw = parse_size(options.size) if options.size else None
    console = Console()
    if options.model.endswith('.safetensors') or Path(options.model).is_file():
        checkpoint, header = load_with_header(options.model)
        console.print(model_card(options.model, checkpoint, header))
        config, own_hw = checkpoint.config, checkpoint.input.size_hw
    else:
        entry = CLASSIFIERS.get(options.model) or find_model(options.model)
        config, own_hw = entry.config, entry.input.size_hw
    if config.image_classes:
        own_hw = (published_crop(config.encoder).side,) * 2
    size_hw = size_hw or own_hw
    parts, folded = (profile_model(config, size_hw, folded=folded) for folded in (False, True))
    console.print(cost_table(config, size_hw, parts, folded))
    return 0


def cost_table(
    config: ModelConfig, size_hw: tuple[int, int], parts: list[ComponentProfile], folded: list[ComponentProfile]
) -> Table:
    """Parameters, multiply-adds and shapes of each part, and the sums before and after folding."""
    finds_boxes = config.box_head or config.instance_channels
    counts = {'image': config.image_classes, 'box': config.detection_classes if finds_boxes else 0}
    classes = next((f'{n} {kind}' for kind, n in counts.items() if n), f'{config.semantic_classes} mask')
    table = Table(title=f'{config.name} at {size_hw[0]}x{size_hw[1]}, {classes} classes')
    table.add_column('component')
    table.add_column('parameters', justify='right')
    table.add_column('multiply-adds (G)', justify='right')
    table.add_column('output shapes')
    for part in parts:
        shapes = '  '.join('x'.join(str(n) for n in shape) for shape in part.outputs)
        table.add_row(part.name, f'{part.parameters:,}', f'{part.multiply_adds / 1e9:.2f}', shapes)
    table.add_section()
    for title, profile in (('total', parts), ('total, folded to run', folded)):
        parameters, multiply_adds = sum(p.parameters for p in profile), sum(p.multiply_adds for p in profile)
        table.add_row(title, f'{parameters:,}', f'{multiply_adds / 1e9:.2f}', '')
    return table


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='info', description=__doc__, add_arguments=add_arguments, run=run)
