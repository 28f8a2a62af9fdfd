from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rosbags.highlevel import AnyReader

from sembox_ros.cli import main, streets
from sembox_ros.cli.streets import STREET_LABELS
from sembox_ros.data.streets import render_sequence, render_street
from sembox_ros.data.streets.dataset import frame_name, street_seed
from sembox_ros.decoding import decode_depth, decode_image, decode_instances, decode_mask
from sembox_ros.labels import load_scene_labels
from sembox_ros.replay.bags import choose_image_topics, read_bag
from sembox_ros.replay.scene_messages import read_detections, read_motion

COMMAND = ['--size', '64x128', '--seed', '3']


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in root.rglob('*')
        if path.is_file()
    }


def test_the_command_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'data'
    assert main(['streets', '--out', str(out), '--train', '2', '--val', '1', *COMMAND, '--workers', '1']) == 0
    assert '2 train and 1 val images' in capsys.readouterr().out
    first = snapshot(out)
    assert len(first) == 3 * 6 + 1
    assert main(['streets', '--out', str(out), '--train', '3', '--val', '2', *COMMAND, '--workers', '2']) == 0
    assert '(2 new)' in capsys.readouterr().out
    second = snapshot(out)
    assert len(second) == 5 * 6 + 1
    assert {name: second[name] for name in first} == first  # neither changed nor written again
    still = render_street(size_hw=(64, 128), seed=street_seed(3, 'val', 1))
    written = np.array(Image.open(frame_name('val', 1).paths(out)['leftImg8bit']))
    np.testing.assert_array_equal(written, still.image)


def test_the_command_completes_a_dataset_with_geometry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ['streets', '--out', str(tmp_path), '--train', '1', '--val', '1', *COMMAND, '--workers', '1']
    assert main(base) == 0
    before = {name: content for name, (_, content) in snapshot(tmp_path).items() if name != 'streets.json'}
    assert main([*base, '--geometry']) == 0
    assert '(2 new)' in capsys.readouterr().out
    after = {name: content for name, (_, content) in snapshot(tmp_path).items()}
    assert len(after) == 2 * 10 + 1
    assert {name: after[name] for name in before} == before
    assert main([*base, '--geometry']) == 0
    assert '(0 new)' in capsys.readouterr().out
    assert main(base) == 1
    assert "geometry 'measured flow', not False" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['--seed', '4'], 'seed 3, not 4'),
        (['--size', '64x130'], 'size_hw'),
        (['--size', 'small'], 'HEIGHTxWIDTH'),
        (['--train', '-1'], 'train: expected 0'),
        (['--val', '1000001'], 'val: expected 0'),
        (['--workers', '0'], 'workers: expected at least 1'),
        (['--seed', '-2'], 'seed: expected 0'),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    base = ['streets', '--out', str(tmp_path), '--train', '0', '--val', '0', *COMMAND, '--workers', '1']
    assert main(base) == 0
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert main([*base, *changes]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') <= 1 + error.count('\r')
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize('workers', ['1', '2'])
def test_ctrl_c_ends_cleanly_and_leaves_whole_files(tmp_path: Path, workers: str) -> None:
    args = ['streets', '--out', str(tmp_path), '--train', '5000', '--val', '0', *COMMAND, '--workers', workers]
    process = subprocess.Popen(
        [sys.executable, '-m', 'sembox_ros', *args], stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not frame_name('train', 2).paths(tmp_path)['leftImg8bit'].exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the command
        error = process.communicate(timeout=30)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 130
    assert error.rstrip().endswith('streets: interrupted')
    assert 'Traceback' not in error
    assert not list(tmp_path.rglob('*.part'))
    images = list(tmp_path.rglob('*_leftImg8bit.png'))
    assert len(images) >= 1
    for picture in tmp_path.rglob('*.png'):
        with Image.open(picture) as opened:
            opened.load()
    for image in images:
        index = int(image.name.split('_')[1])
        assert all(path.exists() for path in frame_name('train', index).paths(tmp_path).values())


@pytest.mark.parametrize('jpeg', [False, True])
def test_a_drive_becomes_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str], jpeg: bool) -> None:
    path = tmp_path / 'drive'
    args = ['--frames', '2', '--rate-hz', '4', *COMMAND, *(['--jpeg'] if jpeg else [])]
    assert main(['streets', '--bag', str(path), *args]) == 0
    assert f'2 images with ground truth in {path}' in capsys.readouterr().out
    first, second = render_sequence(frames=2, size_hw=(64, 128), seed=3, rate_hz=4)
    [topic] = choose_image_topics(path)
    assert topic.messages == 2
    images = list(read_bag(path, [topic.name]))
    assert images[1].stamp_ns - images[0].stamp_ns == 250_000_000
    difference = np.abs(decode_image(images[1].message).astype(int) - second.image).mean()
    assert 0 < difference < 5 if jpeg else difference == 0
    [mask, _] = read_bag(path, ['/ground_truth/segmentation/mask'])
    np.testing.assert_array_equal(decode_mask(mask.message), first.semantic)
    [boxes, _] = read_bag(path, ['/ground_truth/detections'])
    labels = load_scene_labels(STREET_LABELS)
    read = read_detections(boxes.message, labels.detection)
    np.testing.assert_array_equal(read.boxes_xyxy, first.boxes_xyxy)
    assert [labels.thing_links[int(i)] for i in read.class_ids] == first.class_ids.tolist()
    assert read.ids.tolist() == first.track_ids.tolist()
    for message, frame in zip(read_bag(path, ['/ground_truth/panoptic/instances']), (first, second), strict=True):
        np.testing.assert_array_equal(decode_instances(message.message), frame.instance)


