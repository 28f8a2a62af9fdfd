"""One bag through the real node: what it published is graded like an offline replay, and its latencies are measured."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sembox_ros.errors import ConfigError, DatasetError, InputError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import SceneLabels
from sembox_ros.replay.bag_writer import topic_of
from sembox_ros.replay.bags import BagReader
from sembox_ros.replay.folder import ReplayFolder
from sembox_ros.replay.gallery import write_worst
from sembox_ros.replay.grading import ReplayGrader
from sembox_ros.replay.live import INTERRUPTED, LiveRun, run_live
from sembox_ros.replay.live_numbers import online_section
from sembox_ros.replay.parts import (
    BAG,
    DEPTH_TOPIC,
    INSTANCES_TOPIC,
    MASK_TOPIC,
    MOTION_TOPIC,
    FrameRecord,
    writing,
)
from sembox_ros.replay.report import write_report
from sembox_ros.replay.scene_messages import MOVES, read_detections, view_image
from sembox_ros.replay.session import ReplayOptions, check_save, findings, head, speed, write_tables
from sembox_ros.replay.source import Input, find_truth
from sembox_ros.replay.truth import MAPS, BagTruth, TruthSource, graded_maps
from sembox_ros.types import Scene

# What is graded: part of a scene -> topics.
GRADED = {
    'semantic': (MASK_TOPIC, 'segmentation/label_info'),
    'detections': ('detections', 'detections/label_info'),
    'instances': (INSTANCES_TOPIC,),
    'depth': (DEPTH_TOPIC,),
    'motion': (MOTION_TOPIC,),
}
SAVED = {
    'color': ('segmentation/color', 'panoptic/color'), 'overlay': ('overlay',), 'depth': (DEPTH_TOPIC,),
    'motion': (MOTION_TOPIC,),
}  # fmt: skip
NO_ANSWER = 'no answer: dropped, stale or failed'
HALF_WAITING = 64  # answers of which not all messages have come; more means that the others never will


def replay_bag_online(
    source: Input,
    out: Path,
    predictor: Predictor,
    options: ReplayOptions,
    *,
    truth: TruthSource | None = None,
    rate: float = 1.0,
    domain_id: int | None = None,
    node_parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Play a bag into the node, and grade what comes back.

    Args:
        source: the bag.
        out: folder of the results.
        predictor: what the node will choose too; says in the report what ran.
        options: how; of the outputs, those that cost the node time are recorded only if wanted.
        truth: what is known of the images; None: what the bag itself says.
        rate: 2.0 plays twice as fast as it was recorded.
        domain_id: ROS domain; None takes one at random.
        node_parameters: checkpoint, device, engine and so on.

    Returns:
        The report.

    Raises:
        ConfigError: an output that online replays do not have, `out` holds something, or the network lacks what the
            fusion or an output needs, or gives nothing that is graded.
        SemboxError: the node or one of its helpers failed.
        KeyboardInterrupt: after the report of what was seen so far has been written.
    """
    unknown = [name for name in options.save if name not in SAVED]
    if unknown:
        raise ConfigError(f'--save: an online replay records {", ".join(SAVED)} only, not {", ".join(unknown)}')
    check_save(options.save, predictor)
    if predictor.parts.isdisjoint(('semantic', 'detections')):
        name = predictor.checkpoint.config.name
        raise ConfigError(f'checkpoint: an online replay needs masks or boxes, {name} gives neither; replay it offline')
    if (out / BAG).exists() and not options.overwrite:
        raise ConfigError(f'--out: {out} holds a replay; --overwrite replaces it, or name another folder')
    predictor.choose_fusion(options.detection)  # fails before there is a folder
    identity = {'mode': 'online', 'bag': source.describe(), 'created_ns': time.time_ns()}
    folder = ReplayFolder(out, identity, overwrite=options.overwrite)
    known = truth or find_truth(source, options.truth_topics, predictor.labels, folder.parts)
    graded = predictor.parts - MAPS | graded_maps(known, predictor.parts)
    names = [topic for part, topics in GRADED.items() if part in graded for topic in topics]
    names += [topic for name in options.save for topic in SAVED[name]]
    if 'instances' not in predictor.parts:
        names = [name for name in names if not name.startswith('panoptic/')]
    run = run_live(
        source.path,
        {camera: topic.name for camera, topic in source.cameras.items()},
        out,
        record=[topic_of(camera, name) for camera in source.cameras for name in names],
        node_parameters={
            **node_parameters, **dataclasses.asdict(options.detection), 'overlay_alpha': options.overlay_alpha,
        },
        rate=rate,
        domain_id=domain_id,
        bag_name=BAG,
        messages=source.messages,
    )  # fmt: skip
    if isinstance(known, BagTruth):
        with writing(folder.parts):
            read_truth(source.path, known)
    report = _grade(source, folder, predictor, options, known, run, graded)
    shutil.rmtree(folder.parts)
    if run.partial == INTERRUPTED:
        raise KeyboardInterrupt
    return report


