"""`python -m sembox_ros demo`: a street, your bag or your photographs through the real node, over real ROS topics."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sembox_ros.cli.common import PREDICTOR_OPTIONS, add_config_options, load_predictor, parse_size, run_command
from sembox_ros.cli.streets import FIRST_STAMP_NS, STREET_LABELS, render_drive
from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError, DatasetError, InputError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import load_scene_labels
from sembox_ros.replay.demo_pictures import write_sheet, write_video
from sembox_ros.replay.drive import write_drive, write_image_bag
from sembox_ros.replay.live_session import replay_bag_online
from sembox_ros.replay.media import find_media, is_video, read_image
from sembox_ros.replay.parts import BAG
from sembox_ros.replay.report_text import render_text
from sembox_ros.replay.session import ReplayOptions
from sembox_ros.replay.source import Input, find_truth, open_input
from sembox_ros.replay.truth import TruthSource

IMAGE_TOPIC = '/camera/image_raw'
REPORT = 'report'  # folder of the replay, below --out
UNTRAINED = """The weights are UNTRAINED: colours and boxes are what a random network makes of the images. What you see
is that images travel through ROS 2 topics, the network and back. --checkpoint FILE gives real results.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, help='play this bag (rosbag2, .mcap, .db3 or ROS 1) instead of a street')
    source.add_argument('--images', type=Path, help='play the photographs of this folder instead of a street')
    parser.add_argument('--image-topic', help='image topic of --bag, where it has several')
    parser.add_argument('--out', type=Path, default=Path('demo'), help='folder for bag, video, picture and report')
    parser.add_argument('--frames', type=int, default=60, help='length of the rendered street')
    parser.add_argument('--rate-hz', type=float, default=5.0, help='frame rate of the street or the photographs')
    parser.add_argument('--size', default='512x1024', metavar='HxW', help='size of the rendered street')
    parser.add_argument('--seed', type=int, default=1, help='which street; training renders other ones')
    parser.add_argument('--domain-id', type=int, help='ROS domain; one at random keeps the demo off your robot')
    add_config_options(parser, PREDICTOR_OPTIONS)


def say(text: str) -> None:
    """Print at once, so that the order with the output of the processes is right also in a pipe."""
    print(text, flush=True)


def photo_frames(folder: Path, rate_hz: float) -> Iterator[tuple[int, np.ndarray]]:
    """Stamps and images of a folder's photographs; unreadable ones are reported and passed over."""
    files = [f for f in find_media(folder) if not is_video(f)]
    for index, file in enumerate(tqdm(files, desc='reading', unit='image', disable=None)):
        try:
            yield FIRST_STAMP_NS + int(index / rate_hz * 1e9), read_image(file)
        except InputError as error:
            tqdm.write(f'skipped: {error}', file=sys.stderr)


def prepare_bag(options: argparse.Namespace) -> Path:
    """The bag to play; a street's has its ground truth in it.

    Raises:
        SemboxError: nothing to play.
    """
    path = options.out / 'input'
    if options.bag is not None:
        return options.bag
    if options.images is None:
        street = render_drive(
            frames=options.frames, size_hw=parse_size(options.size), seed=options.seed, rate_hz=options.rate_hz
        )
        write_drive(path, street, labels=load_scene_labels(STREET_LABELS), topic=IMAGE_TOPIC)
    elif not write_image_bag(path, photo_frames(options.images, options.rate_hz), topic=IMAGE_TOPIC):
        raise InputError(f'{options.images}: none of its files is a readable image')
    return path


def replay_options(options: argparse.Namespace, predictor: Predictor) -> ReplayOptions:
    """How the bag is replayed."""
    # Random weights find nothing above a sensible threshold; the best ten show that boxes travel.
    of_random = DetectionConfig(score_threshold=0.0, max_detections=10)
    return ReplayOptions(
        detection=DetectionConfig() if predictor.checkpoint.trained else of_random,
        save=('color', 'overlay'),
        overwrite=True,
        checkpoint_name=Path(options.checkpoint).name if options.checkpoint else 'bundled',
    )


def write_pictures(
    source: Input, out: Path, predictor: Predictor, report: dict[str, Any], truth: TruthSource | None
) -> None:
    """Write overlay.mp4 and contact_sheet.png to `out`.

    Raises:
        SemboxError: there is nothing to show, or a file cannot be written.
    """
    recorded, rate_hz = out / REPORT / BAG, report['online']['throughput_hz'] or 1.0
    stamps_ns = write_video(recorded, out / 'overlay.mp4', rate_hz)
    if not stamps_ns:
        raise DatasetError(f'the node published no overlay; see {out / REPORT}/node.log')
    write_sheet(
        source.path,
        source.cameras[''].name,
        recorded,
        out / 'contact_sheet.png',
        stamps_ns=stamps_ns,
        labels=predictor.labels.semantic,
        class_share=report['stability']['class_share'] if report['stability'] else {},
        truth=truth,
    )


def run(options: argparse.Namespace) -> int:
    """Render or take the bag, run it through the node, write the results."""
    if options.frames < 1 or options.rate_hz <= 0:
        raise ConfigError(f'expected --frames >= 1 and --rate-hz > 0, got {options.frames} and {options.rate_hz}')
    start = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    source = open_input(prepare_bag(options), (options.image_topic,) if options.image_topic else ())
    if len(source.cameras) > 1:
        names = ', '.join(str(topic) for topic in source.cameras.values())
        raise ConfigError(f'--image-topic: the demo plays one camera, name it: {names}')
    predictor = load_predictor(options)  # after what is quicker to fail: it may measure engines
    say(f'playing {source.cameras[""]} of {source.path}')
    truth = find_truth(source, (), predictor.labels, options.out)
    report = replay_bag_online(
        source,
        options.out / REPORT,
        predictor,
        replay_options(options, predictor),
        truth=truth,
        domain_id=options.domain_id,
        node_parameters={name: getattr(options, name) for name in PREDICTOR_OPTIONS},
    )
    write_pictures(source, options.out, predictor, report, truth)
    say(f'\n{render_text(report)}\n')
    if not predictor.checkpoint.trained:
        say(UNTRAINED)
    seconds, out = time.monotonic() - start, options.out
    say(f'{seconds:.0f} s in all; look at {out}/contact_sheet.png, {out}/overlay.mp4 and {out}/{REPORT}/report.html')
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='demo', description=__doc__, add_arguments=add_arguments, run=run)
