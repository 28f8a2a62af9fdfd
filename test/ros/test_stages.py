"""What the worker's steps do: real messages, predictor and publishers, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import Robot, street_message, wait_until
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from sembox_ros.config import NodeConfig
from sembox_ros.errors import InputError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint
from sembox_ros.ros.outputs import SceneOutputs
from sembox_ros.ros.stages import SceneStages
from sembox_ros.ros.statistics import FrameStatistics
from sembox_ros.ros.worker import Frame, FrameWorker
from sembox_ros.types import Scene

CAMERAS = ('front', 'left')


class WatchedPredictor(Predictor):
    """Remembers what it was asked for; can be made to fail on more images than `most`, like a full GPU."""

    def __init__(self, checkpoint: Checkpoint):
        super().__init__(checkpoint, device='cpu', engine='torch')
        self.asked: list[tuple[int, frozenset[str]]] = []
        self.most = 64

    def predict(self, images: Sequence[Any], **options: Any) -> list[Scene]:
        self.asked.append((len(images), options['outputs']))
        if len(images) > self.most:
            raise InputError(f'out of device memory with {len(images)} image(s)')
        return super().predict(images, **options)


class Rig:
    """A node's inside without its parameters and subscriptions."""

    def __init__(self, node: LifecycleNode, checkpoint: Path):
        self.config = NodeConfig(score_threshold=0.0, max_detections=3)
        self.predictor = WatchedPredictor(load_checkpoint(checkpoint))
        labels, parts = self.predictor.labels, self.predictor.parts
        self.outputs = {camera: SceneOutputs(node, labels, parts, camera) for camera in CAMERAS}
        self.total = FrameStatistics()
        self.statistics = {camera: FrameStatistics(self.total) for camera in CAMERAS}
        self.stages = SceneStages(node, self.predictor, self.outputs, self.statistics, lambda: self.config)

    def wait_for_wanted(self, **topics: set[str]) -> None:
        """Wait until the publishers have discovered their subscribers."""
        for camera, wanted in topics.items():
            wait_until(lambda c=camera, w=wanted: self.outputs[c].wanted_topics() == w, f'subscribers of {camera}')

    def ready_frame(self, camera: str, **message: Any) -> Frame:
        """A frame that inference may take."""
        frame = Frame(camera, street_message(**message))
        assert self.stages.decode(frame) is None
        assert self.stages.admit(frame) is None
        return frame


@pytest.fixture
def rig(tiny_checkpoint_path: Path) -> Iterator[Rig]:
    node = LifecycleNode('rig', namespace='/rig')
    node.trigger_configure()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    rig = Rig(node, tiny_checkpoint_path)
    node.trigger_activate()
    yield rig
    executor.shutdown()
    node.destroy_node()


def test_the_network_gives_what_the_batch_needs_and_each_camera_gets_what_it_wants(rig: Rig, robot: Robot):
    masks = robot.listen('/rig/front/segmentation/mask', Image)
    boxes = robot.listen('/rig/left/detections', Detection2DArray)
    rig.wait_for_wanted(front={'segmentation/mask'}, left={'detections'})
    frames = [rig.ready_frame('front', stamp=(1, 1)), rig.ready_frame('left', stamp=(2, 2))]
    rig.stages.infer(frames)
    assert rig.predictor.asked == [(2, {'semantic', 'detections'})]
    assert [rig.stages.publish_results(frame) for frame in frames] == ['processed', 'processed']
    wait_until(lambda: masks and boxes, 'both answers')
    assert (masks[0].header.stamp.sec, boxes[0].header.stamp.sec) == (1, 2)
    assert len(boxes[0].detections) == 3


def ids_of(frame: Frame) -> list[int]:
    assert frame.scene is not None
    assert frame.scene.detections is not None
    return frame.scene.detections.ids.tolist()


def test_tracking_needs_boxes_and_knows_each_camera_by_itself(rig: Rig, robot: Robot):
    rig.config = NodeConfig(score_threshold=0.0, max_detections=3, tracking=True)
    robot.listen('/rig/front/panoptic/instances', Image)
    robot.listen('/rig/left/detections', Detection2DArray)
    rig.wait_for_wanted(front={'panoptic/instances'}, left={'detections'})
    first, other = rig.ready_frame('front', stamp=(1, 0)), rig.ready_frame('front', seed=1, stamp=(2, 0))
    for frame in (first, other):
        rig.stages.infer([frame])
    assert rig.predictor.asked == [(1, {'instances', 'detections'})] * 2
    assert ids_of(first) == [1, 2, 3]
    assert max(ids_of(other)) > 3
    both = [rig.ready_frame('front', seed=1, stamp=(3, 0)), rig.ready_frame('left', seed=1, stamp=(3, 0))]
    rig.stages.infer(both)
    assert ids_of(both[0]) == ids_of(other)
    assert ids_of(both[1]) == [1, 2, 3]
    rig.config = NodeConfig(score_threshold=0.0, max_detections=3)
    off = rig.ready_frame('left', seed=2, stamp=(4, 0))
    rig.stages.infer([off])
    rig.config = NodeConfig(score_threshold=0.0, max_detections=3, tracking=True)
    on = rig.ready_frame('front', seed=1, stamp=(5, 0))
    rig.stages.infer([on])
    assert ids_of(off) == ids_of(on) == [1, 2, 3]  # switched on again, tracking has forgotten everything


