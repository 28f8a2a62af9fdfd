"""The command with --online: a drive with ground truth through the real node."""

from __future__ import annotations

import json
from pathlib import Path

from drives import FIRST_NS, LABELS, STEP_NS, write
from forked import ForkedProcess

from sembox_ros.cli.streets import render_drive
from sembox_ros.models.checkpoint import Checkpoint, save_checkpoint
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.drive import write_drive


def replay(bag: Path, out: Path, checkpoint: Path, log: Path) -> int:
    given = ['replay', str(bag), '--online', '--out', str(out), '--checkpoint', str(checkpoint), '--device', 'cpu']
    given += ['--engine', 'torch', '--score-threshold', '0.01', '--max-detections', '5']
    return ForkedProcess('sembox_ros', given, log).wait(240)


def test_what_the_node_publishes_is_graded(tmp_path: Path, tiny_checkpoint_path: Path):
    bag, out = write(tmp_path / 'drive', 15, size_hw=(128, 256)), tmp_path / 'out'
    log = tmp_path / 'log'
    status, printed = replay(bag, out, tiny_checkpoint_path, log), log.read_text()
    assert status == 0, printed
    assert 'Traceback' not in printed
    report = json.loads((out / 'report.json').read_text())
    online, accuracy = report['online'], report['accuracy']
    assert (report['mode'], report['partial'], report['outputs_sha256']) == ('online', None, None)
    assert online['played'] == report['frames']['in_bag'] == 15
    assert 0 < online['answered'] == report['frames']['processed'] == accuracy['masks'] == accuracy['images']
    skipped = 15 - online['answered']
    assert report['frames']['skipped'] == ({'no answer: dropped, stale or failed': skipped} if skipped else {})
    assert any('AP of the published boxes (score >= 0.01)' in note for note in accuracy['notes'])
    assert accuracy['semantic']['miou'] is not None
    stamps = [entry.stamp_ns for entry in read_bag(out / 'bag', ['/segmentation/mask'])]
    assert len(stamps) == online['answered'] == accuracy['scenes']
    assert sorted(stamps) == sorted(entry.stamp_ns for entry in read_bag(out / 'bag', ['/panoptic/instances']))
    assert accuracy['panoptic']['pq_stuff'] is not None
    assert set(stamps) <= {FIRST_NS + i * STEP_NS for i in range(15)}
    assert f'played 15, answered {online["answered"]}' in printed
    assert (out / 'report.html').is_file()
    assert not (out / 'parts').exists()

    assert replay(bag, out, tiny_checkpoint_path, tmp_path / 'again') == 1
    [line] = [line for line in (tmp_path / 'again').read_text().splitlines() if line.startswith('replay: ')]
    assert '--overwrite replaces it' in line
    assert json.loads((out / 'report.json').read_text()) == report


def test_depth_and_motion_that_the_node_publishes_are_graded(tmp_path: Path, tiny_multitask: Checkpoint):
    drive = render_drive(frames=5, size_hw=(64, 128), seed=1, rate_hz=5.0, geometry=True)
    write_drive(tmp_path / 'drive', drive, labels=LABELS)
    save_checkpoint(tiny_multitask, tmp_path / 'multitask.safetensors')
    status = replay(tmp_path / 'drive', tmp_path / 'out', tmp_path / 'multitask.safetensors', tmp_path / 'log')
    assert status == 0, (tmp_path / 'log').read_text()
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    answered, accuracy = report['online']['answered'], report['accuracy']
    assert 0 < answered == accuracy['masks'] == accuracy['depths'] == accuracy['motions']
    assert accuracy['depth']['abs_rel'] > 0
    assert 0 < accuracy['motion']['motion_miou'] < 1
    for topic in ('/depth', '/motion/mask'):
        assert len(list(read_bag(tmp_path / 'out' / 'bag', [topic]))) == answered
