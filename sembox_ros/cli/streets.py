"""`python -m sembox_ros streets`: rendered streets with exact labels, as a dataset in the Cityscapes layout."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from sembox_ros.cli.common import parse_size, run_command
from sembox_ros.data.streets.dataset import StreetSettings, missing_images, open_folder, write_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('--out', type=Path, required=True, help='folder of the dataset: new, empty, or one to go on')
    parser.add_argument('--train', type=int, default=1000, metavar='N', help='images in the split train')
    parser.add_argument('--val', type=int, default=100, metavar='N', help='images in the split val')
    parser.add_argument('--size', default='512x1024', metavar='HxW', help='image size')
    parser.add_argument('--seed', type=int, default=0, help='which dataset; other seeds share no street with it')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='processes that render')


def run(options: argparse.Namespace) -> int:
    """Write what is missing."""
    settings = StreetSettings(seed=options.seed, size_hw=parse_size(options.size))
    counts = {'train': options.train, 'val': options.val}
    jobs = missing_images(options.out, counts)
    open_folder(options.out, settings)
    there = sum(counts.values()) - len(jobs)
    progress = tqdm(total=there + len(jobs), initial=there, desc='streets', unit='image', disable=None)
    with progress, closing(write_images(options.out, settings, jobs, workers=options.workers)) as written:
        for _ in written:
            progress.update()
    print(f'{options.train} train and {options.val} val images in {options.out} ({len(jobs)} new)')
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='streets', description=__doc__, add_arguments=add_arguments, run=run)
