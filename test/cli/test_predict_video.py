"""`predict --video` as a user runs it: folders of frames and videos in, one video of overlays out."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from forked import ForkedProcess

from sembox_ros.cli import main
from sembox_ros.replay.media import VideoReader, VideoWriter, write_image


@pytest.fixture
def network(tiny_checkpoint_path: Path) -> list[str]:
    return ['--checkpoint', str(tiny_checkpoint_path), '--device', 'cpu', '--engine', 'torch', '--max-detections', '3']


def grey(value: int, height: int = 49, width: int = 65) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    for index in range(12):
        write_image(tmp_path / 'frames' / f'{index}.png', grey(index * 20))
    return tmp_path / 'frames'


@pytest.fixture
def film(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / 'drive.mp4', 15.0) as writer:
        for index in range(5):
            writer.write(grey(index * 50, 48, 64))
    return tmp_path / 'drive.mp4'


def levels(video: Path) -> list[float]:
    return [float(frame.mean()) for frame in VideoReader(video)]


def test_a_folder_of_frames_becomes_a_video_in_their_order(frames: Path, tmp_path: Path, network: list[str], capsys):
    out = tmp_path / 'new' / 'out.mp4'
    assert main(['predict', str(frames), '--video', str(out), '--fps', '5', '--overlay-alpha', '0', *network]) == 0
    assert f'12 image(s), 0 box(es) in {out}\n' in capsys.readouterr().out
    assert VideoReader(out).rate_hz == pytest.approx(5)
    assert [frame.shape for frame in VideoReader(out)] == [(48, 64, 3)] * 12
    assert levels(out) == pytest.approx([index * 20 for index in range(12)], abs=4)
    assert {path.name for path in tmp_path.iterdir()} == {'frames', 'new'}  # and no masks
    # Once more, into the folder itself, with the last video in it.
    for _ in range(2):
        assert main(['predict', str(frames), '--video', str(frames / '0.mp4'), *network]) == 0
        assert len(levels(frames / '0.mp4')) == 12
    assert VideoReader(frames / '0.mp4').rate_hz == pytest.approx(25)


def test_a_video_keeps_its_rate_and_with_out_comes_everything(film: Path, tmp_path: Path, network: list[str]):
    out, video = tmp_path / 'out', tmp_path / 'overlay.mp4'
    args = ['--out', str(out), '--video', str(video), '--tracking', '--score-threshold', '0', '--batch', '2']
    assert main(['predict', str(film), *args, *network]) == 0
    for written in (video, out / 'overlay' / 'drive.mp4'):
        assert VideoReader(written).rate_hz == pytest.approx(15)
        assert VideoReader(written).frame_count == 5
    assert sorted(path.name for path in (out / 'mask' / 'drive').iterdir()) == [f'{i:06d}.png' for i in range(5)]
    records = json.loads((out / 'detections.json').read_text())['images']
    assert [record['frame'] for record in records] == list(range(5))
    # What this network sees jumps with the brightness, and what is not where anything was is new to the tracker.
    assert {box['id'] for record in records for box in record['detections']} > {1, 2, 3}


def test_several_inputs_make_one_video_of_the_first_ones_size_and_rate(
    film: Path, frames: Path, tmp_path: Path, network: list[str], capsys
):
    (frames / 'bad.png').write_bytes(b'no image')
    write_image(frames / 'wide.png', grey(255, 20, 80))
    out = tmp_path / 'out.mp4'
    assert main(['predict', str(film), str(frames), '--video', str(out), *network]) == 1
    printed = capsys.readouterr()
    assert '; 1 file(s) skipped' in printed.out
    assert 'bad.png: not an image' in printed.err
    assert [frame.shape for frame in VideoReader(out)] == [(48, 64, 3)] * (5 + 12 + 1)
    assert VideoReader(out).rate_hz == pytest.approx(15)


def test_input_without_a_frame_leaves_no_video(tmp_path: Path, film: Path, network: list[str], capsys):
    (tmp_path / 'cut.mp4').write_bytes(film.read_bytes()[:300])
    (tmp_path / 'out.mp4').write_bytes(b'of the last time')
    args = ['--video', str(tmp_path / 'out.mp4')]
    assert main(['predict', str(tmp_path / 'cut.mp4'), *args, *network]) == 1
    printed = capsys.readouterr()
    assert 'cut.mp4' in printed.err
    assert '0 image(s), 0 box(es) in nothing; 1 file(s) skipped' in printed.out
    assert (tmp_path / 'out.mp4').read_bytes() == b'of the last time'


def test_what_came_before_the_damage_is_kept(tmp_path: Path, network: list[str], capsys):
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / 'noise.mp4', 10.0) as writer:
        for _ in range(40):
            writer.write(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
    whole = (tmp_path / 'noise.mp4').read_bytes()
    (tmp_path / 'noise.mp4').write_bytes(whole[: len(whole) * 3 // 4])  # the index is in front
    out = tmp_path / 'out.mp4'
    assert main(['predict', str(tmp_path / 'noise.mp4'), '--video', str(out), *network]) == 1
    assert 'damaged video' in capsys.readouterr().err
    assert 10 < len(levels(out)) < 40


@pytest.mark.parametrize(
    ('args', 'reason'),
    [
        (['--video', 'out.avi'], 'ending in .mp4'),
        (['--video', 'drive.mp4'], 'would overwrite'),
        (['--video', 'folder.mp4'], 'is a folder'),
        (['--video', 'drive.mp4/x/out.mp4'], 'cannot be written: Not a directory'),
        (['--video', 'out.mp4', '--fps', '0'], '--fps: expected a number'),
        (['--video', 'out.mp4', '--fps', 'nan'], '--fps: expected a number'),
        (['--batch', '0'], '--batch: expected 1 or more'),
    ],
)
def test_mistakes_get_one_line(film: Path, tmp_path: Path, monkeypatch, capsys, args: list[str], reason: str):
    monkeypatch.chdir(tmp_path)
    Path('folder.mp4').mkdir()
    before = film.read_bytes()
    assert main(['predict', 'drive.mp4', *args]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert reason in line
    assert film.read_bytes() == before


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_videos_that_play(tmp_path: Path, network: list[str], number: signal.Signals):
    with VideoWriter(tmp_path / 'long.mp4', 30.0) as writer:
        for index in range(3000):
            writer.write(grey(index % 256, 16, 16))
    out, video = tmp_path / 'out', tmp_path / 'out.mp4'
    args = ['predict', str(tmp_path / 'long.mp4'), '--video', str(video), '--out', str(out), *network]
    process = ForkedProcess('sembox_ros', args, tmp_path / 'log')
    deadline = time.monotonic() + 60
    while not (out / 'mask' / 'long' / '000009.png').exists():
        assert process.poll() is None, (tmp_path / 'log').read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    log = tmp_path / 'log'
    assert process.wait(30) == 130, log.read_text()
    records = json.loads((out / 'detections.json').read_text())['images']
    assert 10 <= len(records) < 3000
    assert len(levels(video)) == len(levels(out / 'overlay' / 'long.mp4')) == len(records)
    assert f'{len(records)} image(s)' in log.read_text()
    assert 'predict: interrupted' in log.read_text()
