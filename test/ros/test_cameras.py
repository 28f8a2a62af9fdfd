"""Several cameras in one node, over real DDS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import NodeProcess, Robot, node_arguments, street_message, wait_until
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray, LabelInfo

from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import CITYSCAPES_19, COCO_90
from sembox_ros.ros.conversions import decode_image

NODE = '/car/sembox'
SIZES_HW = {'front': (120, 160), 'left': (97, 301), 'rear/wide': (64, 64)}
INPUTS = {'front': '/cam0/image_raw', 'left': '/car/left/image', 'rear/wide': '/car/rear/wide/image'}


@pytest.fixture(scope='module')
def node(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint_path: Path) -> Iterator[NodeProcess]:
    """A node for three cameras, in a namespace, one of them remapped."""
    given = node_arguments(
        checkpoint=tiny_checkpoint_path, cameras='[front, left, rear/wide]', score_threshold=0.0, max_detections=4
    )
    process = NodeProcess(
        tmp_path_factory.mktemp('cameras') / 'node.log',
        ['-r', '__ns:=/car', '-r', f'front/image:={INPUTS["front"]}', *given],
    )
    process.wait_active()
    yield process
    process.stop()


def listen(robot: Robot, topic: str, kind: type) -> dict[str, list[Any]]:
    """Camera -> the list that fills with its messages on a topic."""
    return {camera: robot.listen(f'/car/{camera}/{topic}', kind) for camera in SIZES_HW}


def test_each_camera_gets_its_own_answers(node: NodeProcess, robot: Robot, tiny_checkpoint_path: Path):
    predictor = Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu', engine='torch')
    masks, overlays = listen(robot, 'segmentation/mask', Image), listen(robot, 'overlay', Image)
    boxes = listen(robot, 'detections', Detection2DArray)
    for index, (camera, size_hw) in enumerate(SIZES_HW.items()):
        message = street_message(*size_hw, seed=index, stamp=(50, index), frame_id=f'{camera} frame')
        mask = robot.exchange(message, INPUTS[camera], masks[camera])
        detections = robot.exchange(message, INPUTS[camera], boxes[camera])
        overlay = robot.exchange(message, INPUTS[camera], overlays[camera])
        header = serialize_message(message.header)
        assert all(serialize_message(answer.header) == header for answer in (mask, detections, overlay))
        assert (overlay.height, overlay.width) == (mask.height, mask.width) == size_hw
        [scene] = predictor.predict([decode_image(message)])
        assert (np.frombuffer(mask.data, np.uint8).reshape(size_hw) == scene.semantic).mean() > 0.999
        assert len(detections.detections) == 4
        assert all(serialize_message(detection.header) == header for detection in detections.detections)
    for camera in SIZES_HW:
        frames = {m.header.frame_id for m in masks[camera] + boxes[camera] + overlays[camera]}
        assert frames == {f'{camera} frame'}
    assert not robot.node.get_publishers_info_by_topic('/car/detections')
    assert not robot.node.get_publishers_info_by_topic('/car/segmentation/label_info')


def test_each_camera_has_the_label_sets(node: NodeProcess, robot: Robot):
    semantic = {c: robot.listen_latched(f'/car/{c}/segmentation/label_info', LabelInfo) for c in SIZES_HW}
    detection = {c: robot.listen_latched(f'/car/{c}/detections/label_info', LabelInfo) for c in SIZES_HW}
    wait_until(lambda: all(semantic.values()) and all(detection.values()), 'all label sets')
    for camera in SIZES_HW:
        assert [c.class_name for c in semantic[camera][0].class_map] == list(CITYSCAPES_19.names)
        assert [c.class_name for c in detection[camera][0].class_map] == list(COCO_90.names)


def test_garbage_of_one_camera_disturbs_no_other(node: NodeProcess, robot: Robot):
    answers = listen(robot, 'detections', Detection2DArray)
    for camera in ('front', 'left'):  # until each has discovered the other side
        robot.exchange(street_message(stamp=(60, 0)), INPUTS[camera], answers[camera])
    garbage = street_message(48, 64)
    garbage.encoding = 'rgb9'
    failed = robot.counts(NODE, 'left')['failed']
    sent = 12
    ended = threading.Event()

    def throw() -> None:
        while not ended.wait(0.02):
            robot.publish(garbage, INPUTS['left'])

    thrower = threading.Thread(target=throw)
    thrower.start()
    try:
        for index in range(sent):
            message = street_message(seed=index, stamp=(61, index))
            assert len(robot.exchange(message, INPUTS['front'], answers['front']).detections) == 4
        wait_until(lambda: robot.counts(NODE, 'left')['failed'] >= failed + 3, 'failures of the camera left')
    finally:
        ended.set()
        thrower.join()
    robot.exchange(street_message(stamp=(62, 0)), INPUTS['left'], answers['left'])
    assert robot.counts(NODE, 'front')['failed'] == 0
    assert 'bad frame of left dropped' in node.output
    assert 'rgb9' in node.output
    assert 'Traceback' not in node.output


def test_counts_of_each_camera_and_of_all_add_up(node: NodeProcess, robot: Robot):
    answers = listen(robot, 'detections', Detection2DArray)
    for camera in SIZES_HW:
        robot.exchange(street_message(*SIZES_HW[camera], stamp=(70, 0)), INPUTS[camera], answers[camera])
    for index in range(1, 31):
        for camera in SIZES_HW:
            robot.publish(street_message(240, 320, stamp=(71, index)), INPUTS[camera])

    def all_ended() -> bool:
        counts = [robot.counts(NODE, camera) for camera in ('', *SIZES_HW)]
        return all(c['received'] == sum(c.values()) - c['received'] for c in counts)

    wait_until(lambda: all(a[-1].header.stamp.nanosec == 30 for a in answers.values()), 'the last answers')
    wait_until(all_ended, 'every frame to have its outcome')
    cameras = [robot.counts(NODE, camera) for camera in SIZES_HW]
    total = robot.counts(NODE)
    assert total == {name: sum(counts[name] for counts in cameras) for name in total}
    assert all(counts['processed'] > 1 for counts in cameras)
    assert total['dropped'] > 0
    for camera, messages in answers.items():
        stamps = [m.header.stamp.nanosec for m in messages if m.header.stamp.sec == 71]
        assert stamps == sorted(stamps), camera
    assert {'resident_memory_mib', 'device_memory_mib', 'device', 'state', 'total_p50_ms'} <= set(robot.health(NODE))
    for camera in SIZES_HW:
        health = robot.health(NODE, camera)
        assert health['state'] == 'active'
        for stage in ('wait', 'decode', 'preprocess', 'network', 'postprocess', 'encode', 'publish', 'total'):
            assert 0 <= float(health[f'{stage}_p50_ms']) <= float(health[f'{stage}_p99_ms'])


def test_what_nobody_wants_of_one_camera_is_idle(node: NodeProcess, robot: Robot):
    answers = robot.listen('/car/front/detections', Detection2DArray)
    wait_until(lambda: robot.health(NODE, 'left'), 'diagnostics')
    before = robot.counts(NODE, 'left')
    robot.exchange(street_message(stamp=(80, 0)), INPUTS['front'], answers)
    robot.publish(street_message(), INPUTS['left'])
    wait_until(lambda: robot.counts(NODE, 'left')['idle'] == before['idle'] + 1, 'an idle frame')
    assert robot.counts(NODE, 'left')['processed'] == before['processed']


def test_a_silent_camera_holds_back_no_other(start_node: Callable[..., NodeProcess], robot: Robot):
    answers = robot.listen('/left/detections', Detection2DArray)
    start_node(cameras='[front, left]', batch_window_ms=50.0)
    for index in range(5):
        robot.exchange(street_message(stamp=(1, index)), '/left/image', answers)
    wait_until(lambda: robot.counts(camera='left')['processed'] >= 5, 'processed frames')
    assert robot.counts(camera='front') == dict.fromkeys(robot.counts(), 0)
    state = 'active, no image yet: waiting for /front/image (Image)'
    assert robot.health(camera='front')['state'].startswith(state)
    assert robot.health()['state'].startswith(state)
    assert robot.health(camera='left')['state'] == 'active'


def test_pausing_and_cleaning_up_hold_for_all_cameras(start_node: Callable[..., NodeProcess], robot: Robot):
    node = start_node(cameras='[front, left]')
    cameras = ('front', 'left')
    assert robot.ask('/sembox/enable', SetBool, SetBool.Request(data=False)).success
    for camera in cameras:
        robot.publish(street_message(), f'/{camera}/image')
    wait_until(lambda: all(robot.counts(camera=c)['paused'] == 1 for c in cameras), 'a paused frame of each')

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return robot.ask('/sembox/change_state', ChangeState, request).success

    assert change(Transition.TRANSITION_DEACTIVATE)
    assert change(Transition.TRANSITION_CLEANUP)
    assert robot.set_parameter('cameras', ['rear']).successful
    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    assert robot.ask('/sembox/enable', SetBool, SetBool.Request(data=True)).success
    answers = robot.listen('/rear/detections', Detection2DArray)
    robot.exchange(street_message(), '/rear/image', answers)
    wait_until(lambda: robot.counts(camera='rear')['processed'], 'the counts of the new camera')
    wait_until(lambda: not robot.node.get_publishers_info_by_topic('/front/detections'), 'the end of the old one')
    assert 'Traceback' not in node.output
