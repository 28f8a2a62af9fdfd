from __future__ import annotations

import dataclasses
import json
import resource
import shutil
import signal
import time
from pathlib import Path

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official  # noqa: N813
import cv2
import numpy as np
import pytest
from drives import FIRST_NS, LABELS, STEP_NS, frames, write
from forked import ForkedProcess
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.replay.bag_writer import BagWriter
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.drive import DriveFrame, write_drive
from sembox_ros.replay.media import VideoReader, read_image
from sembox_ros.replay.report import load_report
from sembox_ros.replay.scene_messages import COMPRESSED_IMAGE, read_detections, view_image
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input

LOW = DetectionConfig(score_threshold=0.0, max_detections=20)  # random weights find little


@pytest.fixture(scope='module')
def predictor(tiny_checkpoint_path: Path) -> Predictor:
    return Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch')


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp('drive') / 'drive', 11)


def replay(bag: Path, out: Path, predictor: Predictor, **options: object) -> dict:
    how = ReplayOptions(**{'detection': LOW, 'save': (), **options})
    return replay_bag(open_input(bag, how.topics), out, predictor, how, progress=False)


@pytest.mark.usefixtures('with_page')
def test_everything_comes_of_a_bag(bag: Path, predictor: Predictor, tmp_path: Path):
    out = tmp_path / 'out'
    report = replay(bag, out, predictor, save=('color', 'overlay', 'video'))
    assert report == load_report(out)
    assert report['partial'] is None
    assert report['frames'] == {
        'in_bag': 11, 'processed': 11, 'skipped': {}, 'stamps': {'zero': 0, 'duplicate': 0, 'backwards': 0}, 'lost': 0,
    }  # fmt: skip
    assert report['accuracy']['masks'] == report['accuracy']['images'] == 11
    assert np.sum(report['accuracy']['confusion']['counts']) == 11 * 96 * 192
    assert report['stability']['frame_pairs'] == 10
    stages = ['decode', 'network', 'postprocess', 'preprocess', 'read', 'total', 'write']
    assert sorted(report['speed']['latency_ms']) == stages
    assert sum(report['timeline']['processed']) == 11
    assert report['worst']
    assert all((out / entry['picture']).is_file() for entry in report['worst'])
    assert 'overlay.mp4' in {path.name for path in out.iterdir()}
    assert len(list(VideoReader(out / 'overlay.mp4'))) == 11
    assert len((out / 'frames.csv').read_text().splitlines()) == 12
    assert not (out / 'parts').exists()
    assert (out / 'report.html').stat().st_size > 10_000


def test_the_bag_of_outputs_has_the_headers_of_the_input(bag: Path, predictor: Predictor, tmp_path: Path):
    replay(bag, tmp_path / 'out', predictor, save=('color', 'overlay'), confidence=True)
    seen: dict[str, list] = {}
    for entry in read_bag(tmp_path / 'out' / 'bag'):
        seen.setdefault(entry.topic, []).append(entry)
    stamps = [FIRST_NS + i * STEP_NS for i in range(11)]
    published = (
        'segmentation/mask', 'segmentation/confidence', 'segmentation/color', 'overlay', 'detections',
        'panoptic/instances', 'panoptic/color',
    )  # fmt: skip
    for topic in published:
        entries = seen.pop(f'/{topic}')
        assert [e.stamp_ns for e in entries] == [e.received_ns for e in entries] == stamps, topic
        assert {e.message.header.frame_id for e in entries} == {'camera'}
    assert sorted(seen) == ['/detections/label_info', '/segmentation/label_info']
    assert seen['/detections/label_info'][0].message.threshold == 0
    truth = next(frames(1))
    [scene] = predictor.predict([truth.image], detection=LOW)
    masks = [view_image(e.message) for e in read_bag(tmp_path / 'out' / 'bag', ['/segmentation/mask'])]
    np.testing.assert_array_equal(masks[0], scene.semantic)


def test_two_runs_give_the_same_and_batches_do_not_matter(bag: Path, predictor: Predictor, tmp_path: Path):
    digests = {
        replay(bag, tmp_path / f'{batch}_{turn}', predictor, batch=batch)['outputs_sha256']
        for turn, batch in enumerate((4, 4, 1))
    }
    assert len(digests) == 1
    other = replay(bag, tmp_path / 'other', predictor, detection=dataclasses.replace(LOW, max_detections=1))
    assert other['outputs_sha256'] not in digests