def test_a_drive_with_geometry_is_the_same_drive_with_depth_and_motion(tmp_path: Path) -> None:
    args = ['--frames', '2', *COMMAND]
    for name, more in (('plain', []), ('more', ['--geometry'])):
        assert main(['streets', '--bag', str(tmp_path / name), *args, *more]) == 0
    with AnyReader([tmp_path / 'plain']) as plain, AnyReader([tmp_path / 'more']) as more:
        expected = [(connection.topic, *message) for connection, *message in plain.messages()]
        found = [(connection.topic, *message) for connection, *message in more.messages()]
    added = {'/ground_truth/depth', '/ground_truth/motion/mask'}
    assert [message for message in found if message[0] not in added] == expected
    assert len(found) == len(expected) + 4
    [still, _] = render_sequence(frames=2, size_hw=(64, 128), seed=3, geometry=True)
    depth, motion = (next(read_bag(tmp_path / 'more', [topic])).message for topic in sorted(added))
    np.testing.assert_array_equal(decode_depth(depth), still.depth)
    np.testing.assert_array_equal(read_motion(motion), still.motion)


def test_numbers_of_things_start_again_after_a_long_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    [still] = render_sequence(frames=1, size_hw=(64, 128), seed=3)
    shift = 65535 - int(np.median(still.track_ids))
    late = dataclasses.replace(
        still, track_ids=still.track_ids + shift, instance=np.where(still.instance > 0, still.instance + shift, 0)
    )
    monkeypatch.setattr(streets, 'render_sequence', lambda **_: iter([late]))
    [frame] = streets.render_drive(frames=1, size_hw=(64, 128), seed=3, rate_hz=1.0)
    assert frame.ids.tolist() == [(i - 1) % 65535 + 1 for i in late.track_ids.tolist()]
    assert 65000 < frame.ids.max() <= 65535
    assert 1 <= frame.ids.min() < 500
    wrapped = dict(zip(still.track_ids.tolist(), frame.ids.tolist(), strict=True)) | {0: 0}
    np.testing.assert_array_equal(frame.instances, np.vectorize(wrapped.get)(still.instance))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (['--frames', '0'], 'frames: expected'),
        (['--rate-hz', '0'], 'rate_hz: expected'),
        (['--size', '1x1'], 'size_hw'),
    ],
)
def test_a_drive_that_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    assert main(['streets', '--bag', str(tmp_path / 'drive'), *COMMAND, *changes]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') <= 1 + error.count('\r')
    assert not list(tmp_path.iterdir())
