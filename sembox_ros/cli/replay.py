"""`python -m sembox_ros replay`: how good and how fast is it on my drive? A bag in; a report and an annotated bag out.

Without ROS, every frame of the bag goes through the network, the same way each time. With --online, the bag is played
into the real node at its own rate, and what comes back is graded: latencies, drops, CPU and memory.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sembox_ros.cli.common import (
    PREDICTOR_OPTIONS,
    add_config_options,
    detection_config,
    load_predictor,
    run_command,
)
from sembox_ros.cli.dataset_arguments import add_dataset_arguments, dataset_options
from sembox_ros.data.datasets import load_dataset, part_options
from sembox_ros.errors import ConfigError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.replay.cluster import run_jobs_on_ray
from sembox_ros.replay.live_session import replay_bag_online
from sembox_ros.replay.many import BagJob, JobResult, find_bags, plan_jobs, run_jobs, without_suffix
from sembox_ros.replay.many_summary import summarize, summary_table
from sembox_ros.replay.report_text import render_text
from sembox_ros.replay.session import OUTPUTS, ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input
from sembox_ros.replay.truth import MAPS, DatasetTruth, TruthSource

CONFIG_OPTIONS = (
    *PREDICTOR_OPTIONS, 'score_threshold', 'nms_iou_threshold', 'max_detections', 'fusion', 'overlay_alpha',
)  # fmt: skip
OFFLINE_SAVES, ONLINE_SAVES = 'color,overlay,video', 'none'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        'bags', nargs='+', metavar='BAG',
        help='rosbag2 folder, .mcap, .db3 or ROS 1 .bag file; or a folder of them or a pattern, for one summary of all',
    )  # fmt: skip
    parser.add_argument(
        '--image-topic', action='append', default=[], metavar='TOPIC',
        help="image topic to replay, where there are several; may be repeated; 'all': every camera",
    )  # fmt: skip
    parser.add_argument('--out', type=Path, help='folder for the results; default: replay/NAME, several bags: replay')
    parser.add_argument('--overwrite', action='store_true', help='begin anew where an earlier replay is')
    parser.add_argument(
        '--save', metavar='LIST',
        help=f'outputs beside masks, boxes and report, with commas, of {", ".join(OUTPUTS)}; none: no more; '
        f'default: {OFFLINE_SAVES}, online: {ONLINE_SAVES}',
    )  # fmt: skip
    parser.add_argument('--confidence', action='store_true', help='also write the confidence of every pixel')
    parser.add_argument('--batch', type=int, default=4, help='frames per run of the network')
    add_config_options(parser, CONFIG_OPTIONS)
    truth = parser.add_argument_group('ground truth', 'topics below ground_truth are found by themselves')
    truth.add_argument(
        '--truth-topic', action='append', default=[], metavar='TOPIC',
        help='mono8 image of class ids, Detection2DArray, 16UC1 image of the ids in it, 32FC1 image of depth, or mono8 '
        'image of what moves, whose name ends in motion/mask; may be repeated',
    )  # fmt: skip
    truth.add_argument('--truth-stamps', type=Path, metavar='CSV', help='image_id,stamp_ns of the images of --root')
    truth.add_argument(
        '--truth-tolerance-ms', type=float, default=1.0, help='how far stamps of frames and images of --root may differ'
    )
    add_dataset_arguments(truth)
    online = parser.add_argument_group('online', 'through the real node, over DDS; needs ROS')
    online.add_argument('--online', action='store_true', help='play the bag into the node in real time')
    online.add_argument('--rate', type=float, default=1.0, help='2 plays twice as fast as it was recorded')
    online.add_argument('--domain-id', type=int, help='ROS domain; default: one at random')
    cluster = parser.add_argument_group('several bags', 'with Ray, which sembox_ros[cluster] installs')
    cluster.add_argument(
        '--cluster', nargs='?', const='local', metavar='ADDRESS',
        help='on Ray: of this machine, or of the cluster at that address',
    )  # fmt: skip
    cluster.add_argument(
        '--cpus-per-bag', type=int, default=0, help="cores of one worker; 0: an equal share of this machine's"
    )
    cluster.add_argument('--gpus-per-bag', type=float, help='GPUs of one worker; default: one where there are any')


def replay_options(options: argparse.Namespace) -> ReplayOptions:
    """How to replay, from the command line.

    Raises:
        ConfigError: a value outside its limits, or an unknown output.
    """
    text = options.save if options.save is not None else ONLINE_SAVES if options.online else OFFLINE_SAVES
    save = tuple(name for part in text.split(',') if (name := part.strip()) not in ('', 'none'))
    for name in save:
        if name not in OUTPUTS:
            raise ConfigError(f"--save: expected none or some of {','.join(OUTPUTS)}, got '{name}'")
    if options.batch < 1:
        raise ConfigError(f'--batch: expected 1 or more, got {options.batch}')
    return ReplayOptions(
        topics=tuple(options.image_topic),
        truth_topics=tuple(options.truth_topic),
        detection=detection_config(options),
        batch=options.batch,
        save=tuple(name for name in OUTPUTS if name in save),
        confidence=options.confidence,
        overlay_alpha=options.overlay_alpha,
        overwrite=options.overwrite,
        checkpoint_name=Path(options.checkpoint).name if options.checkpoint else 'bundled',
    )


def load_truth(options: argparse.Namespace, predictor: Predictor) -> TruthSource | None:
    """The labelled dataset that the command line names, with what the network says; None if it names none.

    Raises:
        SemboxError: it cannot be used.
    """
    chosen = dataset_options(options)
    if 'root' not in chosen and not options.dataset_option:
        return None
    if not 0 <= options.truth_tolerance_ms < math.inf:
        raise ConfigError(f'--truth-tolerance-ms: expected 0 or more, got {options.truth_tolerance_ms:g}')
    useful = part_options(options.dataset, useful=['instances', *sorted(MAPS & predictor.parts)])
    dataset = load_dataset(options.dataset, {**useful, **chosen})
    stamps = Path(options.truth_stamps) if options.truth_stamps else None
    # A finished replay is told from one with another truth by these words.
    given = [f'{name} {value}' for name, value in chosen.items() if name != 'root']
    given += [f'stamps of {stamps.name}'] if stamps else []
    name = Path(chosen.get('root', '')).name
    words = ', '.join([f'{options.dataset} {name}'.strip(), *given, f'within {options.truth_tolerance_ms:g} ms'])
    return DatasetTruth(dataset, words, stamps=stamps, tolerance_ns=round(options.truth_tolerance_ms * 1e6))


def replay_one(options: argparse.Namespace, bag: Path, out: Path, predictor: Predictor) -> dict[str, Any]:
    """Replay one bag into one folder; returns the report."""
    how = replay_options(options)
    source = open_input(bag, how.topics, how.truth_topics)
    truth = load_truth(options, predictor)
    if options.online:
        return replay_bag_online(
            source, out, predictor, how, truth=truth, rate=options.rate, domain_id=options.domain_id,
            node_parameters={name: getattr(options, name) for name in PREDICTOR_OPTIONS},
        )  # fmt: skip
    return replay_bag(source, out, predictor, how, truth=truth)


_PREDICTORS: dict[tuple[Any, ...], Predictor] = {}


def replay_job(job: BagJob) -> dict[str, Any]:
    """One of several bags, here or in a process of the cluster, which keeps its network for the next one."""
    options = argparse.Namespace(**job.settings)
    key = tuple(getattr(options, name) for name in PREDICTOR_OPTIONS)
    if key not in _PREDICTORS:
        _PREDICTORS.clear()
        _PREDICTORS[key] = load_predictor(options)
    return replay_one(options, job.bag, job.out, _PREDICTORS[key])


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options as plain JSON, with paths that any process understands; tells when the checkpoint's file changed."""
    settings = {name: value for name, value in vars(options).items() if name not in ('bags', 'out', 'cluster')}
    for name in ('truth_stamps', 'checkpoint', 'root'):
        if settings[name]:
            settings[name] = str(Path(settings[name]).resolve())
    file = Path(settings['checkpoint'])
    settings['checkpoint_changed_ns'] = file.stat().st_mtime_ns if file.is_file() else 0
    return settings


