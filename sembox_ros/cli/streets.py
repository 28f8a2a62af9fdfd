"""`python -m sembox_ros streets`: rendered streets with exact labels, as a Cityscapes dataset or a bag of a drive."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sembox_ros.cli.common import parse_size, run_command
from sembox_ros.data.streets import render_sequence
from sembox_ros.data.streets.dataset import StreetSettings, missing_images, open_folder, write_images
from sembox_ros.labels import load_scene_labels
from sembox_ros.replay.drive import DriveFrame, write_drive
from sembox_ros.types import MAX_INSTANCE

STREET_LABELS = 'cityscapes_19+cityscapes_things_8'
FIRST_STAMP_NS = 1_700_000_000 * 10**9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument('--out', type=Path, help='folder of the dataset: new, empty, or one to go on')
    target.add_argument('--bag', type=Path, help='write one drive with its ground truth as this rosbag2 bag instead')
    parser.add_argument('--size', default='512x1024', metavar='HxW', help='image size')
    parser.add_argument(
        '--seed', type=int, default=0, help='which dataset or drive; other seeds share no street with it'
    )
    parser.add_argument(
        '--geometry', action='store_true',
        help='also depth and motion, and optical flow in a dataset; completes a dataset that lacks them',
    )  # fmt: skip
    dataset = parser.add_argument_group('dataset')
    dataset.add_argument('--train', type=int, default=1000, metavar='N', help='images in the split train')
    dataset.add_argument('--val', type=int, default=100, metavar='N', help='images in the split val')
    dataset.add_argument('--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='processes that render')
    bag = parser.add_argument_group('bag')
    bag.add_argument('--frames', type=int, default=300, metavar='N', help='length of the drive')
    bag.add_argument('--rate-hz', type=float, default=10.0, metavar='HZ', help='images per second of the drive')
    bag.add_argument(
        '--jpeg', action='store_true', help='store the images as jpeg, as a camera driver with compression'
    )


def render_drive(
    *, frames: int, size_hw: tuple[int, int], seed: int, rate_hz: float, geometry: bool = False
) -> Iterator[DriveFrame]:
    """A rendered street with its truth in `STREET_LABELS`, from `FIRST_STAMP_NS` on; shows its progress.

    A thing keeps its number, in `ids` and `instances`, for as long as it can be seen.

    Args:
        frames: how many.
        size_hw: image height and width, pixels.
        seed: which street.
        rate_hz: frames per second.
        geometry: also give depth and motion.

    Raises:
        ConfigError: an argument is out of range.
    """
    links = load_scene_labels(STREET_LABELS).thing_links
    to_detection = {semantic: detection for detection, semantic in links.items()}
    # Checks the arguments now.
    street = render_sequence(frames=frames, size_hw=size_hw, seed=seed, rate_hz=rate_hz, geometry=geometry)

    def number(tracks: np.ndarray) -> np.ndarray:
        return np.where(tracks > 0, (tracks - 1) % MAX_INSTANCE + 1, 0)  # what is in sight has other numbers

    return (
        DriveFrame(
            stamp_ns=FIRST_STAMP_NS + frame.stamp_ns,
            image=frame.image,
            semantic=frame.semantic,
            boxes_xyxy=frame.boxes_xyxy,
            class_ids=np.array([to_detection[int(i)] for i in frame.class_ids], np.int64),
            is_crowd=frame.is_crowd,
            ids=number(frame.track_ids),
            instances=number(frame.instance).astype(np.uint16),
            depth=frame.depth,
            motion=frame.motion,
        )
        for frame in tqdm(street, total=frames, desc='rendering', unit='frame', disable=None)
    )


def run(options: argparse.Namespace) -> int:
    """Write the bag, or what is missing of the dataset."""
    if options.bag is not None:
        size_hw = parse_size(options.size)
        drive = render_drive(
            frames=options.frames,
            size_hw=size_hw,
            seed=options.seed,
            rate_hz=options.rate_hz,
            geometry=options.geometry,
        )
        count = write_drive(options.bag, drive, labels=load_scene_labels(STREET_LABELS), compressed=options.jpeg)
        print(f'{count} images with ground truth in {options.bag}')
        return 0
    return write_dataset(options)


def write_dataset(options: argparse.Namespace) -> int:
    """Write what is missing of the dataset."""
    settings = StreetSettings(seed=options.seed, size_hw=parse_size(options.size), geometry=options.geometry)
    counts = {'train': options.train, 'val': options.val}
    jobs = missing_images(options.out, counts, geometry=options.geometry)
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
