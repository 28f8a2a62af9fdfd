from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapes_sample import ROAD, SKY, write_image
from drives import frames, write
from sample_bags import STORE, STRING, write_rows

from sembox_ros.cli import main
from sembox_ros.replay.drive import DriveFrame, write_drive

FAST = ['--save', 'none', '--device', 'cpu', '--engine', 'torch', '--score-threshold', '0', '--max-detections', '5']


@pytest.fixture(scope='module')
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp('drive') / 'drive', 4)


@pytest.fixture
def replay(tmp_path: Path, tiny_checkpoint_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command; its status, what it printed and the lines of its errors."""

    def run(*args: object) -> tuple[int, str, list[str]]:
        status = main(['replay', *FAST, '--checkpoint', str(tiny_checkpoint_path), *map(str, args)])
        printed = capsys.readouterr()
        assert 'Traceback' not in printed.err
        return status, printed.out, [line for line in printed.err.splitlines() if line.startswith('replay: ')]

    return run


def load(out: Path) -> dict:
    return json.loads((out / 'report.json').read_text())


def test_a_summary_is_printed(replay, drive: Path, tmp_path: Path):
    status, printed, errors = replay(drive, '--out', tmp_path / 'out')
    assert (status, errors) == (0, [])
    for line in ('frames    4 of 4\n', 'UNTRAINED', 'accuracy  mIoU ', 'outputs   sha256 ', 'out/report.html'):
        assert line in printed
    status, again, _ = replay(drive, '--out', tmp_path / 'out')
    assert (status, again) == (0, printed)


def bad_bag(kind: str, folder: Path, drive: Path) -> Path:
    path = folder / f'{kind}.mcap'
    [whole] = drive.glob('*.mcap')
    if kind == 'empty':
        path.touch()
    elif kind == 'foreign':
        path.write_bytes(b'\x89PNG\r\n\x1a\n' * 100)
    elif kind == 'truncated':
        path.write_bytes(whole.read_bytes()[:-5000])
    elif kind == 'imageless':
        text = STORE.types[STRING](data='hello')
        return write_rows(folder / kind, [('/chatter', STRING, 5, text)])
    elif kind == 'cameras':
        both = (f for pair in zip(frames(1, camera='left'), frames(1, camera='right'), strict=True) for f in pair)
        write_drive(folder / kind, (DriveFrame(f.stamp_ns, f.image, camera=f.camera) for f in both), labels=None)
        return folder / kind
    return path


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [
        ('empty', 'is empty'),
        ('foreign', 'it is no .mcap file'),
        ('truncated', '`mcap recover`'),
        ('missing', 'found no bag at'),
        ('imageless', "no camera's image topic; topics in it: /chatter (std_msgs/msg/String)"),
        ('cameras', '/left/camera/image_raw (Image, 1 messages), /right/camera/image_raw'),
    ],
)
def test_a_bad_bag_is_one_line(replay, drive: Path, tmp_path: Path, kind, expected):
    out = tmp_path / 'out'
    status, printed, errors = replay(bad_bag(kind, tmp_path, drive), '--out', out)
    assert (status, printed, len(errors)) == (1, '', 1)
    assert expected in errors[0]
    assert not out.exists()


@pytest.mark.parametrize(
    ('args', 'expected'),
    [
        (['--save', 'pdf'], '--save: expected none or some of color,overlay,video,masks,coco,panoptic,depth,motion'),
        (['--rate', '0'], '--rate: expected more than 0, got 0'),
        (['--rate', 'inf'], '--rate: expected more than 0'),
        (['--batch', '0'], '--batch: expected 1 or more, got 0'),
        (['--online', '--cluster'], '--online measures one node'),
        (['--image-topic', '/ground_truth/detections'], 'has the type vision_msgs/msg/Detection2DArray'),
        (['--image-topic', '/camera/image_row'], "did you mean '/camera/image_raw'?"),
        (['--truth-topic', '/camera/mask'], "truth: the bag has no topic '/camera/mask'"),
        (['--truth-topic', '/ground_truth/detections/label_info'], 'it is vision_msgs/msg/LabelInfo'),
        (['--root', '.', '--truth-tolerance-ms', '-1'], '--truth-tolerance-ms: expected 0 or more, got -1'),
        (['--root', 'nowhere', '--split', 'val'], 'there is no such folder'),
        (['--online', '--save', 'video'], '--save: an online replay records color, overlay, depth, motion only'),
    ],
)
def test_a_wrong_option_is_one_line(replay, drive: Path, tmp_path: Path, args, expected):
    status, _, errors = replay(drive, '--out', tmp_path / 'out', *args)
    assert (status, len(errors)) == (1, 1)
    assert expected in errors[0]


@pytest.mark.usefixtures('numbers_alone')
def test_a_mistyped_option_does_not_take_the_folder(replay, drive: Path, tmp_path: Path):
    assert replay(drive, '--out', tmp_path / 'out', '--truth-topic', '/nowhere')[0] == 1
    assert replay(drive, '--out', tmp_path / 'out')[0] == 0


@pytest.mark.usefixtures('numbers_alone')
def test_bags_of_a_folder_share_a_summary(replay, drive: Path, tmp_path: Path):
    folder, out = tmp_path / 'drives', tmp_path / 'out'
    for name in ('monday', 'tuesday'):
        shutil.copytree(drive, folder / name)
    (folder / 'broken.mcap').write_bytes(b'\x89MCAP0\r\n' + b'\0' * 999)
    status, printed, _ = replay(folder, '--out', out)
    assert status == 1
    assert 'broken' in printed
    assert (out / 'summary.html').is_file()
    reports = [load(out / name) for name in ('monday', 'tuesday')]
    assert reports[0]['outputs_sha256'] == reports[1]['outputs_sha256']
    assert not (out / 'broken' / 'report.json').exists()
    before = [(out / name / 'report.json').stat().st_mtime_ns for name in ('monday', 'tuesday')]
    status, printed, _ = replay(folder, '--out', out)
    assert status == 1
    assert [(out / name / 'report.json').stat().st_mtime_ns for name in ('monday', 'tuesday')] == before
    assert printed.count('kept') >= 2


@pytest.mark.usefixtures('numbers_alone')
def test_a_dataset_may_be_the_truth(replay, tmp_path: Path):
    label = np.full((96, 192), ROAD, np.uint8)
    label[:48] = SKY
    bare = [DriveFrame(f.stamp_ns, f.image) for f in frames(4)]
    write_drive(tmp_path / 'drive', bare, labels=None)
    for frame in bare[:3]:
        name = f'front_{frame.stamp_ns // 10**9}_{frame.stamp_ns % 10**9:09d}'
        write_image(tmp_path / 'data', name, label, label.astype(np.uint16))
    arguments = [tmp_path / 'drive', '--out', tmp_path / 'out', '--dataset', 'cityscapes', '--root', tmp_path / 'data']
    arguments += ['--split', 'val']
    assert replay(*arguments)[0] == 0
    accuracy = load(tmp_path / 'out')['accuracy']
    assert accuracy['masks'] == accuracy['images'] == 3
    assert accuracy['semantic']['miou'] is not None
    assert '1 frames without ground truth of their stamp are not graded' in accuracy['notes']
    assert accuracy['truth'] == 'cityscapes data, split val, within 1 ms'
    status, _, errors = replay(*arguments, '--truth-tolerance-ms', '200')  # it would be another result
    assert status == 1
    assert 'other settings' in errors[0]
    assert replay(*arguments, '--truth-tolerance-ms', '200', '--overwrite')[0] == 0
    assert load(tmp_path / 'out')['accuracy']['masks'] == 4

