from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drives import LABELS, write
from sample_bags import IMAGE, SQLITE, STORE, TOPIC, Writer, image_message, write_rows

from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.replay import offline
from sembox_ros.replay.grading import MOST_REASONS, ReplayGrader
from sembox_ros.replay.media import VideoReader
from sembox_ros.replay.parts import FrameRecord, video_names
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input

SECOND_NS = 10**9


@pytest.fixture(scope='module')
def predictor(tiny_checkpoint_path: Path) -> Predictor:
    return Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch')


def replay(bag: Path, out: Path, predictor: Predictor, **options: object) -> dict:
    how = ReplayOptions(**{'detection': DetectionConfig(max_detections=5), 'save': (), **options})
    return replay_bag(open_input(bag, how.topics), out, predictor, how, progress=False)


def grey(height: int, width: int, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_a_topic_without_messages_is_one_line_and_no_choice(tmp_path: Path):
    writer = Writer(tmp_path / 'a', version=9, storage_plugin=SQLITE)
    with writer:
        writer.add_connection(TOPIC, IMAGE, typestore=STORE)
    with pytest.raises(DatasetError, match=f'a has no messages on {TOPIC}'):
        open_input(tmp_path / 'a', ())

    writer = Writer(tmp_path / 'b', version=9, storage_plugin=SQLITE)
    with writer:
        writer.add_connection('/silent/image_raw', IMAGE, typestore=STORE)
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE)
        data = STORE.serialize_cdr(image_message(grey(4, 4), SECOND_NS), IMAGE)
        writer.write(connection, SECOND_NS, data)
    assert [camera.name for camera in open_input(tmp_path / 'b', ()).cameras.values()] == [TOPIC]


def test_images_of_one_pixel_and_a_batch_larger_than_the_bag(predictor: Predictor, tmp_path: Path):
    rows = [(TOPIC, IMAGE, i * SECOND_NS, image_message(grey(1, 1), i * SECOND_NS)) for i in (1, 2)]
    bag = write_rows(tmp_path / 'bag', rows)
    report = replay(bag, tmp_path / 'out', predictor, batch=8, save=('color', 'overlay', 'video', 'coco'))
    assert report['frames']['processed'] == 2


def test_a_camera_that_changes_its_size_has_a_video_that_plays(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(offline, 'PART_FRAMES', 2)  # so that the change comes with a new part
    images = [grey(64, 128)] * 2 + [grey(96, 96)] * 2
    stamps = [i * SECOND_NS for i in range(1, 5)]
    rows = [(TOPIC, IMAGE, s, image_message(i, s)) for i, s in zip(images, stamps, strict=True)]
    bag = write_rows(tmp_path / 'bag', rows)
    replay(bag, tmp_path / 'out', predictor, batch=2, save=('video',), overlay_alpha=0.0)
    frames = list(VideoReader(tmp_path / 'out' / 'overlay.mp4'))
    assert [frame.shape for frame in frames] == [(64, 128, 3)] * 4
    assert abs(int(frames[2][32, 64].mean()) - 90) < 8  # the square image in the middle
    assert frames[2][32, 10].mean() < 8  # and black beside it


def test_cameras_of_different_sizes_share_a_batch_but_no_times(predictor: Predictor, tmp_path: Path):
    rows = [
        (f'/{camera}/image_raw', IMAGE, i * SECOND_NS, image_message(grey(*size), i * SECOND_NS))
        for i in (1, 2)
        for camera, size in (('wide', (64, 256)), ('square', (96, 96)))
    ]
    seen: list[dict] = []
    predict = predictor.predict

    def listen(images: list, **options: object) -> list:
        scenes = predict(images, **options)
        seen.extend(dict(scene.timings_ms) for scene in scenes)
        return scenes

    predictor.predict = listen  # type: ignore[method-assign]
    try:
        report = replay(write_rows(tmp_path / 'bag', rows), tmp_path / 'out', predictor, topics=('all',), batch=4)
    finally:
        predictor.predict = predict  # type: ignore[method-assign]
    runs = {timings['network'] for timings in seen[-4:]}
    assert len(runs) == 2
    assert report['speed']['latency_ms']['network']['mean'] == pytest.approx(sum(runs) / 4, rel=0.01)


def test_reasons_that_differ_in_each_frame_are_counted_together():
    grader = ReplayGrader(LABELS, None, score_threshold=0.3, start_ns=0, duration_s=1.0)
    for index in range(3000):
        reason = 'truncated' if index % 3 == 0 else f'{index} bytes could not be decoded'
        grader.add(FrameRecord(index, '', index, index, reason), None)
    skipped = grader.frames(3000, 0)['skipped']
    assert skipped['truncated'] == 1000
    assert len(skipped) == MOST_REASONS + 1
    assert sum(skipped.values()) == 3000


def test_names_of_videos_differ_and_stay_in_the_folder():
    names = video_names(['', 'a/b', 'a_b', '../../etc', 'nul\0', 'x' * 300])
    assert names[:3] == ['overlay.mp4', 'overlay_a_b.mp4', 'overlay_a_b_2.mp4']
    assert len(set(names)) == 6
    assert all(Path(name).name == name and '\0' not in name and len(name) < 100 for name in names)


def test_a_replay_that_goes_on_counts_the_time_of_all_its_sessions(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(offline, 'PART_FRAMES', 4)
    bag, out = write(tmp_path / 'drive', 13), tmp_path / 'out'
    predict, calls = predictor.predict, []

    def interrupt(images: list, **options: object) -> list:
        calls.append(len(images))
        if len(calls) == 4:  # the first is the warm-up
            raise KeyboardInterrupt
        return predict(images, **options)

    monkeypatch.setattr(predictor, 'predict', interrupt)
    with pytest.raises(KeyboardInterrupt):
        replay(bag, out, predictor)
    first = [float((part / 'seconds.json').read_text()) for part in sorted((out / 'parts').iterdir())]
    assert len(first) == 2
    report = replay(bag, out, predictor)
    assert report['frames']['processed'] == 13
    assert report['speed']['seconds'] > sum(first)
    assert report['speed']['frames_per_s'] == pytest.approx(13 / report['speed']['seconds'], rel=0.01)


def test_another_version_does_not_go_on(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bag = write(tmp_path / 'drive', 2)
    replay(bag, tmp_path / 'out', predictor)
    monkeypatch.setattr('sembox_ros.replay.session.__version__', '99.0')
    with pytest.raises(ConfigError, match=r'sembox_ros was .*"99.0"'):
        replay(bag, tmp_path / 'out', predictor)
