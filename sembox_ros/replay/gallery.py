"""The worst frames of a replay as pictures, found again in the bags by when they were recorded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.decoding import decode_image
from sembox_ros.errors import DatasetError, InputError
from sembox_ros.labels import SceneLabels
from sembox_ros.replay.bag_writer import topic_of
from sembox_ros.replay.bags import BagMessage, BagReader, ImageTopic
from sembox_ros.replay.grading import FrameRow, ReplayGrader
from sembox_ros.replay.media import write_image
from sembox_ros.replay.parts import INSTANCES_TOPIC, MASK_TOPIC
from sembox_ros.replay.scene_messages import read_detections, view_image
from sembox_ros.replay.truth import Truth, TruthSource
from sembox_ros.replay.worst import render_worst
from sembox_ros.types import Detections, Scene

ANSWER_SLACK_NS = 2 * 10**9


def write_worst(
    bag: Path,
    cameras: Mapping[str, ImageTopic],
    outputs: Path,
    folder: Path,
    grader: ReplayGrader,
    truth: TruthSource | None,
) -> list[dict[str, Any]]:
    """Draw the worst frames into `folder`/worst.

    Args:
        bag: the input.
        cameras: camera -> its image topic there.
        outputs: bag of what was seen.
        folder: of the replay.
        grader: knows which frames are the worst.
        truth: what is to be seen in them.

    Returns:
        Section `worst` of the report. A frame that cannot be read again is left out.
    """
    entries = []
    chosen = grader.worst()
    if not chosen:
        return []
    topics = {camera: topic.name for camera, topic in cameras.items()}
    wanted = [topic_of(c, name) for c in cameras for name in (MASK_TOPIC, INSTANCES_TOPIC, 'detections')]
    with BagReader(bag, topics.values()) as images, BagReader(outputs, wanted) as scenes:
        for number, (row, measure, value) in enumerate(chosen):
            picture = draw_frame(images, scenes, topics[row.camera], row, grader.labels, truth)
            if picture is None:
                continue
            name = f'worst/{number}.jpg'
            write_image(folder / name, picture)
            place = f'{(row.received_ns - grader.start_ns) * 1e-9:.2f} s, frame {row.index}'
            entries.append(
                {
                    'picture': name,
                    'camera': row.camera,
                    'stamp_ns': row.stamp_ns,
                    'measure': measure,
                    'value': round(value, 4),
                    'caption': f'{row.camera}, {place}' if row.camera else place,
                }
            )
    return entries


def draw_frame(
    images: BagReader, scenes: BagReader, topic: str, row: FrameRow, labels: SceneLabels, truth: TruthSource | None
) -> np.ndarray | None:
    """One frame with its truth and what was seen, (H, W, 3) uint8 rgb; None if it cannot be read again."""
    try:
        entry = find_message(images, topic, row, start_ns=row.received_ns, stop_ns=row.received_ns + 1)
        if entry is None:
            return None
        image = decode_image(entry.message)
        # The topics of an answer came one after the other if a node gave it.
        slack_ns = 0 if row.answered_ns == row.received_ns else ANSWER_SLACK_NS
        span = {'start_ns': row.answered_ns - slack_ns, 'stop_ns': row.answered_ns + slack_ns + 1}
        mask = find_message(scenes, topic_of(row.camera, MASK_TOPIC), row, **span)
        instances = None
        if labels.has_instances:
            instances = find_message(scenes, topic_of(row.camera, INSTANCES_TOPIC), row, **span)
        boxes = find_message(scenes, topic_of(row.camera, 'detections'), row, **span)
        scene = Scene(
            (image.shape[0], image.shape[1]),
            semantic=None if mask is None else view_image(mask.message),
            detections=None if boxes is None else read_detections(boxes.message, labels.detection),
            instances=None if instances is None else view_image(instances.message),
        )
        known = None if truth is None else truth.find(row.camera, row.stamp_ns)
        truth_scene = None
        if known is not None:
            with suppress(InputError):  # truth that does not fit is not shown; the grader tells why
                truth_scene = _known_scene(known, scene.size_hw)
        return render_worst(image, scene, truth_scene, labels, None if truth is None else truth.labels)
    except (InputError, DatasetError):
        return None


def _known_scene(truth: Truth, size_hw: tuple[int, int]) -> Scene:
    """What is to be seen, without crowds, which nobody can miss.

    Raises:
        InputError: it does not fit the image.
    """
    if truth.boxes_xyxy is None or truth.class_ids is None or truth.is_crowd is None:
        return Scene(size_hw, truth.semantic)
    wanted = ~truth.is_crowd
    scores = np.ones(np.count_nonzero(wanted), np.float32)
    ids = np.flatnonzero(wanted) + 1
    boxes = Detections(truth.boxes_xyxy[wanted], truth.class_ids[wanted], scores, ids)
    instances = None
    if truth.instances is not None:
        instances = np.where(np.append(False, wanted)[truth.instances], truth.instances, 0).astype(np.uint16)
    return Scene(size_hw, truth.semantic, detections=boxes, instances=instances)


def find_message(
    bag: BagReader, topic: str, row: FrameRow, *, start_ns: int, stop_ns: int
) -> BagMessage | None:
    """The first readable message of a topic with the stamp of a frame, recorded from `start_ns` to before `stop_ns`."""
    for entry in bag.messages_between(start_ns, stop_ns):
        if entry.topic == topic and entry.stamp_ns == row.stamp_ns and not entry.error:
            return entry
    return None
