"""Messages of masks and boxes as rosbags reads and writes them, to arrays and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from sembox_ros.errors import DatasetError
from sembox_ros.labels import LabelSet
from sembox_ros.types import Detections

CROWD_ID = 'crowd'  # `id` of a ground-truth box that nobody has to find


def view_image(message: Any) -> np.ndarray:
    """Pixels of a tightly packed 8-bit image message as this package publishes them.

    Returns:
        (H, W, 3) uint8 for rgb8, (H, W) uint8 for mono8.

    Raises:
        DatasetError: another encoding or a short message.
    """
    channels = {'rgb8': 3, 'mono8': 1}.get(message.encoding)
    if channels is None or len(message.data) != message.height * message.width * channels:
        raise DatasetError(f'image: expected packed rgb8 or mono8, got {message.encoding}, {len(message.data)} bytes')
    shape = (message.height, message.width, channels) if channels > 1 else (message.height, message.width)
    return np.asarray(message.data, np.uint8).reshape(shape)


def read_detections(message: Any, labels: LabelSet) -> Detections:
    """The boxes of a Detection2DArray; float32 corners come back as they were before they were published.

    Args:
        message: each of its detections has the decimal id or the name of its class first among its results.
        labels: what the ids and names mean.

    Raises:
        DatasetError: a detection has no result, or its class is not in `labels`.
        InputError: a box is not finite or has a negative size.
    """
    ids = {name: i for i, name in enumerate(labels.names)}
    ids.update((str(i), i) for i in range(len(labels)))
    rows, class_ids, scores = [], [], []
    for detection in message.detections:
        if not detection.results:
            raise DatasetError('detections: expected a class for each box, got a box without results')
        hypothesis, bbox = detection.results[0].hypothesis, detection.bbox
        if hypothesis.class_id not in ids:
            raise DatasetError(
                f"detections: class_id {hypothesis.class_id[:40]!r} is neither an id nor a name of '{labels.name}'"
            )
        rows.append((bbox.center.position.x, bbox.center.position.y, bbox.size_x / 2, bbox.size_y / 2))
        class_ids.append(ids[hypothesis.class_id])
        scores.append(hypothesis.score)
    x, y, half_width, half_height = np.array(rows, np.float64).reshape(-1, 4).T
    boxes = np.stack((x - half_width, y - half_height, x + half_width, y + half_height), axis=1)
    return Detections(boxes.astype(np.float32), np.array(class_ids, np.int64), np.array(scores, np.float32))


def read_is_crowd(message: Any) -> np.ndarray:
    """Which boxes of a ground-truth Detection2DArray are not asked for: (N,) bool."""
    return np.array([detection.id == CROWD_ID for detection in message.detections], bool)
