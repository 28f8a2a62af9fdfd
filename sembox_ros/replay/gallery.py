"""The worst frames of a replay as pictures, found again in the bags by when they were recorded."""

from __future__ import annotations

from collections.abc import Mapping
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
from sembox_ros.replay.scene_messages import read_detections, view_image
from sembox_ros.replay.truth import TruthSource
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
    wanted = [topic_of(c, name) for c in cameras for name in ('segmentation/mask', 'detections')]
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
        mask = find_message(scenes, topic_of(row.camera, 'segmentation/mask'), row, **span)
        boxes = find_message(scenes, topic_of(row.camera, 'detections'), row, **span)
        scene = Scene(
            (image.shape[0], image.shape[1]),
            semantic=None if mask is None else view_image(mask.message),
            detections=None if boxes is None else read_detections(boxes.message, labels.detection),
        )
        known = None if truth is None else truth.find(row.camera, row.stamp_ns)
        truth_boxes = None
        if known is not None and known.boxes_xyxy is not None and known.class_ids is not None:
            wanted = ~known.is_crowd if known.is_crowd is not None else slice(None)
            boxes_xyxy, class_ids = known.boxes_xyxy[wanted], known.class_ids[wanted]
            truth_boxes = Detections(boxes_xyxy, class_ids, np.ones(len(class_ids), np.float32))
        return render_worst(
            image,
            scene,
            None if known is None else known.semantic,
            truth_boxes,
            labels,
            None if truth is None or known is None else truth.labels,
        )
    except (InputError, DatasetError):
        return None


def find_message(
    bag: BagReader, topic: str, row: FrameRow, *, start_ns: int, stop_ns: int
) -> BagMessage | None:
    """The first readable message of a topic with the stamp of a frame, recorded from `start_ns` to before `stop_ns`."""
    for entry in bag.messages_between(start_ns, stop_ns):
        if entry.topic == topic and entry.stamp_ns == row.stamp_ns and not entry.error:
            return entry
    return None
