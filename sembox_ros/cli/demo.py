"""`python -m sembox_ros demo`: a street, your bag or your photographs through the real node, over real ROS topics."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sembox_ros.cli.common import add_config_options, parse_size, run_command
from sembox_ros.cli.streets import FIRST_STAMP_NS, STREET_LABELS
from sembox_ros.data.streets import render_sequence
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.labels import load_scene_labels
from sembox_ros.models.checkpoint import Checkpoint, load_bundled, load_checkpoint
from sembox_ros.replay.bags import ImageTopic, choose_image_topics
from sembox_ros.replay.demo_grade import Truths
from sembox_ros.replay.demo_report import OUTPUT_TOPICS, write_report
from sembox_ros.replay.drive import write_image_bag
from sembox_ros.replay.live import INTERRUPTED, run_live
from sembox_ros.replay.media import find_media, is_video, read_image

IMAGE_TOPIC = '/camera/image_raw'
RECORDED = 'output'  # bag of what the node published


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, help='play this bag (rosbag2, .mcap, .db3 or ROS 1) instead of a street')
    source.add_argument('--images', type=Path, help='play the photographs of this folder instead of a street')
    parser.add_argument('--image-topic', help='image topic of --bag, where it has several')
    parser.add_argument('--out', type=Path, default=Path('demo'), help='folder for bags, video, picture and summary')
    parser.add_argument('--frames', type=int, default=60, help='length of the rendered street')
    parser.add_argument('--rate-hz', type=float, default=5.0, help='frame rate of the street or the photographs')
    parser.add_argument('--size', default='512x1024', metavar='HxW', help='size of the rendered street')
    parser.add_argument('--seed', type=int, default=1, help='which street; training renders other ones')
    parser.add_argument('--domain-id', type=int, help='ROS domain; one at random keeps the demo off your robot')
    add_config_options(parser, ('checkpoint', 'device', 'engine', 'precision'))


def say(text: str) -> None:
    """Print at once, so that the order with the output of the processes is right also in a pipe."""
    print(text, flush=True)


def street_frames(options: argparse.Namespace, truths: Truths) -> Iterator[tuple[int, np.ndarray]]:
    """Stamps and images of the rendered street; what is to be seen in them goes to `truths`."""
    frames = render_sequence(
        frames=options.frames, size_hw=parse_size(options.size), seed=options.seed, rate_hz=options.rate_hz
    )
    for frame in tqdm(frames, total=options.frames, desc='rendering', unit='frame', disable=None):
        stamp_ns = FIRST_STAMP_NS + frame.stamp_ns
        truths.add(stamp_ns, frame.semantic, frame.boxes_xyxy, frame.class_ids, frame.is_crowd)
        yield stamp_ns, frame.image


def photo_frames(folder: Path, rate_hz: float) -> Iterator[tuple[int, np.ndarray]]:
    """Stamps and images of a folder's photographs; unreadable ones are reported and passed over."""
    files = [f for f in find_media(folder) if not is_video(f)]
    for index, file in enumerate(tqdm(files, desc='reading', unit='image', disable=None)):
        try:
            yield FIRST_STAMP_NS + int(index / rate_hz * 1e9), read_image(file)
        except InputError as error:
            tqdm.write(f'skipped: {error}', file=sys.stderr)


def prepare_bag(options: argparse.Namespace, truths: Truths) -> tuple[Path, ImageTopic]:
    """The bag to play and its image topic; a street's truth goes to `truths`.

    Raises:
        SemboxError: nothing to play.
    """
    if options.bag is None:
        path = options.out / 'input'
        if options.images is None:
            frames = street_frames(options, truths)
        else:
            frames = photo_frames(options.images, options.rate_hz)
        if not write_image_bag(path, frames, topic=IMAGE_TOPIC):
            raise InputError(f'{options.images}: none of its files is a readable image')
    else:
        path = options.bag
    topics = choose_image_topics(path, [options.image_topic] if options.image_topic else [])
    if len(topics) > 1:
        raise ConfigError(f'--image-topic: the demo plays one camera, name it: {", ".join(map(str, topics))}')
    return path, topics[0]


def node_parameters(options: argparse.Namespace, checkpoint: Checkpoint) -> dict[str, str | float | int]:
    """Parameters of the node for the demo."""
    parameters: dict[str, str | float | int] = {
        name: getattr(options, name) for name in ('device', 'engine', 'precision')
    }
    if options.checkpoint:
        parameters['checkpoint'] = str(Path(options.checkpoint).resolve())
    if not checkpoint.trained:
        # Random weights find nothing above a sensible threshold; the best ten show that boxes travel.
        parameters.update(score_threshold=0.0, max_detections=10)
    return parameters


def run(options: argparse.Namespace) -> int:
    """Render or take the bag, run it through the node, write the results."""
    if options.frames < 1 or options.rate_hz <= 0:
        raise ConfigError(f'expected --frames >= 1 and --rate-hz > 0, got {options.frames} and {options.rate_hz}')
    start = time.monotonic()
    checkpoint = load_checkpoint(options.checkpoint) if options.checkpoint else load_bundled()
    options.out.mkdir(parents=True, exist_ok=True)
    truths = Truths(load_scene_labels(STREET_LABELS))
    bag, topic = prepare_bag(options, truths)
    say(f'playing {topic} of {bag}')
    shutil.rmtree(options.out / RECORDED, ignore_errors=True)
    live = run_live(
        bag,
        {'': topic.name},
        options.out,
        record=OUTPUT_TOPICS,
        node_parameters=node_parameters(options, checkpoint),
        domain_id=options.domain_id,
        bag_name=RECORDED,
        messages=topic.messages,
    )
    if live.partial == INTERRUPTED:
        raise KeyboardInterrupt
    say('writing the results' if live.partial is None else f'writing the results of a part: {live.partial}')
    truth = truths if len(truths) else None  # of your own images nothing is known
    labels, trained = checkpoint.labels, checkpoint.trained
    say(write_report(bag, topic.name, live.recorded, options.out, labels, trained=trained, truths=truth))
    seconds = time.monotonic() - start
    say(f'{seconds:.0f} s in all; look at {options.out}/contact_sheet.png and {options.out}/overlay.mp4')
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='demo', description=__doc__, add_arguments=add_arguments, run=run)
