"""`python -m sembox_ros params`: print the node's parameters as a YAML file with comments."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from sembox_ros.cli.common import run_command
from sembox_ros.config import NodeConfig
from sembox_ros.errors import ConfigError


def render_params() -> str:
    """The text of config/sembox_node.yaml, made from `NodeConfig`."""
    lines = [
        '# Parameters of the node sembox, with their defaults. Made by `python -m sembox_ros params`.',
        '# Those marked (live) can be changed while the node runs: ros2 param set /sembox score_threshold 0.6',
        '/**:',
        '  ros__parameters:',
    ]
    for field in dataclasses.fields(NodeConfig):
        limits = field.metadata
        live = ' (live)' if limits['dynamic'] else ''
        lines.append(f'    # {limits["description"]}{live}')
        if limits['choices']:
            lines.append(f'    # one of: {", ".join(limits["choices"])}')
        elif limits['minimum'] is not None:
            lines.append(f'    # range: {limits["minimum"]} to {limits["maximum"]}')
        lines.append(f'    {field.name}: {json.dumps(field.default)}')
    return '\n'.join(lines) + '\n'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('--out', type=Path, help='write this file instead of standard output')


def run(options: argparse.Namespace) -> int:
    """Print or write the file."""
    if options.out is None:
        sys.stdout.write(render_params())
        return 0
    try:
        options.out.write_text(render_params())
    except OSError as error:
        raise ConfigError(f'--out: {options.out} cannot be written: {error.strerror}') from error
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='params', description=__doc__, add_arguments=add_arguments, run=run)
