"""`python -m sembox_ros classify`: what images show, by an imported ImageNet classifier. Needs no ROS."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from sembox_ros.cli.common import add_config_options, run_command
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.inference.classifier import Category, Classifier
from sembox_ros.replay.media import find_media, is_video
from sembox_ros.replay.pictures import AHEAD, read_ahead, read_pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE', help='image, or folder of them')
    parser.add_argument(
        '--checkpoint', type=Path, required=True, metavar='FILE',
        help='what `import-weights --from efficientnet-b0-classifier` made of a published file, or from '
        'torchvision:efficientnet_b0_classifier; up to b7',
    )  # fmt: skip
    parser.add_argument('--top', type=int, default=5, metavar='K', help='names per image')
    parser.add_argument('--json', action='store_true', help='print one JSON object per image and line')
    add_config_options(parser, ('device',))
    parser.add_argument('--threads', type=int, default=0, help="CPU threads of the network; 0: torch's choice")


def find_images(paths: list[Path]) -> list[Path]:
    """The image files that the paths name or hold.

    Raises:
        InputError: a path holds no image.
    """
    found = []
    for path in paths:
        images = [file for file in find_media(path) if not is_video(file)]
        if not images:
            raise InputError(f'{path}: expected an image, or a folder of images; of videos, predict makes scenes')
        found += images
    return found


def classify_files(files: list[Path], classifier: Classifier, top: int) -> Iterator[tuple[Path, list[Category] | str]]:
    """Each file in order with its categories, or with why there are none."""
    for picture in read_ahead(read_pictures((file, '') for file in files), AHEAD):
        if picture.image is None:
            yield picture.file, picture.problem
            continue
        try:
            [categories] = classifier.classify([picture.image], top=top)
            yield picture.file, categories
        except InputError as error:
            yield picture.file, f'{picture.file}: {error}'


def run(options: argparse.Namespace) -> int:
    """Classify everything; a bad file is reported and passed over."""
    if options.top < 1:
        raise ConfigError(f'--top: expected 1 or more, got {options.top}')
    if options.threads < 0:
        raise ConfigError(f'--threads: expected 0 or more, got {options.threads}')
    files = find_images(options.images)
    if options.threads:
        torch.set_num_threads(options.threads)
    classifier = Classifier.from_checkpoint(options.checkpoint, device=options.device)
    print(f'{classifier.checkpoint.config.name} on {classifier.device}', file=sys.stderr)
    if not classifier.checkpoint.trained:
        print('the weights are UNTRAINED: the names are meaningless', file=sys.stderr)
    failed = 0
    for file, answer in classify_files(files, classifier, options.top):
        if isinstance(answer, str):
            failed += 1
            print(f'skipped: {answer}', file=sys.stderr)
        elif options.json:
            print(json.dumps({'file': str(file), 'categories': [asdict(category) for category in answer]}))
        else:
            print(file)
            for category in answer:
                print(f'  {100 * category.probability:5.1f} %  {category.name} ({category.class_id})')
    return 1 if failed else 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='classify', description=__doc__, add_arguments=add_arguments, run=run)
