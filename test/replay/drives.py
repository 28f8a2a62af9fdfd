"""Small bags with ground truth, of blocks of colour: quick to make, and the network finds something in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sembox_ros.labels import load_scene_labels
from sembox_ros.replay.drive import DriveFrame, write_drive

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
FIRST_NS = 1_700_000_000 * 10**9
STEP_NS = 100_000_000


def frames(
    count: int, *, size_hw: tuple[int, int] = (96, 192), camera: str = '', seed: int = 0
) -> Iterator[DriveFrame]:
    """Frames 0.1 s apart: sky above road, and a moving car."""
    height, width = size_hw
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
    for index in range(count):
        image, semantic = noise.copy(), np.full(size_hw, LABELS.semantic.names.index('road'), np.uint8)
        image[: height // 2] += np.array([90, 130, 200], np.uint8)
        semantic[: height // 2] = LABELS.semantic.names.index('sky')
        left, top = (7 * index) % (width - 50), height // 2 - 10
        image[top : top + 30, left : left + 45] = (180, 30, 30)
        semantic[top : top + 30, left : left + 45] = LABELS.semantic.names.index('car')
        yield DriveFrame(
            stamp_ns=FIRST_NS + index * STEP_NS,
            image=image,
            semantic=semantic,
            boxes_xyxy=np.array([[left, top, left + 45, top + 30]], np.float32),
            class_ids=np.array([LABELS.detection.names.index('car')], np.int64),
            is_crowd=np.zeros(1, np.bool_),
            ids=np.array([7], np.int64),
            instances=np.where(semantic == LABELS.semantic.names.index('car'), 7, 0).astype(np.uint16),
            camera=camera,
        )


def write(path: Path, count: int, **options: object) -> Path:
    """A bag of `frames`."""
    compressed = bool(options.pop('compressed', False))
    write_drive(path, frames(count, **options), labels=LABELS, compressed=compressed)
    return path
