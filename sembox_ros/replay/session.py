"""One bag from beginning to end: its frames through the network, then the report, and the outputs side by side."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sembox_ros import __version__
from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError, SemboxError
from sembox_ros.inference.graphs import network_key
from sembox_ros.inference.predictor import Predictor
from sembox_ros.replay.bag_writer import merge_bags
from sembox_ros.replay.exports import Exporter
from sembox_ros.replay.folder import ReplayFolder
from sembox_ros.replay.frames import FrameReader
from sembox_ros.replay.gallery import write_worst
from sembox_ros.replay.grading import ReplayGrader, write_rows
from sembox_ros.replay.media import join_videos
from sembox_ros.replay.offline import Writer, replay_frames
from sembox_ros.replay.parts import BAG, PartWriter, finished_parts, read_part, read_seconds, writing
from sembox_ros.replay.report import write_report
from sembox_ros.replay.source import Input, find_truth
from sembox_ros.replay.truth import MAPS, BagTruth, TruthSource, graded_maps

OUTPUTS = ('color', 'overlay', 'video', 'masks', 'coco', 'panoptic', 'depth', 'motion')
RECORDED = frozenset({'color', 'overlay', 'video', 'depth', 'motion'})  # those that are made frame by frame
ALL_BOXES = 0.05  # least score of boxes that are graded: the threshold of the outputs would cut the curve of AP


@dataclass(frozen=True)
class ReplayOptions:
    """How a bag is replayed.

    Attributes:
        topics: image topics; empty: the only one, ('all',): every one.
        truth_topics: topics of what is known, see `truth.BagTruth`; empty: those below `ground_truth`.
        detection: thresholds; the score's is that of the outputs, AP counts boxes from 0.05 on.
        batch: frames per run of the network.
        save: outputs beside masks and boxes, of `OUTPUTS`.
        confidence: also write the confidence of every pixel.
        overlay_alpha: weight of the class colours in the overlay.
        overwrite: begin anew where the same folder holds a replay.
        checkpoint_name: what the report calls the checkpoint.
    """

    topics: tuple[str, ...] = ()
    truth_topics: tuple[str, ...] = ()
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    batch: int = 4
    save: tuple[str, ...] = ('color', 'overlay', 'video')
    confidence: bool = False
    overlay_alpha: float = 0.5
    overwrite: bool = False
    checkpoint_name: str = 'bundled'

    @property
    def graded_score_threshold(self) -> float:
        """Least score of the boxes that an offline replay grades."""
        return min(ALL_BOXES, self.detection.score_threshold)


def replay_bag(
    source: Input,
    out: Path,
    predictor: Predictor,
    options: ReplayOptions,
    *,
    truth: TruthSource | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Replay a bag offline; goes on where an interrupted replay of the same settings stopped.

    Args:
        source: the bag.
        out: folder of the results.
        predictor: the network.
        options: how.
        truth: what is known of the images; None: what the bag itself says.
        progress: show progress bars.

    Returns:
        The report. One that is finished already is returned as it is.

    Raises:
        ConfigError: `out` holds something else, or the network lacks what the fusion or an output needs.
        DatasetError: the bag cannot be read, or the results not be written; what was finished before is kept.
        KeyboardInterrupt: after the report of what was seen so far has been written.
    """
    check_save(options.save, predictor)  # fails before there is a folder, as the next one
    predictor.choose_fusion(options.detection)
    folder = ReplayFolder(out, _identity(source, predictor, options, truth), overwrite=options.overwrite)
    finished = folder.finished_report()
    if finished is not None:
        folder.remove_parts()  # they are still there if it was ended just before
        return finished
    height, width = predictor.checkpoint.input.size_hw
    # The first run of a network is slow (memory, kernel choice), which is not what a replay is to measure.
    predictor.predict([np.zeros((height, width, 3), np.uint8)] * options.batch)
    known = truth or find_truth(source, options.truth_topics, predictor.labels, folder.parts)
    partial, lost, failure = None, 0, None
    try:
        with writing(folder.path):
            lost = _run_network(source, folder, predictor, options, known, progress)
    except (KeyboardInterrupt, SemboxError) as error:
        failure = error
        partial = 'interrupted' if isinstance(error, KeyboardInterrupt) else str(error)
    try:
        report = _finish(source, folder, predictor, options, known, partial, lost, progress)
    except SemboxError:
        if failure is None:
            raise
        raise failure from None  # a full disk takes no report either
    if failure is not None:
        raise failure
    return report


def check_save(save: Sequence[str], predictor: Predictor) -> None:
    """Refuse outputs that are made of what the network does not give.

    Raises:
        ConfigError: names the output.
    """
    for name, part in (('coco', 'detections'), ('depth', 'depth'), ('motion', 'motion')):
        if name in save and part not in predictor.parts:
            raise ConfigError(f'--save {name}: {predictor.checkpoint.config.name} gives no {part}; leave it out')


def _identity(
    source: Input, predictor: Predictor, options: ReplayOptions, truth: TruthSource | None
) -> dict[str, Any]:
    """Everything that the results depend on."""
    settings = dataclasses.asdict(options)
    del settings['overwrite'], settings['topics'], settings['checkpoint_name']
    return {
        'sembox_ros': __version__,
        'bag': {**source.describe(), 'start_ns': source.start_ns},
        'network': network_key(predictor.checkpoint),
        'engine': f'{predictor.engine.name} {predictor.engine.precision} on {predictor.device.type}',
        'truth': None if truth is None else truth.description,
        **settings,
    }


