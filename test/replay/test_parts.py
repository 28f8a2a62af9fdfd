"""Frames that are unlike each other, written in parts and read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from drives import FIRST_NS, LABELS, STEP_NS, frames
from random_networks import calibrate_norms

from sembox_ros.config import DetectionConfig, InputConfig
from sembox_ros.errors import DatasetError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import COCO_90, SceneLabels
from sembox_ros.models.checkpoint import Checkpoint, save_checkpoint
from sembox_ros.models.zoo import create_model, find_model
from sembox_ros.replay import offline
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.drive import DriveFrame, write_drive
from sembox_ros.replay.frames import Frame
from sembox_ros.replay.media import VideoReader
from sembox_ros.replay.parts import FrameRecord, PartWriter, box_rows, finished_parts, read_part
from sembox_ros.replay.scene_messages import MessageEncoder
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input
from sembox_ros.types import Detections, Scene

LOW = DetectionConfig(score_threshold=0.0, max_detections=5)


def test_scenes_come_back_in_the_order_of_recording_whatever_their_keys(tmp_path: Path):
    """Stamps and times that are there twice, in two cameras, out of order, and frames that were skipped."""
    times = [(5, 10), (5, 10), (5, 11), (0, 4), (5, 11), (7, 2), (7, 2)]  # stamp, received
    cameras = ['left', 'right', 'left', 'left', 'left', 'right', 'right']
    options = {'score_threshold': 0.5, 'outputs': frozenset(), 'overlay_alpha': 0.5}
    writer = PartWriter(tmp_path, 0, LABELS, rates_hz={'left': 1, 'right': 1}, **options)
    make_header = MessageEncoder().make_header
    scenes = []
    for index, ((stamp_ns, received_ns), camera) in enumerate(zip(times, cameras, strict=True)):
        frame = Frame(index, camera, received_ns, stamp_ns, make_header(stamp_ns, ''), None, '', {})
        boxes = Detections(np.full((2, 4), 0.1 + index, np.float32), np.arange(2), np.array([0.7, 0.2], np.float32))
        ids = np.array([40 + index, 9])
        boxes = dataclasses.replace(boxes, ids=ids)
        mask = np.full((3, 4), index, np.uint8)
        instances = np.where(np.arange(4) > 1, ids[0], 0).astype(np.uint16) + np.zeros((3, 1), np.uint16)
        scene = Scene((3, 4), semantic=mask, detections=boxes, instances=instances)
        scenes.append(scene)
        if index == 4:
            writer.skip(frame, 'torn')
        else:
            record = FrameRecord(
                index, camera, stamp_ns, received_ns, timings_ms={'read': 1.5}, boxes=box_rows(boxes), size_hw=(3, 4)
            )
            writer.write(frame, scene, record)
    assert finished_parts(tmp_path) == []
    writer.finish()
    [part] = finished_parts(tmp_path)
    found = list(read_part(part, LABELS))
    assert [record.index for record, _ in found] == [5, 6, 3, 0, 1, 2, 4]
    for record, scene in found:
        if record.index == 4:
            assert (record.problem, scene) == ('torn', None)
            continue
        assert (record.camera, record.stamp_ns) == (cameras[record.index], times[record.index][0])
        np.testing.assert_array_equal(scene.semantic, scenes[record.index].semantic)
        np.testing.assert_array_equal(scene.instances, scenes[record.index].instances)
        for name in ('boxes_xyxy', 'class_ids', 'scores', 'ids'):
            np.testing.assert_array_equal(
                getattr(scene.detections, name), getattr(scenes[record.index].detections, name)
            )


def test_missing_instances_are_named(tmp_path: Path):
    """A part that was written by a network without instances, or is damaged."""
    options = {'score_threshold': 0.5, 'outputs': frozenset(), 'overlay_alpha': 0.5}
    writer = PartWriter(tmp_path, 0, LABELS, rates_hz={'': 1}, **options)
    frame = Frame(5, '', 7, 7, MessageEncoder().make_header(7, ''), None, '', {})
    scene = Scene((3, 4), semantic=np.zeros((3, 4), np.uint8), detections=Detections.empty())
    writer.write(frame, scene, FrameRecord(5, '', 7, 7, size_hw=(3, 4)))
    writer.finish()
    [part] = finished_parts(tmp_path)
    with pytest.raises(DatasetError, match=r'/panoptic/instances of frame 5 is missing; --overwrite begins anew'):
        list(read_part(part, LABELS))
    [(_, found)] = read_part(part, SceneLabels(LABELS.semantic, LABELS.detection))
    assert found.instances is None


def replay(bag: Path, out: Path, predictor: Predictor, **options: object) -> dict:
    how = ReplayOptions(detection=LOW, **options)
    return replay_bag(open_input(bag, ()), out, predictor, how, progress=False)


def test_images_may_change_their_size_between_and_within_parts(
    tmp_path: Path, tiny_checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(offline, 'PART_FRAMES', 4)
    sizes = [(64, 128)] * 3 + [(48, 80)] * 4 + [(96, 64)] * 2
    drive = [
        dataclasses.replace(next(frames(1, size_hw=size)), stamp_ns=FIRST_NS + i * STEP_NS)
        for i, size in enumerate(sizes)
    ]
    write_drive(tmp_path / 'drive', drive, labels=LABELS)
    predictor = Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch')
    report = replay(tmp_path / 'drive', tmp_path / 'out', predictor, save=('video',), batch=2)
    assert report['frames']['processed'] == report['accuracy']['masks'] == 9
    masks = [(e.message.height, e.message.width) for e in read_bag(tmp_path / 'out/bag', ['/segmentation/mask'])]
    assert masks == sizes
    assert len(list((tmp_path / 'out' / 'bag').glob('*.mcap'))) == 3
    shapes = [image.shape for image in VideoReader(tmp_path / 'out' / 'overlay.mp4')]
    assert shapes == [(64, 128, 3)] * 9


def test_a_network_that_only_detects(tmp_path: Path):
    config = dataclasses.replace(find_model('efficientdet_d0').config, neck_channels=16, neck_cells=1, box_head_depth=1)
    model = create_model(config, seed=3)
    calibrate_norms(model, seed=3)
    labels = SceneLabels(None, COCO_90)
    file = tmp_path / 'boxes.safetensors'
    save_checkpoint(Checkpoint(model.eval(), config, labels, InputConfig(size_hw=(128, 256)), trained=False), file)
    predictor = Predictor.from_checkpoint(file, device='cpu', engine='torch')
    write_drive(tmp_path / 'drive', frames(5), labels=LABELS)
    report = replay(tmp_path / 'drive', tmp_path / 'out', predictor, save=('color', 'overlay', 'video', 'coco'))
    assert report['labels']['semantic'] is None
    assert report['accuracy']['images'] == 5
    assert report['accuracy']['masks'] == 0
    assert 'no mIoU: the network only detects' in report['accuracy']['notes']
    assert report['stability']['frame_pairs'] == 4
    assert report['stability']['mask_agreement'] is None
    topics = {entry.topic for entry in read_bag(tmp_path / 'out' / 'bag')}
    assert topics == {'/overlay', '/detections', '/detections/label_info'}
    assert len(list(VideoReader(tmp_path / 'out' / 'overlay.mp4'))) == 5
    bare = (DriveFrame(f.stamp_ns, f.image) for f in frames(3))
    write_drive(tmp_path / 'bare', bare, labels=None)
    assert replay(tmp_path / 'bare', tmp_path / 'other', predictor, save=())['worst'] == []