def test_scores_are_those_of_the_official_tools(bag: Path, predictor: Predictor, tmp_path: Path):
    report = replay(bag, tmp_path / 'out', predictor, save=('masks', 'coco'))
    out = tmp_path / 'out'
    official.args.JSONOutput = False
    official.args.quiet = True
    official.args.evalInstLevelScore = False
    truths = sorted(str(p) for p in (out / 'ground_truth').glob('*_gtFine_labelIds.png'))
    masks = sorted(str(p) for p in (out / 'masks').glob('*_predLabelIds.png'))
    assert len(truths) == len(masks) == 11
    scores = official.evaluateImgLists(masks, truths, official.args)
    ours = report['accuracy']['semantic']
    assert ours['miou'] == pytest.approx(scores['averageScoreClasses'], abs=1e-9)
    for name, value in ours['iou_per_class'].items():
        theirs = scores['classScores'][name]
        assert (value is None and np.isnan(theirs)) or value == pytest.approx(theirs, abs=1e-9), name

    truth = COCO(str(out / 'coco' / 'ground_truth.json'))
    evaluation = COCOeval(truth, truth.loadRes(str(out / 'coco' / 'detections.json')), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    boxes = report['accuracy']['boxes']
    names = ('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium', 'ap_large')
    for name, theirs in zip(names, evaluation.stats[:6], strict=True):
        assert (boxes[name] is None and theirs == -1) or boxes[name] == pytest.approx(theirs, abs=1e-9), name
    assert boxes['ap'] is not None


def test_a_bag_without_truth_still_says_something(predictor: Predictor, tmp_path: Path):
    bare = (DriveFrame(f.stamp_ns, f.image) for f in frames(5))
    write_drive(tmp_path / 'bare', bare, labels=None)
    report = replay(tmp_path / 'bare', tmp_path / 'out', predictor)
    assert report['accuracy'] is None
    assert 0 <= report['stability']['mask_agreement'] <= 1
    assert sum(report['stability']['class_share'].values()) == pytest.approx(1)
    counts = report['stability']['confidence_histogram']['counts']
    assert sum(counts) == 4 * 96 * 192 / 4  # of the first batch, every second row and column
    assert report['worst'][0]['measure'] == 'mask agreement'
    assert any(share is not None for line in report['timeline']['class_share'].values() for share in line)


def test_several_cameras_have_topics_and_truth_of_their_own(predictor: Predictor, tmp_path: Path):
    both = [f for pair in zip(frames(4, camera='left'), frames(4, camera='right', seed=1), strict=True) for f in pair]
    write_drive(tmp_path / 'drive', both, labels=LABELS, topic='/image_raw')
    with pytest.raises(DatasetError, match=r'several image topics.*left.*right'):
        open_input(tmp_path / 'drive', ())
    report = replay(tmp_path / 'drive', tmp_path / 'out', predictor, topics=('all',), save=('video',))
    assert [camera['name'] for camera in report['bag']['cameras']] == ['left', 'right']
    assert report['accuracy']['masks'] == report['frames']['processed'] == 8
    topics = {entry.topic for entry in read_bag(tmp_path / 'out' / 'bag')}
    wanted = {'/left/segmentation/mask', '/right/detections', '/right/detections/label_info'}
    assert wanted <= topics
    assert (tmp_path / 'out' / 'overlay_left.mp4').is_file()


def test_bad_frames_are_counted_with_their_reason(predictor: Predictor, tmp_path: Path):
    """A truncated jpeg, a stamp of zero, one that is there twice and one that goes back."""
    stamps = [0, 3, 3, 2, 5, 6]
    drive = [dataclasses.replace(f, stamp_ns=FIRST_NS + i) for i, f in enumerate(frames(6))]
    write_drive(tmp_path / 'drive', drive, labels=LABELS, compressed=True)
    damage(tmp_path / 'drive', stamps, truncated=4)
    report = replay(tmp_path / 'drive', tmp_path / 'out', predictor)
    [(reason, count)] = report['frames']['skipped'].items()
    assert 'truncated' in reason
    assert count == 1
    assert report['frames']['processed'] == 5
    assert report['frames']['stamps'] == {'zero': 1, 'duplicate': 1, 'backwards': 1}
    assert 'without ground truth' in ' '.join(report['accuracy']['notes'])


def damage(bag: Path, stamps: list[int], *, truncated: int) -> None:
    """Write the images of a bag again, with other stamps and half of one jpeg."""
    topic = '/camera/image_raw/compressed'
    entries = list(read_bag(bag))
    shutil.rmtree(bag)
    number = 0
    with BagWriter(bag) as writer:
        for entry in entries:
            message = entry.message
            if entry.topic == topic:
                seconds, nanoseconds = divmod(FIRST_NS + stamps[number] if stamps[number] else 0, 10**9)
                message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
                if number == truncated:
                    message.data = message.data[: len(message.data) // 2]
                number += 1
                writer.write(topic, COMPRESSED_IMAGE, entry.received_ns, message)
            elif entry.topic.endswith('/mask'):
                writer.write(entry.topic, 'sensor_msgs/msg/Image', entry.received_ns, message)
    assert number == len(stamps)


def test_a_folder_that_is_there_is_not_taken(bag: Path, predictor: Predictor, tmp_path: Path):
    foreign = tmp_path / 'thesis'
    foreign.mkdir()
    (foreign / 'chapter1.txt').write_text('years of work')
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match='no replay made it'):
            replay(bag, foreign, predictor, overwrite=overwrite)
    assert (foreign / 'chapter1.txt').read_text() == 'years of work'

    out = tmp_path / 'out'
    first = replay(bag, out, predictor)
    before = (out / 'report.json').stat().st_mtime_ns
    assert replay(bag, out, predictor) == first  # finished: nothing is done again
    assert (out / 'report.json').stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r'other settings \(batch was 4, is 2\).*--overwrite'):
        replay(bag, out, predictor, batch=2)
    (out / 'notes.txt').write_text('mine')
    assert replay(bag, out, predictor, batch=2, overwrite=True)['network']['batch'] == 2
    assert (out / 'notes.txt').read_text() == 'mine'