def _run_network(
    source: Input,
    folder: ReplayFolder,
    predictor: Predictor,
    options: ReplayOptions,
    truth: TruthSource | None,
    progress: bool,
) -> int:
    """Send the frames that are not done yet through the network; returns the messages lost in damaged parts."""
    outputs = RECORDED.intersection(options.save) | graded_maps(truth, predictor.parts)
    parts = outputs & MAPS | ({'confidence'} if options.confidence else set())
    if outputs & {'overlay', 'video'}:
        parts |= {'motion'}  # its outlines are drawn

    def create_part(number: int) -> PartWriter:
        return PartWriter(
            folder.parts,
            number,
            predictor.labels,
            score_threshold=options.detection.score_threshold,
            outputs=outputs,
            overlay_alpha=options.overlay_alpha,
            rates_hz=source.rates_hz,
        )

    done, hidden = folder.done_frames, None if progress else True
    bar = tqdm(total=source.messages, initial=done, unit='frame', desc='replay', disable=hidden)
    topics = {topic.name: camera for camera, topic in source.cameras.items()}
    in_bag = truth if isinstance(truth, BagTruth) else None
    with (
        bar,
        FrameReader(source.path, topics, truth=in_bag, first=done, with_previous=predictor.takes_flow) as reader,
    ):
        replay_frames(
            reader,
            predictor,
            Writer(create_part, folder.done_parts, bar.update),
            detection=dataclasses.replace(options.detection, score_threshold=options.graded_score_threshold),
            min_instance_score=options.detection.score_threshold,
            batch=options.batch,
            parts=parts,
        )
        return reader.lost


def _finish(
    source: Input,
    folder: ReplayFolder,
    predictor: Predictor,
    options: ReplayOptions,
    truth: TruthSource | None,
    partial: str | None,
    lost: int,
    progress: bool,
) -> dict[str, Any]:
    """Grade the finished parts, put their outputs together and write the report."""
    parts = finished_parts(folder.parts)
    labels = predictor.labels
    grader = ReplayGrader(
        labels,
        truth,
        score_threshold=options.detection.score_threshold,
        start_ns=source.start_ns,
        duration_s=source.duration_s,
    )
    exporter = Exporter(folder.path, labels, truth, frozenset(options.save))
    bar = tqdm(total=source.messages, unit='frame', desc='grading', disable=None if progress else True)
    with bar:
        for part in parts:
            for record, scene in read_part(part, labels, graded_maps(truth, predictor.parts)):
                grader.add(record, scene)
                exporter.add(record, scene)
                bar.update()
    with writing(folder.path):
        exporter.finish()
        if parts:
            merge_bags([part / BAG for part in parts], folder.path / BAG)
        for name in sorted({file.name for part in parts for file in part.glob('*.mp4')}):
            join_videos([part / name for part in parts if (part / name).is_file()], folder.path / name)
        report = {
            **head(
                'offline',
                source,
                predictor,
                options,
                graded_score_threshold=options.graded_score_threshold,
                partial=partial,
            ),
            'frames': grader.frames(source.messages, lost),
            'outputs_sha256': grader.digest(),
            'speed': speed(grader, sum(map(read_seconds, parts))),
            **findings(grader),
            'online': None,
            'worst': write_worst(source.path, source.cameras, folder.path / BAG, folder.path, grader, truth),
        }
        write_tables(grader, folder.path)
        write_report(report, folder.path)
    if partial is None:
        folder.remove_parts()
    return report


def head(
    mode: str,
    source: Input,
    predictor: Predictor,
    options: ReplayOptions,
    *,
    graded_score_threshold: float,
    partial: str | None,
) -> dict[str, Any]:
    """The sections of a report that say what was replayed by what."""
    checkpoint, labels = predictor.checkpoint, predictor.labels
    return {
        'schema': 'sembox_ros/replay_report',
        'version': 1,
        'name': source.path.resolve().name,
        'mode': mode,
        'created': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'sembox_ros': __version__,
        'partial': partial,
        'bag': source.describe(),
        'network': {
            'checkpoint': options.checkpoint_name,
            'sha256': network_key(checkpoint),
            'model': checkpoint.config.name,
            'trained': checkpoint.trained,
            'device': str(predictor.device),
            'engine': predictor.engine.name,
            'precision': predictor.engine.precision,
            'batch': options.batch,
            'graded_score_threshold': graded_score_threshold,
            **dataclasses.asdict(options.detection),
            'fusion': predictor.choose_fusion(options.detection),
        },
        'labels': {
            'semantic': list(labels.semantic.names) if labels.semantic else None,
            'palette': [list(color) for color in labels.semantic.palette] if labels.semantic else None,
            'detection': list(labels.detection.names),
        },
    }


def speed(grader: ReplayGrader, seconds: float) -> dict[str, Any]:
    """Section `speed` of the report."""
    latencies, histogram = grader.latencies()
    frames = sum(not row.problem for row in grader.rows)
    return {
        'seconds': round(seconds, 3),
        'frames_per_s': round(frames / seconds, 3) if seconds > 0 else 0.0,
        'latency_ms': latencies,
        'histogram': histogram,
    }


def findings(grader: ReplayGrader) -> dict[str, Any]:
    """The sections of a report that say how good it was."""
    return {'accuracy': grader.accuracy(), 'stability': grader.stability(), 'timeline': grader.timeline()}


def write_tables(grader: ReplayGrader, folder: Path) -> None:
    """Write frames.csv and, where there is truth, grade.npz, from which several bags are graded together."""
    write_rows(grader.rows, folder / 'frames.csv')
    if grader.grade is not None:
        grader.grade.save(folder / 'grade.npz')
