"""A bag played into DDS and recorded again is the same bag."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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


def test_the_time_of_the_bag_is_published_and_both_sides_keep_a_log(tmp_path: Path):
    begin_ns, step_ns = 10**9 * 1000, 50_000_000
    frames = [(begin_ns + i * step_ns, np.zeros((4, 4, 3), np.uint8)) for i in range(8)]
    write_image_bag(tmp_path / 'in', frames, topic='/a')
    arrived, played = tmp_path / 'arrived.csv', tmp_path / 'played.csv'
    recorder = run_module('recorder', str(tmp_path / 'out'), '/a', '/clock', '--log', str(arrived))
    player = run_module(
        'player', str(tmp_path / 'in'), '--no-progress', '--rate', '0.5', '--clock', '100', '--log', str(played)
    )
    output, _ = player.communicate(timeout=60)
    assert player.returncode == 0, output
    recorder.terminate()
    output, _ = recorder.communicate(timeout=20)
    assert recorder.returncode == 0, output
    clock = [e.message.clock.sec * 10**9 + e.message.clock.nanosec for e in read_bag(tmp_path / 'out', ['/clock'])]
    assert clock == sorted(clock)
    assert begin_ns <= clock[0] < begin_ns + step_ns
    assert clock[-1] > begin_ns + 7 * step_ns
    assert np.median(np.diff([t for t in clock if t > begin_ns])) == pytest.approx(
        0.5 * 10**7, rel=0.5
    )  # half the rate
    rows = [line.split(',') for line in played.read_text().splitlines()[1:]]
    assert [(row[0], int(row[1]), int(row[2])) for row in rows] == [('/a', stamp, stamp) for stamp, _ in frames]
    images = list(read_bag(tmp_path / 'out', ['/a']))
    logged = [line.split(',') for line in arrived.read_text().splitlines() if line.startswith('/a,')]
    assert [(int(row[1]), int(row[3])) for row in logged] == [(e.stamp_ns, e.received_ns) for e in images]
    assert all(0 < int(b[3]) - int(a[3]) < 5 * 10**9 for a, b in zip(rows, logged, strict=True))


def test_a_damaged_bag_is_played_up_to_the_damage(tmp_path: Path):
    noise = np.random.default_rng(2).integers(0, 256, (600, 600, 3), dtype=np.uint8)  # a chunk of the bag each
    write_image_bag(tmp_path / 'in', [(10**18 + i, noise) for i in range(4)], topic='/a')
    file = tmp_path / 'in' / 'in.mcap'
    data = bytearray(file.read_bytes())
    pixels = [match.start() for match in re.finditer(re.escape(noise.tobytes()[:64]), data)]
    data[pixels[2] - 300 : pixels[2]] = bytes([255]) * 300  # the third message and what its chunk begins with
    file.write_bytes(data)
    player = run_module('player', str(tmp_path / 'in'), '--wait', '0', '--no-progress', '--log', str(tmp_path / 'log'))
    output, _ = player.communicate(timeout=60)
    assert player.returncode == 1
    assert 'player: bag: damaged from here on' in output.splitlines()[-1]
    assert len((tmp_path / 'log').read_text().splitlines()) == 1 + 2


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
