"""A bag played into the real node over DDS, and every number of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness import wait_until
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sembox_ros.errors import DatasetError, SemboxError
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.drive import write_image_bag
from sembox_ros.replay.live import INTERRUPTED, LiveRun, run_live
from sembox_ros.replay.live_numbers import online_section

FIRST_NS = 1_700_000_000 * 10**9
PERIOD_NS = 100_000_000
RECORD = ('/segmentation/mask', '/detections', '/detections/label_info')


def write_bag(path: Path, frames: int, late_ns: int = 0) -> Path:
    """Images at 10 Hz; from the middle on, they were recorded `late_ns` after their stamps."""
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (128, 256, 3), dtype=np.uint8)
    if not late_ns:
        write_image_bag(path, ((FIRST_NS + i * PERIOD_NS, image) for i in range(frames)), topic='/cam')
        return path
    store = get_typestore(Stores.LATEST)
    make = {name.rpartition('/')[2]: kind for name, kind in store.types.items()}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/cam', 'sensor_msgs/msg/Image', typestore=store)
        for index in range(frames):
            bag_ns = FIRST_NS + index * PERIOD_NS
            seconds, nanoseconds = divmod(bag_ns - (late_ns if index >= frames // 2 else 0), 10**9)
            header = make['Header'](stamp=make['Time'](sec=seconds, nanosec=nanoseconds), frame_id='camera')
            message = make['Image'](
                header=header, height=128, width=256, encoding='rgb8', is_bigendian=0, step=768, data=image.reshape(-1)
            )
            writer.write(connection, bag_ns, store.serialize_cdr(message, 'sensor_msgs/msg/Image'))
    return path


@pytest.fixture
def play(tmp_path: Path, tiny_checkpoint_path: Path) -> Callable[..., LiveRun]:
    """Run a bag live, on the domain of the tests."""

    # An engine that is named starts sooner.
    def run(bag: Path, cameras: dict[str, str] | None = None, **options) -> LiveRun:
        parameters = {'checkpoint': str(tiny_checkpoint_path), 'engine': 'torch', **options.pop('node_parameters', {})}
        return run_live(
            bag, cameras or {'': '/cam'}, tmp_path / 'out',
            **{'record': RECORD, 'node_parameters': parameters, 'progress': False, **options},
        )  # fmt: skip

    return run


def processes_of(folder: Path) -> list[int]:
    """Processes that were started with something in that folder as an argument."""
    found = []
    for entry in Path('/proc').iterdir():
        try:
            if str(folder).encode() in (entry / 'cmdline').read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def check_consistency(run: LiveRun, frames: int) -> dict:
    """What has to hold in every complete run; returns its section of the report."""
    section = online_section(run)
    counts = section['counts']
    assert run.partial is None
    assert section['played'] == len(run.frames) == frames
    assert counts['received'] == sum(n for name, n in counts.items() if name != 'received')
    assert counts['received'] == frames  # small images at 10 Hz are not lost
    masks = list(read_bag(run.recorded, ['/segmentation/mask']))
    assert section['answered'] == counts['processed'] == len(masks)
    arrivals = {entry.stamp_ns: entry.received_ns for entry in masks}
    for frame in run.frames:
        assert frame.answered_ns == arrivals.get(frame.stamp_ns)
        assert frame.end_to_end_ms is None or 0 < frame.end_to_end_ms < 60_000
    return section


def test_every_number_of_a_run(tmp_path: Path, play: Callable[..., LiveRun]):
    run = play(write_bag(tmp_path / 'in', 20))
    section = check_consistency(run, 20)
    assert section['counts']['processed'] > 0
    assert section['counts']['idle'] == section['counts']['stale'] == 0
    assert [frame.stamp_ns for frame in run.frames] == [FIRST_NS + i * PERIOD_NS for i in range(20)]
    intervals = np.diff([frame.played_ns for frame in run.frames])
    assert 0.05 < np.median(intervals) * 1e-9 < 0.2
    # The bag's times are its stamps, so the age is the time end to end; the node's own time is a part of that.
    assert section['age_ms'] == pytest.approx(section['end_to_end_ms'])
    assert 0 < section['stages_ms']['network']['p50'] < section['end_to_end_ms']['max']
    assert 0 < section['throughput_hz'] < 20
    assert section['cpu_percent_mean'] > 0
    assert 50 < section['memory_mib_max'] < 10_000
    samples = section['samples']
    assert len({len(values) for values in samples.values()}) == 1
    assert all(later >= earlier for earlier, later in zip(samples['received'], samples['received'][1:], strict=False))
    assert samples['received'][-1] > 0
    assert {entry.topic for entry in read_bag(run.recorded)} == {*RECORD, '/diagnostics'}
    assert not processes_of(tmp_path / 'out')


def test_stale_means_old_by_the_time_of_the_bag(tmp_path: Path, play: Callable[..., LiveRun]):
    """The stamps are of 2023; half of them are too old for the time at which they were recorded."""
    run = play(write_bag(tmp_path / 'in', 12, late_ns=30 * 10**9), node_parameters={'max_age_s': 20.0}, rate=1.5)
    section = check_consistency(run, 12)
    assert section['counts']['stale'] == 6
    assert all(frame.answered_ns is None for frame in run.frames[6:])


def test_cameras_are_told_apart(tmp_path: Path, play: Callable[..., LiveRun]):
    store = get_typestore(Stores.LATEST)
    bag = write_bag(tmp_path / 'in', 6)
    with Writer(tmp_path / 'two', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        entries = list(read_bag(bag))
        for camera in ('/cam', '/other'):
            connection = writer.add_connection(camera, 'sensor_msgs/msg/Image', typestore=store)
            for entry in entries:
                data = store.serialize_cdr(entry.message, 'sensor_msgs/msg/Image')
                writer.write(connection, entry.received_ns, data)
    record = [f'/{camera}/detections' for camera in ('left', 'rear/wide')]
    run = play(tmp_path / 'two', {'left': '/cam', 'rear/wide': '/other'}, record=record)
    section = online_section(run)
    assert section['played'] == section['counts']['received'] == 12
    assert {frame.camera for frame in run.frames} == {'left', 'rear/wide'}
    assert section['answered'] == section['counts']['processed'] == len(list(read_bag(run.recorded, record)))
    assert all(run.frames[-i].answered_ns for i in (1, 2))


SCRIPT = """
import sys
from pathlib import Path
from sembox_ros.replay.live import run_live
bag, out, checkpoint = sys.argv[1:]
parameters = {'checkpoint': checkpoint, 'engine': 'torch'}
run = run_live(Path(bag), {'': '/cam'}, Path(out), record=['/detections'], node_parameters=parameters)
print(run.partial, len(run.frames), sum(f.answered_ns is not None for f in run.frames))
"""


def test_ctrl_c_keeps_what_was_recorded(tmp_path: Path, tiny_checkpoint_path: Path):
    bag, out = write_bag(tmp_path / 'in', 300), tmp_path / 'out'
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT, str(bag), str(out), str(tiny_checkpoint_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    recorded = out / 'recorded.csv'
    wait_until(lambda: recorded.exists() and recorded.read_text().count('/detections,') >= 3, 'three answers')
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert 'node starting on ROS domain' in errors
    assert 'Traceback' not in errors
    partial, played, answered = printed.split()
    assert partial == INTERRUPTED
    assert 3 <= int(answered) <= int(played) < 300
    assert len(list(read_bag(out / 'bag', ['/detections']))) >= int(answered)
    assert not processes_of(out)


def test_a_killed_node_is_an_error_and_the_recording_is_kept(tmp_path: Path, play: Callable[..., LiveRun]):
    bag, out = write_bag(tmp_path / 'in', 300), tmp_path / 'out'

    def kill_node() -> None:
        recorded = out / 'recorded.csv'
        wait_until(lambda: recorded.exists() and recorded.read_text().count('/detections,') >= 3, 'three answers')
        [node] = [p for p in processes_of(out) if b'ros.node' in Path(f'/proc/{p}/cmdline').read_bytes()]
        os.kill(node, signal.SIGKILL)

    killer = threading.Thread(target=kill_node)
    killer.start()
    with pytest.raises(SemboxError, match=r'the node was ended by SIGKILL; the last line of .*node\.log: .*input: '):
        play(bag)
    killer.join()
    assert len(list(read_bag(out / 'bag', ['/detections']))) >= 3
    assert not processes_of(out)


def test_what_cannot_start_says_why(tmp_path: Path, play: Callable[..., LiveRun]):
    bag = write_bag(tmp_path / 'in', 3)
    start = time.monotonic()
    with pytest.raises(SemboxError, match=r'the node ended with status 1; the last line of .*nowhere\.safetensors'):
        play(bag, node_parameters={'checkpoint': '/nowhere.safetensors'})
    with pytest.raises(DatasetError, match='exists already'):
        play(bag)
    assert time.monotonic() - start < 60
    assert not processes_of(tmp_path / 'out')


def test_a_bag_that_cannot_be_played_says_why(tmp_path: Path, play: Callable[..., LiveRun]):
    with pytest.raises(SemboxError, match=r'the player ended with status 1; .* has nothing to play'):
        play(write_bag(tmp_path / 'in', 3), {'': '/other'})
