"""A small folder of rendered streets in the Cityscapes layout, and the settings of a run that is done in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sembox_ros.cli import main
from sembox_ros.data.streets import StreetFrame, render_street
from sembox_ros.label_tables import CITYSCAPES_TRAIN_IDS
from sembox_ros.labels import CITYSCAPES_19

SIZE_HW = (128, 256)
THINGS = [index for index, is_thing in enumerate(CITYSCAPES_19.is_thing) if is_thing]

TINY_MODEL = {
    'neck_cells': 1, 'neck_channels': 16, 'semantic_channels': 16, 'dpc_channels': 16, 'box_head_depth': 1,
}  # fmt: skip


def label_files(frame: StreetFrame, *, min_side: float, min_stuff: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) uint8 label ids and uint16 instance ids.

    A thing with a shorter side than `min_side` becomes a group, stuff of less than `min_stuff` of the image unlabeled.
    """
    table = np.zeros(256, np.uint8)  # 255, unlabeled, is label 0
    for train_id in range(19):
        table[train_id] = CITYSCAPES_TRAIN_IDS.index(train_id)
    pixels = np.bincount(frame.semantic.ravel(), minlength=256)
    scarce = ~np.isin(np.arange(256), THINGS) & (pixels < min_stuff * frame.semantic.size)
    table[scarce] = 0
    label = table[frame.semantic]
    instance = label.astype(np.uint16)
    for box, track in zip(frame.boxes_xyxy, frame.track_ids.tolist(), strict=True):
        if min(box[2] - box[0], box[3] - box[1]) >= min_side:
            pixels = frame.instance == track
            instance[pixels] = label[pixels] * np.uint16(1000) + track
    return label, instance


def write_streets(root: Path, splits: dict[str, range], *, min_side: float = 0.0, min_stuff: float = 0.0) -> Path:
    """One image for each seed of each split; see `label_files`."""
    for split, seeds in splits.items():
        for seed in seeds:
            frame = render_street(size_hw=SIZE_HW, seed=seed)
            label, instance = label_files(frame, min_side=min_side, min_stuff=min_stuff)
            for folder, kind, pixels in (
                ('leftImg8bit', 'leftImg8bit', cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)),
                ('gtFine', 'gtFine_labelIds', label),
                ('gtFine', 'gtFine_instanceIds', instance),
            ):
                path = root / folder / split / 'rendered' / f'rendered_{seed:06d}_000000_{kind}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(path), pixels)
    return root


def write_geometry_streets(root: Path, *, train: int, val: int) -> Path:
    """What the command writes, depth, flow and motion with it."""
    counts = ['--train', str(train), '--val', str(val), '--size', '128x256', '--workers', '1']
    assert main(['streets', '--out', str(root), '--geometry', *counts]) == 0
    return root


def tiny_settings(root: Path, out: Path) -> dict[str, Any]:
    """Names and values of a run: 6 images in batches of 2 for two epochs, validated after each."""
    return {
        'name': 'tiny', 'out': str(out), 'model': 'sembox_b0', 'model_options': dict(TINY_MODEL), 'epochs': 2,
        'batch_size': 2, 'val_batch_size': 2, 'log_every': 1, 'device': 'cpu', 'precision': 'fp32', 'threads': 1,
        'input': {'size_hw': [128, 128]}, 'data': {'root': str(root), 'workers': 0},
        'optimizer': {'warmup_steps': 2},
    }  # fmt: skip