def read_truth(bag: Path, truth: BagTruth) -> None:
    """Read the truth of a whole bag.

    Raises:
        DatasetError: the bag cannot be read.
        OSError: what was read cannot be kept.
    """
    with BagReader(bag, truth.topics) as reader:
        for entry in reader.messages():
            truth.add(entry)


def _grade(
    source: Input,
    folder: ReplayFolder,
    predictor: Predictor,
    options: ReplayOptions,
    truth: TruthSource | None,
    run: LiveRun,
    graded: frozenset[str],
) -> dict[str, Any]:
    grader = ReplayGrader(
        predictor.labels,
        truth,
        score_threshold=options.detection.score_threshold,
        start_ns=source.start_ns,
        duration_s=source.duration_s,
    )
    for record, scene in read_answers(run, predictor.labels, graded):
        grader.add(record, scene)
    report = {
        **head(
            'online',
            source,
            predictor,
            options,
            graded_score_threshold=options.detection.score_threshold,
            partial=run.partial,
        ),
        'frames': grader.frames(source.messages, 0),
        'outputs_sha256': None,
        'speed': speed(grader, playing_seconds(run)),
        **findings(grader),
        'online': online_section(run),
        'worst': write_worst(source.path, source.cameras, run.recorded, folder.path, grader, truth),
    }
    if report['accuracy'] is not None and report['accuracy']['boxes'] is not None:
        threshold = options.detection.score_threshold
        report['accuracy']['notes'].append(
            f'AP of the published boxes (score >= {threshold:g}), which cuts its curve short; '
            'an offline replay grades those with lower scores too'
        )
    with writing(folder.path):
        write_tables(grader, folder.path)
        write_report(report, folder.path)
    return report


def playing_seconds(run: LiveRun) -> float:
    """From the first image to the last answer."""
    times_ns = [frame.answered_ns for frame in run.frames if frame.answered_ns is not None]
    return (max(times_ns) - run.frames[0].played_ns) * 1e-9 if times_ns else 0.0


def read_answers(
    run: LiveRun, labels: SceneLabels, parts: frozenset[str]
) -> Iterator[tuple[FrameRecord, Scene | None]]:
    """The frames of a live run in the order of playing, each with what the node published about it.

    Args:
        run: as it was recorded.
        labels: those of the network.
        parts: of a scene, that are graded where they are among `GRADED`; an answer is there once all of them have come.

    Raises:
        DatasetError: the recorded bag cannot be read.
    """
    scenes = _read_scenes(run.recorded, {frame.camera for frame in run.frames}, labels, parts)
    waiting: dict[tuple[str, int], Scene] = {}
    for index, frame in enumerate(run.frames):
        stamp_ns = frame.stamp_ns or 0
        record = FrameRecord(index, frame.camera, stamp_ns, frame.bag_ns, NO_ANSWER)
        if frame.answered_ns is None or frame.end_to_end_ms is None:
            yield record, None
            continue
        key = (frame.camera, stamp_ns)
        while key not in waiting and (found := next(scenes, None)) is not None:
            waiting[found[0]] = found[1]
            if len(waiting) > HALF_WAITING:
                waiting.pop(next(iter(waiting)))
        scene = waiting.pop(key, None)
        if scene is None:
            yield dataclasses.replace(record, problem='only a part of the answer came'), None
            continue
        yield dataclasses.replace(
            record,
            problem='',
            timings_ms={'end_to_end': frame.end_to_end_ms},
            answered_ns=frame.answered_ns,
        ), scene


def _read_scenes(
    recorded: Path, cameras: set[str], labels: SceneLabels, wanted: frozenset[str]
) -> Iterator[tuple[tuple[str, int], Scene]]:
    """(camera, stamp) and scene, once all messages of an answer have come; damaged messages are passed over."""
    names = {part: topic for part, (topic, *_) in GRADED.items() if part in wanted}
    topics = {topic_of(camera, topic): (camera, part) for camera in cameras for part, topic in names.items()}
    parts: dict[tuple[str, int], dict[str, Any]] = {}
    with BagReader(recorded, topics) as reader:
        for entry in reader.messages():
            if entry.error or entry.stamp_ns is None:
                continue
            camera, part = topics[entry.topic]
            key = (camera, entry.stamp_ns)
            known = parts.setdefault(key, {})
            try:
                if part == 'detections':
                    known[part] = read_detections(entry.message, labels.detection)
                else:
                    plane = view_image(entry.message)
                    known[part] = plane == MOVES if part == 'motion' else plane
                if len(known) == len(names):
                    del parts[key]
                    yield key, _scene(known)
                elif len(parts) > HALF_WAITING:
                    del parts[next(iter(parts))]
            except (InputError, DatasetError):
                continue


def _scene(parts: Mapping[str, Any]) -> Scene:
    planes = [plane for part, plane in parts.items() if part != 'detections']
    return Scene(planes[0].shape[:2] if planes else (0, 0), **parts)
