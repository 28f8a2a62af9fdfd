"""A bag played into DDS and recorded again is the same bag."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from harness import wait_until

from sembox_ros.replay.bags import choose_image_topics, read_bag
from sembox_ros.replay.drive import write_image_bag


def run_module(module: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-m', f'sembox_ros.ros.{module}', *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_what_is_played_is_what_is_recorded(tmp_path: Path):
    generator = np.random.default_rng(1)
    frames = [
        (10**9 * 1000 + i * 50_000_001, generator.integers(0, 256, (30, 41 + i, 3), dtype=np.uint8)) for i in range(8)
    ]
    write_image_bag(tmp_path / 'in', frames, topic='/camera/image_raw', frame_id='left ü')
    recorder = run_module('recorder', str(tmp_path / 'out'), '/camera/image_raw')
    player = run_module('player', str(tmp_path / 'in'), '--no-progress', '--rate', '2')
    output, _ = player.communicate(timeout=60)
    assert player.returncode == 0, output
    assert 'played 8 messages' in output
    recorder.terminate()
    output, _ = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, output
    [topic] = choose_image_topics(tmp_path / 'out')
    assert topic == ('/camera/image_raw', 'sensor_msgs/msg/Image', 8)
    messages = list(read_bag(tmp_path / 'out'))
    for (stamp_ns, image), entry in zip(frames, messages, strict=True):
        assert entry.stamp_ns == stamp_ns
        assert entry.message.header.frame_id == 'left ü'
        assert (entry.message.height, entry.message.width) == image.shape[:2]
        assert (entry.message.data == image.reshape(-1)).all()
    intervals = np.diff([entry.received_ns for entry in messages]) * 1e-9
    assert 0.01 < np.median(intervals) < 0.1  # 25 ms at twice the rate


def test_the_player_says_what_is_wrong(tmp_path: Path):
    (tmp_path / 'text.mcap').write_text('not a bag')
    write_image_bag(tmp_path / 'in', [(5, np.zeros((4, 4, 3), np.uint8))], topic='/a')
    for args, reason in (
        ((str(tmp_path / 'none'),), 'does not exist'),
        ((str(tmp_path / 'text.mcap'),), 'cannot be read'),
        ((str(tmp_path / 'in'), '--topics', '/b'), 'topics in it: /a'),
    ):
        player = run_module('player', *args)
        output, _ = player.communicate(timeout=60)
        assert player.returncode == 1
        assert reason in output
        assert 'Traceback' not in output


def test_the_recorder_refuses_to_overwrite(tmp_path: Path):
    (tmp_path / 'out').mkdir()
    recorder = run_module('recorder', str(tmp_path / 'out'), '/a')
    output, _ = recorder.communicate(timeout=60)
    assert recorder.returncode == 1
    assert 'out' in output
    assert 'Traceback' not in output


def test_the_recorder_ends_on_a_signal_with_a_readable_bag(tmp_path: Path):
    recorder = run_module('recorder', str(tmp_path / 'out'), '/rosout')
    assert recorder.stdout is not None
    wait_until(lambda: 'recording /rosout' in recorder.stdout.readline(), 'the recorder to listen')
    recorder.send_signal(2)
    output, _ = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, output
    assert all(entry.topic == '/rosout' for entry in read_bag(tmp_path / 'out'))
