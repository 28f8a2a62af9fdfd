"""The demo as a user runs it: real node, real bags, real topics."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sembox_ros.replay.bags import read_bag, view_image
from sembox_ros.replay.media import VideoReader, read_image, write_image


def run_demo(tmp_path: Path, checkpoint: Path, *args: str) -> tuple[str, dict]:
    out = tmp_path / 'demo'
    result = subprocess.run(
        [sys.executable, '-m', 'sembox_ros', 'demo', '--out', str(out), '--checkpoint', str(checkpoint), *args],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, json.loads((out / 'summary.json').read_text())


def test_the_street_travels_through_the_node(tmp_path: Path, tiny_checkpoint_path: Path):
    printed, summary = run_demo(tmp_path, tiny_checkpoint_path, '--frames', '10', '--size', '128x256')
    frames = summary['frames']
    assert frames['received'] == 10
    assert frames['received'] == sum(count for name, count in frames.items() if name != 'received')
    assert 0 < summary['detection_messages'] <= frames['processed']
    assert sum(summary['mask_share'].values()) == pytest.approx(1, abs=0.01)
    assert summary['latency_ms']['network']['p50'] > 0
    assert 'The weights are UNTRAINED' in printed
    out = tmp_path / 'demo'
    assert read_image(out / 'contact_sheet.png').std() > 10
    assert next(iter(VideoReader(out / 'overlay.mp4'))).shape == (128, 256, 3)
    # What was recorded belongs to what was played.
    played = {entry.stamp_ns for entry in read_bag(out / 'input')}
    masks = list(read_bag(out / 'output', ['/segmentation/mask']))
    assert masks
    for entry in masks:
        assert entry.stamp_ns in played
        assert entry.message.header.frame_id == 'camera'
        assert view_image(entry.message).shape == (128, 256)


def test_photographs_of_any_size_do_as_well(tmp_path: Path, tiny_checkpoint_path: Path):
    for index, size in enumerate(((90, 120), (120, 90), (33, 200))):
        write_image(tmp_path / 'photos' / f'{index}.png', np.full((*size, 3), 60 * index, np.uint8))
    (tmp_path / 'photos' / 'broken.jpg').write_bytes(b'x')
    args = ('--images', str(tmp_path / 'photos'), '--rate-hz', '2')
    _, summary = run_demo(tmp_path, tiny_checkpoint_path, *args)
    assert summary['frames']['received'] == 3
    shapes = {view_image(e.message).shape for e in read_bag(tmp_path / 'demo' / 'output', ['/segmentation/mask'])}
    assert shapes <= {(90, 120), (120, 90), (33, 200)}
    assert shapes