def replay_many(options: argparse.Namespace, bags: list[Path], out: Path) -> int:
    """Replay several bags; returns 1 if any failed, and 130 after Ctrl-C."""
    jobs = plan_jobs(bags, out, settings_of(options))

    def tell(result: JobResult) -> None:
        tqdm.write(f'{result.job.name}: {result.state}' + (f': {result.error}' if result.state == 'failed' else ''))

    if options.cluster:
        results = run_jobs_on_ray(
            jobs,
            replay_job,
            address=None if options.cluster == 'local' else options.cluster,
            gpus_per_job=options.gpus_per_bag,
            cpus_per_job=options.cpus_per_bag or max(1, (os.cpu_count() or 1) // len(jobs)),
            on_result=tell,
        )
    else:
        results = run_jobs(jobs, replay_job, on_result=tell)
    print(summary_table(summarize(results, out)))
    print(f'summary: {out}/summary.html')
    states = {result.state for result in results}
    return 130 if states & {'interrupted', 'not run'} else 1 if 'failed' in states else 0


def run(options: argparse.Namespace) -> int:
    """Replay what the command line names, and print what came of it."""
    replay_options(options)  # a wrong option ends the command before any work
    if not 0 < options.rate < math.inf:
        raise ConfigError(f'--rate: expected more than 0, got {options.rate:g}')
    named = [Path(bag) for bag in options.bags]
    bags = find_bags(options.bags, exclude=options.out or Path('replay'))
    if options.cluster and options.online:
        raise ConfigError('--online measures one node on one machine; leave out --cluster')
    if len(bags) > 1 or options.cluster or not named[0].exists():
        return replay_many(options, bags, options.out or Path('replay'))
    out = options.out or Path('replay') / without_suffix(bags[0].resolve()).name
    predictor = load_predictor(options)
    if not predictor.checkpoint.trained:
        print('the weights are UNTRAINED: the results say nothing; pass --checkpoint FILE', file=sys.stderr)
    try:
        report = replay_one(options, bags[0], out, predictor)
    except KeyboardInterrupt:
        if not options.online:
            print(f'{out}: what was finished is kept, the same command goes on from there', file=sys.stderr)
        raise
    print(render_text(report))
    print(f'report: {out}/report.html')
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='replay', description=__doc__, add_arguments=add_arguments, run=run)
