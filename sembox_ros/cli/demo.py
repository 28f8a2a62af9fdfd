"""`python -m sembox_ros demo`: a street, your bag or your photographs through the real node, over real ROS topics."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sembox_ros.cli.common import add_config_options, parse_size, ros_command, run_command
from sembox_ros.data.streets import render_sequence
from sembox_ros.errors import ConfigError, InputError, SemboxError
from sembox_ros.labels import load_scene_labels
from sembox_ros.models.checkpoint import Checkpoint, load_bundled, load_checkpoint
from sembox_ros.replay.bags import ImageTopic, choose_image_topics
from sembox_ros.replay.demo_grade import Truths
from sembox_ros.replay.demo_report import OUTPUT_TOPICS, write_report
from sembox_ros.replay.drive import write_image_bag
from sembox_ros.replay.media import find_media, is_video, read_image

IMAGE_TOPIC = '/camera/image_raw'
STREET_LABELS = 'cityscapes_19+cityscapes_things_8'  # of the rendered street
FIRST_STAMP_NS = 1_700_000_000 * 10**9
SETTLE_S = 3.0  # for the frame in flight and a last message on /diagnostics


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


class Processes:
    """The node and the recorder, ended in any case, with their output in log files.

    Args:
        folder: for the log files.
        domain_id: ROS domain of all of them.
    """

    def __init__(self, folder: Path, domain_id: int) -> None:
        self._folder = folder
        self.environment = {
            **os.environ,
            'ROS_DOMAIN_ID': str(domain_id),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.stop(name)

    def log(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self._folder / f'{name}.log'

    def start(self, name: str, args: list[str]) -> None:
        """Start one of `sembox_ros.ros`'s modules in the background."""
        with self.log(name).open('wb') as log:
            # A session of its own: Ctrl-C ends the demo, which then ends its processes in order.
            self._running[name] = subprocess.Popen(
                ros_command(name, args), env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def check(self) -> None:
        """Raise if a process ended by itself.

        Raises:
            SemboxError: with the last line of its log.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = self.log(name).read_text(errors='replace').strip().splitlines()
                raise SemboxError(f'the {name} ended early: {lines[-1] if lines else "no output"} ({self.log(name)})')

    def stop(self, name: str) -> None:
        """SIGINT, and SIGKILL for one that does not listen."""
        process = self._running.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def node_arguments(options: argparse.Namespace, checkpoint: Checkpoint, topic: str) -> list[str]:
    """ROS arguments of the node for the demo."""
    parameters = {name: getattr(options, name) for name in ('device', 'engine', 'precision')}
    if options.checkpoint:
        parameters['checkpoint'] = str(Path(options.checkpoint).resolve())
    if not checkpoint.trained:
        # Random weights find nothing above a sensible threshold; the best ten show that boxes travel.
        parameters.update(score_threshold='0.0', max_detections='10')
    args = ['--ros-args', '-r', f'image:={topic}']
    for name, value in parameters.items():
        args += ['-p', f'{name}:={value}']
    return args


def play_and_record(options: argparse.Namespace, bag: Path, topic: str, checkpoint: Checkpoint) -> Path:
    """Run node and recorder, play the bag into them, and return the recorded bag."""
    recorded = options.out / 'output'
    shutil.rmtree(recorded, ignore_errors=True)
    domain_id = random.SystemRandom().randrange(1, 100) if options.domain_id is None else options.domain_id
    with Processes(options.out, domain_id) as processes:
        processes.start('recorder', [str(recorded), *OUTPUT_TOPICS])
        processes.start('node', node_arguments(options, checkpoint, topic))
        say(
            f'node starting on ROS domain {domain_id}, log in {processes.log("node")}; '
            'the first start measures engines, for up to a minute'
        )
        player = subprocess.Popen(
            ros_command('player', [str(bag), '--topics', topic, '--wait', '300']), env=processes.environment
        )
        try:
            while player.poll() is None:
                processes.check()
                time.sleep(0.2)
        finally:
            if player.poll() is None:
                player.terminate()
                player.wait()
        if player.returncode:
            raise SemboxError('the player could not play the bag (see above)')
        time.sleep(SETTLE_S)
        processes.check()
        processes.stop('recorder')
    return recorded


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
    recorded = play_and_record(options, bag, topic.name, checkpoint)
    say('writing the results')
    truth = truths if len(truths) else None  # of your own images nothing is known
    labels, trained = checkpoint.labels, checkpoint.trained
    say(write_report(bag, topic.name, recorded, options.out, labels, trained=trained, truths=truth))
    seconds = time.monotonic() - start
    say(f'{seconds:.0f} s in all; look at {options.out}/contact_sheet.png and {options.out}/overlay.mp4')
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='demo', description=__doc__, add_arguments=add_arguments, run=run)
