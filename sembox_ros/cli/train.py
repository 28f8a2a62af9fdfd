"""`python -m sembox_ros train`: train a network from a configuration file; resumable, on one process or many."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from sembox_ros.cli.common import run_command
from sembox_ros.training.config import load_train_config
from sembox_ros.training.trainer import Trainer

EPILOG = """\
The configuration names what differs from the defaults; docs/training.md lists everything. Examples:

  python -m sembox_ros train config/train/sembox_b1_cityscapes.yaml data.root=/data/cityscapes
  python -m sembox_ros train config/train/sembox_b1_streets.yaml data.root=streets epochs=20 optimizer.lr=5e-4
  torchrun --nproc-per-node 4 -m sembox_ros train config/train/sembox_b1_cityscapes.yaml data.root=/data/cityscapes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument('config', type=Path, help='YAML file, such as those in config/train')
    parser.add_argument('override', nargs='*', help='key=value for any setting; dots lead into sections')
    parser.add_argument('--resume', action='store_true', help='go on with the run that was stopped or killed')
    parser.add_argument(
        '--dry-run', action='store_true', help='two steps of everything, in a folder that is deleted afterwards'
    )


def run(options: argparse.Namespace) -> int:
    """Train; 130 if a signal ended it early, everything being saved."""
    config = load_train_config(options.config, options.override)
    if not options.dry_run:
        return 0 if Trainer(config, resume=options.resume).run() else 130
    with tempfile.TemporaryDirectory(prefix='sembox_dry_run_') as folder:
        finished = Trainer(dataclasses.replace(config, out=folder), dry_run=True).run()
    if finished:
        print('dry run: two steps, a validation, all files and the summary were fine')
    return 0 if finished else 130


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='train', description=__doc__, add_arguments=add_arguments, run=run)