def test_masks_alone_are_not_tracked(rig: Rig, robot: Robot):
    rig.config = NodeConfig(tracking=True)
    robot.listen('/rig/front/segmentation/mask', Image)
    rig.wait_for_wanted(front={'segmentation/mask'})
    rig.stages.infer([rig.ready_frame('front')])
    assert rig.predictor.asked == [(1, {'semantic'})]


def test_results_first_and_pictures_later(rig: Rig, robot: Robot):
    robot.listen('/rig/front/segmentation/mask', Image)
    robot.listen('/rig/front/overlay', Image)
    rig.wait_for_wanted(front={'segmentation/mask', 'overlay'})
    frame = rig.ready_frame('front')
    rig.stages.infer([frame])
    assert rig.stages.publish_results(frame) is None
    wait_until(lambda: robot.received['/rig/front/segmentation/mask'], 'the mask')
    assert robot.received['/rig/front/overlay'] == []  # nobody has drawn it yet
    after_results = frame.published
    assert rig.stages.publish_pictures(frame) == 'processed'
    wait_until(lambda: robot.received['/rig/front/overlay'], 'the overlay')
    assert frame.published > after_results > frame.arrival
    latencies = frame.latencies_ms()
    stages = ['wait', 'decode', 'preprocess', 'network', 'postprocess', 'encode', 'publish', 'total']
    assert list(latencies) == stages
    assert sum(latencies[stage] for stage in stages[:-1]) == pytest.approx(latencies['total'])


def test_buffers_go_when_their_last_reader_is_done(rig: Rig, robot: Robot):
    robot.listen('/rig/front/detections', Detection2DArray)
    robot.listen('/rig/left/overlay', Image)
    rig.wait_for_wanted(front={'detections'}, left={'overlay'})
    frames = [rig.ready_frame(camera) for camera in CAMERAS]
    assert [frame.message for frame in frames] == [None, None]
    rig.stages.infer(frames)
    assert [frame.image is None for frame in frames] == [True, False]  # an overlay needs the image


def test_old_and_unwanted_frames_end_before_decoding_and_again_before_the_network(rig: Rig, robot: Robot):
    frame = Frame('front', street_message())
    assert rig.stages.decode(frame) == 'idle'
    assert frame.image is None
    subscription = robot.node.create_subscription(Image, '/rig/front/overlay', print, 1)
    rig.wait_for_wanted(front={'overlay'})
    frame = Frame('front', street_message(stamp=(1, 0)))
    assert rig.stages.decode(frame) is None
    assert frame.image is not None
    rig.config = NodeConfig(max_age_s=60.0)
    assert rig.stages.admit(frame) == 'stale'
    frame = Frame('front', street_message(stamp=(1, 0)))
    assert rig.stages.decode(frame) == 'stale'
    assert frame.image is None
    rig.config = NodeConfig()
    frame = rig.ready_frame('front')
    robot.node.destroy_subscription(subscription)
    rig.wait_for_wanted(front=set())
    assert rig.stages.admit(frame) == 'idle'


def test_frames_that_do_not_fit_together_run_one_by_one(rig: Rig, robot: Robot, capfd: pytest.CaptureFixture[str]):
    answers = {camera: robot.listen(f'/rig/{camera}/detections', Detection2DArray) for camera in CAMERAS}
    rig.wait_for_wanted(front={'detections'}, left={'detections'})
    rig.predictor.most = 1
    worker = FrameWorker(rig.stages, rig.statistics, window_s=lambda: 3600.0)
    for count in (1, 2):
        for camera in CAMERAS:
            worker.offer(camera, street_message(stamp=(count, 0), frame_id=camera))
        wait_until(lambda n=count: rig.total.counts()['processed'] == 2 * n, 'both frames')
    assert worker.stop(5)
    assert [images for images, _ in rig.predictor.asked] == [2, 1, 1] * 2
    assert rig.total.counts()['failed'] == 0
    for camera in CAMERAS:
        wait_until(lambda c=camera: len(answers[c]) == 2, 'both answers')
        assert [a.header.frame_id for a in answers[camera]] == [camera, camera]
    assert capfd.readouterr().err.count('2 frames failed together and run one by one') == 1  # throttled


def test_failures_name_camera_and_reason(rig: Rig, capfd: pytest.CaptureFixture[str]):
    frame = Frame('left', street_message())
    rig.stages.report_failure(frame, InputError('too dark'))
    rig.stages.report_failure(frame, ValueError('odd'))
    printed = capfd.readouterr().err
    assert 'bad frame of left dropped (1 so far): too dark' in printed
    assert 'unexpected ValueError: odd' in printed
    assert rig.statistics['left'].last_failure == rig.total.last_failure == 'unexpected ValueError: odd'
