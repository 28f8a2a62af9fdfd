"""`python -m sembox_ros export-dataset`: a dataset's objects and segments as COCO json files for other projects."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from sembox_ros.cli.common import run_command
from sembox_ros.data.cityscapes import SPLITS
from sembox_ros.data.datasets import DATASETS, load_dataset
from sembox_ros.data.export import write_coco, write_panoptic
from sembox_ros.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('--dataset', choices=tuple(DATASETS), default='cityscapes', help='what kind of dataset it is')
    parser.add_argument('--root', type=Path, required=True, help='its folder')
    parser.add_argument('--split', default='val', help='part of it')
    parser.add_argument('--limit', type=int, default=0, help='only the first so many images; 0: all')
    parser.add_argument('--coco', type=Path, metavar='FILE', help='write the objects to this COCO instances json')
    parser.add_argument(
        '--panoptic',
        type=Path,
        metavar='FOLDER',
        help='write COCO panoptic PNG files and their json here, for Cityscapes as its createPanopticImgs names them',
    )
    parser.add_argument(
        '--use-train-id', action='store_true', help="panoptic: class ids as category ids, not the dataset's own numbers"
    )


def run(options: argparse.Namespace) -> int:
    """Write what was asked for."""
    if options.coco is None and options.panoptic is None:
        raise ConfigError('expected --coco FILE or --panoptic FOLDER, or both')
    parameters = inspect.signature(DATASETS[options.dataset]).parameters
    wanted = {'root': options.root, 'split': options.split, 'limit': options.limit, 'with_instances': True}
    dataset = load_dataset(options.dataset, {name: value for name, value in wanted.items() if name in parameters})
    cityscapes = options.dataset == 'cityscapes'
    if options.coco is not None:
        if cityscapes:
            write_coco(dataset, options.coco, image_name=lambda i: f'{i.split("_")[0]}/{i}_leftImg8bit.png')
        else:
            write_coco(dataset, options.coco)
        print(f'{options.coco}: objects of {len(dataset)} images')
    if options.panoptic is not None:
        name = f'{options.dataset}_panoptic_{options.split}{"_trainId" if options.use_train_id else ""}'
        infix = f'_{SPLITS[options.split]}' if cityscapes else ''
        write_panoptic(
            dataset,
            options.panoptic,
            name=name,
            use_train_id=options.use_train_id,
            # createPanopticImgs makes both names from the label file's, hence the infix in an image's name.
            image_name=(f'{{}}{infix}_leftImg8bit.png' if cityscapes else '{}.png').format,
            png_name=f'{{}}{infix}_panoptic.png'.format,
        )
        print(f'{options.panoptic / name}.json: segments of {len(dataset)} images')
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='export-dataset', description=__doc__, add_arguments=add_arguments, run=run)