def start_replay(bag: Path, out: Path, checkpoint: Path, log: Path) -> ForkedProcess:
    arguments = ['replay', str(bag), '--out', str(out), '--checkpoint', str(checkpoint), '--device', 'cpu']
    arguments += ['--engine', 'torch', '--save', 'video', '--score-threshold', '0', '--max-detections', '20']
    return ForkedProcess('sembox_ros', arguments, log)


@pytest.fixture(scope='module')
def long_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than one part."""
    return write(tmp_path_factory.mktemp('long') / 'drive', 180, size_hw=(64, 128))


@pytest.fixture(scope='module')
def whole(long_bag: Path, tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> dict:
    """The report of its replay in one go."""
    return replay(long_bag, tmp_path_factory.mktemp('whole') / 'out', predictor)


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_replay_goes_on(
    tmp_path: Path, tiny_checkpoint_path: Path, long_bag: Path, whole: dict, how: int
):
    bag, out, log = long_bag, tmp_path / 'out', tmp_path / 'log'
    process = start_replay(bag, out, tiny_checkpoint_path, log)
    wanted = out / 'parts' / ('0001.unfinished' if how == signal.SIGKILL else '0000.unfinished')
    deadline = time.monotonic() + 60
    while not wanted.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(how)
    status = process.wait(60)
    if how == signal.SIGINT:
        assert status == 130, log.read_text()
        report = load_report(out)
        assert report['partial'] == 'interrupted'
        assert 0 < report['frames']['processed'] < 180
        assert len(list(VideoReader(out / 'overlay.mp4'))) == report['frames']['processed']
        assert sum(1 for _ in read_bag(out / 'bag', ['/segmentation/mask'])) == report['frames']['processed']
    else:
        assert status == -signal.SIGKILL
        assert not (out / 'report.json').exists()

    status = start_replay(bag, out, tiny_checkpoint_path, log).wait(120)
    printed = log.read_text()
    assert status == 0, printed
    report = load_report(out)
    assert report['partial'] is None
    assert report['frames']['processed'] == report['accuracy']['masks'] == 180
    assert f'sha256 {report["outputs_sha256"][:16]}' in printed
    assert report['outputs_sha256'] == whole['outputs_sha256']
    for section in ('accuracy', 'stability'):
        assert report[section] == whole[section]
    assert len(list(VideoReader(out / 'overlay.mp4'))) == 180
    assert sum(1 for _ in read_bag(out / 'bag', ['/segmentation/mask'])) == 180


def test_a_full_disk_ends_it_in_one_line_and_keeps_what_was_finished(
    tmp_path: Path, tiny_checkpoint_path: Path, long_bag: Path
):
    out, log = tmp_path / 'out', tmp_path / 'log'
    process = start_replay(long_bag, out, tiny_checkpoint_path, log)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (60_000, 60_000))
    assert process.wait(120) == 1
    errors = log.read_text()
    lines = [line for line in errors.splitlines() if line.startswith('replay:') and 'frame' not in line]
    assert len(lines) == 1, errors
    assert 'cannot be written: File too large' in lines[0]
    assert 'Traceback' not in errors


def test_a_truth_that_does_not_fit_is_noted(predictor: Predictor, tmp_path: Path):
    drive = list(frames(3))
    drive[1] = dataclasses.replace(drive[1], semantic=np.zeros((10, 10), np.uint8))
    write_drive(tmp_path / 'drive', drive, labels=LABELS)
    report = replay(tmp_path / 'drive', tmp_path / 'out', predictor)
    assert report['accuracy']['masks'] == 2
    assert any('does not fit its frame' in note for note in report['accuracy']['notes'])


def test_truth_that_cannot_be_used_is_told(predictor: Predictor, tmp_path: Path):
    write(tmp_path / 'drive', 3)
    entries = list(read_bag(tmp_path / 'drive'))
    shutil.rmtree(tmp_path / 'drive')
    with BagWriter(tmp_path / 'drive') as writer:
        for entry in entries:
            if entry.topic.endswith('/mask') and entry.stamp_ns == FIRST_NS + STEP_NS:
                entry.message.data = entry.message.data[:100]
            writer.write(entry.topic, entry.message.__msgtype__, entry.received_ns, entry.message)
    report = replay(tmp_path / 'drive', tmp_path / 'out', predictor)
    assert report['accuracy']['masks'] == 2
    assert report['accuracy']['images'] == 3
    [note] = [n for n in report['accuracy']['notes'] if 'cannot be used' in n]
    assert note.startswith('1 x ground truth that cannot be used: /ground_truth/segmentation/mask: ')


def test_pictures_of_the_worst_frames_show_the_frame(bag: Path, predictor: Predictor, tmp_path: Path):
    report = replay(bag, tmp_path / 'out', predictor)
    entry = report['worst'][0]
    picture = read_image(tmp_path / 'out' / entry['picture'])
    index = (entry['stamp_ns'] - FIRST_NS) // STEP_NS
    assert entry['caption'].endswith(f'frame {index}')
    image = next(f.image for i, f in enumerate(frames(11)) if i == index)
    # The image is the first panel, enlarged; look for it wherever the title leaves it.
    fits = [
        cv2.matchTemplate(picture, cv2.resize(image, None, fx=scale, fy=scale), cv2.TM_CCOEFF_NORMED).max()
        for scale in np.arange(2.0, 3.75, 0.25)
    ]
    assert max(fits) > 0.9


def test_published_boxes_are_those_above_the_threshold(bag: Path, predictor: Predictor, tmp_path: Path):
    scores = [scene.detections.scores for scene in predictor.predict([f.image for f in frames(11)], detection=LOW)]
    middle = round(float(np.median(np.concatenate(scores))), 4)
    high = dataclasses.replace(LOW, score_threshold=middle)
    report = replay(bag, tmp_path / 'out', predictor, detection=high)
    boxes = [
        read_detections(entry.message, predictor.labels.detection)
        for entry in read_bag(tmp_path / 'out' / 'bag', ['/detections'])
    ]
    assert len(boxes) == 11
    assert [len(found) for found in boxes] == [int((s >= middle).sum()) for s in scores]
    assert 0 < sum(map(len, boxes)) < sum(map(len, scores))
    assert report['network']['score_threshold'] == middle
    assert json.loads((tmp_path / 'out' / 'replay.json').read_text())['detection']['score_threshold'] == middle
