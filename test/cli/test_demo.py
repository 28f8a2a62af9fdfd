"""The demo as a user runs it: real node, real bags, real topics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from forked import ForkedProcess

from sembox_ros.cli.streets import FIRST_STAMP_NS
from sembox_ros.data.streets import render_sequence
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.media import VideoReader, read_image, write_image
from sembox_ros.replay.report import load_report
from sembox_ros.replay.scene_messages import view_image


def run_demo(tmp_path: Path, checkpoint: Path, *args: str) -> tuple[str, dict]:
    out, log = tmp_path / 'demo', tmp_path / 'log'
    given = ['demo', '--out', str(out), '--checkpoint', str(checkpoint), '--engine', 'torch', *args]
    status = ForkedProcess('sembox_ros', given, log).wait(200)
    printed = log.read_text()
    assert status == 0, printed
    return printed, load_report(out / 'report')


def test_the_street_travels_through_the_node(tmp_path: Path, tiny_checkpoint_path: Path):
    printed, report = run_demo(tmp_path, tiny_checkpoint_path, '--frames', '10', '--size', '128x256')
    counts = report['online']['counts']
    assert counts['received'] == 10
    assert counts['received'] == sum(count for name, count in counts.items() if name != 'received')
    assert 0 < report['frames']['processed'] <= counts['processed']
    assert sum(report['stability']['class_share'].values()) == pytest.approx(1, abs=0.01)
    assert report['online']['stages_ms']['network']['p50'] > 0
    assert 'The weights are UNTRAINED' in printed
    out = tmp_path / 'demo'
    sheet = read_image(out / 'contact_sheet.png')
    assert sheet.std() > 10
    assert sheet.shape[1] == 4 * (512 + 6) + 6  # with the truth beside the image
    check_grade(report, printed, out)
    assert next(iter(VideoReader(out / 'overlay.mp4'))).shape == (128, 256, 3)
    # What was recorded belongs to what was played.
    played = {entry.stamp_ns for entry in read_bag(out / 'input')}
    masks = list(read_bag(out / 'report' / 'bag', ['/segmentation/mask']))
    assert masks
    for entry in masks:
        assert entry.stamp_ns in played
        assert entry.message.header.frame_id == 'camera'
        assert view_image(entry.message).shape == (128, 256)


def check_grade(report: dict, printed: str, out: Path) -> None:
    """The grade is that of the recorded masks against the street, rendered once more."""
    frames = render_sequence(frames=10, size_hw=(128, 256), seed=1, rate_hz=5.0)
    truth = {FIRST_STAMP_NS + frame.stamp_ns: frame.semantic for frame in frames}
    recorded = read_bag(out / 'report' / 'bag', ['/segmentation/mask'])
    pairs = [(view_image(e.message), truth[e.stamp_ns]) for e in recorded]
    labelled = sum(int((gt != 255).sum()) for _, gt in pairs)
    hits = sum(int(((mask == gt) & (gt != 255)).sum()) for mask, gt in pairs)
    accuracy = report['accuracy']
    assert accuracy['semantic']['pixel_accuracy'] == pytest.approx(hits / labelled)
    assert accuracy['masks'] == accuracy['images'] == len(pairs) == report['frames']['processed']
    assert 0 <= accuracy['boxes']['ap'] < 0.1
    assert f'mIoU {100 * accuracy["semantic"]["miou"]:.1f}, AP ' in printed


def test_photographs_of_any_size_do_as_well(tmp_path: Path, tiny_checkpoint_path: Path):
    for index, size in enumerate(((90, 120), (120, 90), (33, 200))):
        write_image(tmp_path / 'photos' / f'{index}.png', np.full((*size, 3), 60 * index, np.uint8))
    (tmp_path / 'photos' / 'broken.jpg').write_bytes(b'x')
    args = ('--images', str(tmp_path / 'photos'), '--rate-hz', '2')
    _, report = run_demo(tmp_path, tiny_checkpoint_path, *args)
    assert report['online']['counts']['received'] == 3
    assert report['accuracy'] is None
    masks = read_bag(tmp_path / 'demo' / 'report' / 'bag', ['/segmentation/mask'])
    shapes = {view_image(e.message).shape for e in masks}
    assert shapes <= {(90, 120), (120, 90), (33, 200)}
    assert shapes
