"""The real node over real DDS: what it publishes, and how it is operated."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from harness import NodeProcess, Robot, node_arguments, street_message, wait_until
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray, LabelInfo

from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import CITYSCAPES_19, COCO_90
from sembox_ros.ros.conversions import decode_image

StartNode = Callable[..., NodeProcess]
PARAMS = Path(__file__).resolve().parents[2] / 'config' / 'sembox_node.yaml'
IMAGES = ('segmentation/mask', 'segmentation/confidence', 'segmentation/color', 'overlay')


def pixels(message: Image) -> np.ndarray:
    channels = message.step // message.width
    shape = (message.height, message.width, channels) if channels > 1 else (message.height, message.width)
    return np.frombuffer(message.data, np.uint8).reshape(shape)


def exchange(robot: Robot, message: Image | CompressedImage, topic: str = '/image', key: str = 'detections') -> None:
    """Publish one frame and wait for the node's answer on the topic `key`."""
    robot.exchange(message, topic, robot.received[f'/{key}'])


def test_outputs_carry_the_frame_they_belong_to(start_node: StartNode, robot: Robot, tiny_checkpoint_path):
    for topic in IMAGES:
        robot.listen(f'/{topic}', Image)
    robot.listen('/detections', Detection2DArray)
    predictor = Predictor.from_checkpoint(tiny_checkpoint_path, device='cpu')  # measures engines, so the node need not
    start_node(engine='auto', score_threshold=0.0, max_detections=7, overlay_alpha=0.25)
    for nanosec, size_hw in ((987654321, (120, 160)), (987654322, (97, 301))):
        check_outputs(robot, predictor, size_hw, stamp=(1234567890, nanosec))


def check_outputs(robot: Robot, predictor: Predictor, size_hw: tuple[int, int], stamp: tuple[int, int]) -> None:
    """Everything that the node says about a frame of that size belongs to it and is right."""
    message = street_message(*size_hw, stamp=stamp, frame_id='cam/ü 左')
    outputs = {t: robot.exchange(message, '/image', robot.received[f'/{t}']) for t in (*IMAGES, 'detections')}

    header = serialize_message(message.header)
    for topic, output in outputs.items():
        assert serialize_message(output.header) == header, topic
    mask, confidence, color, overlay = (pixels(outputs[t]) for t in IMAGES)
    assert [outputs[t].encoding for t in IMAGES] == ['mono8', 'mono8', 'rgb8', 'rgb8']
    assert mask.shape == confidence.shape == color.shape[:2] == overlay.shape[:2] == size_hw
    # The same file through the same predictor, without ROS, must give the same pixels.
    [scene] = predictor.predict([decode_image(message)])
    assert (mask == scene.semantic).mean() > 0.999
    assert mask.max() < len(CITYSCAPES_19)
    assert len(np.unique(mask)) > 1
    assert np.abs(confidence.astype(int) - scene.confidence).max() <= 2
    assert (color == CITYSCAPES_19.color_table()[mask]).all()
    blended = 0.75 * pixels(message) + 0.25 * color
    assert np.median(np.abs(overlay - blended)) <= 1  # boxes cover only a part

    detections = outputs['detections'].detections
    assert len(detections) == 7
    for detection in detections:
        assert serialize_message(detection.header) == header
        assert 0 <= int(detection.results[0].hypothesis.class_id) < len(COCO_90)
        center, half_x, half_y = detection.bbox.center.position, detection.bbox.size_x / 2, detection.bbox.size_y / 2
        assert half_x > 0
        assert half_y > 0
        assert -1e-3 <= center.x - half_x <= center.x + half_x <= size_hw[1] + 1e-3
        assert -1e-3 <= center.y - half_y <= center.y + half_y <= size_hw[0] + 1e-3
    scores = [d.results[0].hypothesis.score for d in detections]
    assert scores == sorted(scores, reverse=True)


def test_label_info_reaches_a_late_joiner(shared_node: Robot):
    answers = shared_node.listen('/shared/detections', Detection2DArray)
    shared_node.exchange(street_message(), '/shared/image', answers)
    semantic = shared_node.listen_latched('/shared/segmentation/label_info', LabelInfo)
    detection = shared_node.listen_latched('/shared/detections/label_info', LabelInfo)
    wait_until(lambda: semantic and detection, 'both label sets')
    for message, labels, threshold in ((semantic[0], CITYSCAPES_19, 0.0), (detection[0], COCO_90, 0.75)):
        assert [(c.class_id, c.class_name) for c in message.class_map] == list(enumerate(labels.names))
        assert message.threshold == pytest.approx(threshold)


def test_enable_pauses_and_resumes(start_node: StartNode, robot: Robot):
    answers = robot.listen('/detections', Detection2DArray)
    start_node()
    exchange(robot, street_message())
    assert robot.ask('/sembox/enable', SetBool, SetBool.Request(data=False)).success
    count = len(answers)
    for index in range(3):
        robot.publish(street_message(seed=index), '/image')
        time.sleep(0.1)
    wait_until(lambda: robot.counts()['paused'] == 3, 'three paused frames')
    assert len(answers) == count
    assert robot.health()['state'] == 'paused'
    assert robot.ask('/sembox/enable', SetBool, SetBool.Request(data=True)).success
    exchange(robot, street_message())


def test_live_parameters_take_effect(start_node: StartNode, robot: Robot):
    answers = robot.listen('/detections', Detection2DArray)
    labels = robot.listen_latched('/detections/label_info', LabelInfo)
    start_node(score_threshold=0, max_detections=5)
    exchange(robot, street_message())
    assert len(answers[-1].detections) == 5
    assert robot.set_parameter('max_detections', 2).successful
    assert robot.set_parameter('class_id_format', 'name').successful
    exchange(robot, street_message())
    assert len(answers[-1].detections) == 2
    assert all(d.results[0].hypothesis.class_id in COCO_90.names for d in answers[-1].detections)
    assert robot.set_parameter('score_threshold', 1.0).successful
    exchange(robot, street_message(stamp=(5, 6)))
    assert answers[-1].detections == []  # published all the same
    assert (answers[-1].header.stamp.sec, answers[-1].header.stamp.nanosec) == (5, 6)
    wait_until(lambda: labels[-1].threshold == 1.0, 'LabelInfo with the new threshold')


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('score_threshold', 1.5, '1.5'),
        ('score_threshold', 'high', 'expected float'),
        ('overlay_alpha', -0.1, '-0.1'),
        ('max_detections', 0, '0'),
        ('class_id_format', 'nam', 'did you mean name?'),
        ('fusion', 'efficientps', 'needs a network with an instance head'),
        ('fusion', 'box', 'did you mean boxes?'),
        ('device', 'cuda', 'unconfigured'),
        ('cameras', ['front'], 'unconfigured'),
        ('batch_window_ms', 1000.5, '1000.5'),
    ],
)
def test_wrong_parameter_values_are_refused_with_the_reason(shared_node: Robot, name, value, reason):
    result = shared_node.set_parameter(name, value, '/shared/sembox')
    assert not result.successful
    assert reason in result.reason
    assert name in result.reason


@pytest.fixture(scope='module')
def shared_process(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint_path: Path):
    """One node for the tests that do not change it, out of the other nodes' way."""
    log = tmp_path_factory.mktemp('shared') / 'node.log'
    parameters = node_arguments(checkpoint=tiny_checkpoint_path, score_threshold=0.75)
    node = NodeProcess(log, ['-r', '__ns:=/shared', *parameters])
    node.wait_active()
    yield node
    node.stop()


@pytest.fixture
def shared_node(shared_process: NodeProcess, robot: Robot) -> Robot:
    return robot


def png_message(height: int = 64, width: int = 96, *, stamp: tuple[int, int] = (1, 2)) -> CompressedImage:
    raw = street_message(height, width, stamp=stamp, frame_id='zip')
    data = cv2.imencode('.png', cv2.cvtColor(decode_image(raw), cv2.COLOR_RGB2BGR))[1].tobytes()
    return CompressedImage(header=raw.header, format='png', data=data)


def test_compressed_images_are_found_by_themselves(start_node: StartNode, robot: Robot):
    masks = robot.listen('/segmentation/mask', Image)
    start_node()
    answer = robot.exchange(png_message(), '/image/compressed', masks)
    assert (answer.height, answer.width, answer.header.frame_id) == (64, 96, 'zip')


def test_a_compressed_topic_under_a_name_of_its_own(start_node: StartNode, robot: Robot):
    robot.listen('/detections', Detection2DArray)
    start_node('-r', 'image:=/cam/png', input_transport='compressed')
    exchange(robot, png_message(), '/cam/png')


def test_namespace_and_remap(start_node: StartNode, robot: Robot):
    answers = robot.listen('/car/detections', Detection2DArray)
    start_node('-r', '__ns:=/car', '-r', 'image:=/front/image_raw', input_transport='raw')
    robot.exchange(street_message(), '/front/image_raw', answers)
    wait_until(lambda: robot.counts('/car/sembox')['processed'] >= 1, 'diagnostics named after the node')


@pytest.mark.parametrize('reliability', [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_input_reliability_follows_the_camera(start_node: StartNode, robot: Robot, reliability):
    robot.node.create_publisher(Image, '/image', QoSProfile(depth=1, reliability=reliability))
    start_node()
    [info] = wait_until(lambda: robot.node.get_subscriptions_info_by_topic('/image'), 'the subscription')
    assert info.qos_profile.reliability == reliability


def test_input_follows_a_camera_that_changes(start_node: StartNode, robot: Robot):
    """First raw and reliable, then best effort, then another transport: each must be heard."""
    masks = robot.listen('/segmentation/mask', Image)
    start_node()
    robot.exchange(street_message(stamp=(1, 0)), '/image', masks)
    robot.remove_publisher('/image')
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    camera = robot.node.create_publisher(Image, '/image', best_effort)
    wait_until(camera.get_subscription_count, 'a best-effort subscription')
    for nanosec in range(100):
        camera.publish(street_message(24, 32, stamp=(2, nanosec)))
        time.sleep(0.05)
        if any(m.header.stamp.sec == 2 for m in masks):
            break
    assert any(m.header.stamp.sec == 2 for m in masks)
    robot.node.destroy_publisher(camera)
    robot.exchange(png_message(stamp=(3, 0)), '/image/compressed', masks)


def test_input_qos_can_be_overridden(start_node: StartNode, robot: Robot):
    robot.node.create_publisher(Image, '/image', 10)
    start_node('-p', 'qos_overrides./image.subscription.reliability:=best_effort')
    [info] = wait_until(lambda: robot.node.get_subscriptions_info_by_topic('/image'), 'the subscription')
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_counts_add_up_and_newest_frame_wins(start_node: StartNode, robot: Robot):
    answers = robot.listen('/detections', Detection2DArray)
    start_node()
    exchange(robot, street_message())
    frames = 40
    for index in range(frames):
        robot.publish(street_message(240, 320, stamp=(100, index)), '/image')
    wait_until(lambda: any(a.header.stamp.nanosec == frames - 1 for a in answers), 'the last frame of the burst')
    wait_until(lambda: robot.counts()['processed'] == len(answers), 'as many processed frames as answers')
    counts = robot.counts()
    assert counts['received'] == sum(v for k, v in counts.items() if k != 'received')
    stamps = [a.header.stamp.nanosec for a in answers if a.header.stamp.sec == 100]
    assert stamps == sorted(stamps)
    assert counts['dropped'] > 0  # a burst is faster than any network
    health = robot.health()
    for stage in ('decode', 'preprocess', 'network', 'postprocess', 'encode', 'publish', 'total'):
        low, middle, high = (float(health[f'{stage}_{p}_ms']) for p in ('p50', 'p95', 'p99'))
        assert 0 <= low <= middle <= high


def test_nothing_is_computed_for_nobody(start_node: StartNode, robot: Robot):
    start_node()
    for index in range(3):
        robot.publish(street_message(seed=index), '/image')
        time.sleep(0.2)
    wait_until(lambda: robot.counts()['idle'] == 3, 'three idle frames')
    assert robot.counts()['processed'] == 0


def test_stale_frames_are_dropped(start_node: StartNode, robot: Robot):
    robot.listen('/detections', Detection2DArray)
    start_node(max_age_s=60.0)
    now = robot.node.get_clock().now().seconds_nanoseconds()
    exchange(robot, street_message(stamp=now))
    robot.publish(street_message(stamp=(1, 0)), '/image')
    wait_until(lambda: robot.counts()['stale'] == 1, 'one stale frame')


# The file asks for the bundled checkpoint; measuring engines for that one would take half a minute.
@pytest.mark.parametrize(
    'arguments',
    [['-p', 'cameras:=[]'], ['--params-file', str(PARAMS), '-p', 'engine:=torch']],
    ids=['option', 'file'],
)
def test_an_empty_list_of_cameras_is_no_list(start_node: StartNode, robot: Robot, arguments):
    robot.listen('/detections', Detection2DArray)
    start_node(*arguments)
    exchange(robot, street_message())
    wait_until(lambda: robot.counts()['processed'], 'the frame in the diagnostics')
    names = {status.name for array in robot.received['/diagnostics'] for status in array.status}
    assert names - {'/shared/sembox: frames'} == {'/sembox: frames'}  # one status, and no camera's
    request = GetParameters.Request(names=['cameras'])
    [value] = robot.ask('/sembox/get_parameters', GetParameters, request).values
    assert value.type == ParameterType.PARAMETER_STRING_ARRAY
    assert list(value.string_array_value) == []


def test_lifecycle_by_hand(start_node: StartNode, robot: Robot):
    node = start_node(wait=False, autostart=False)
    robot.listen('/detections', Detection2DArray)

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return robot.ask('/sembox/change_state', ChangeState, request).success

    def state() -> str:
        return robot.ask('/sembox/get_state', GetState, GetState.Request()).current_state.label

    assert state() == 'unconfigured'
    assert robot.set_parameter('checkpoint', '/nowhere.safetensors').successful
    assert not change(Transition.TRANSITION_CONFIGURE)
    assert state() == 'unconfigured'
    assert '/nowhere.safetensors does not exist' in node.output
    assert robot.set_parameter('checkpoint', str(robot.tiny)).successful
    for _ in range(2):  # everything that configuring takes must be given back
        assert change(Transition.TRANSITION_CONFIGURE)
        assert change(Transition.TRANSITION_ACTIVATE)
        assert state() == 'active'
        exchange(robot, street_message())
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_CLEANUP)
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert 'Traceback' not in node.output


@pytest.fixture(autouse=True)
def _checkpoint_of_robot(robot: Robot, tiny_checkpoint_path: Path) -> None:
    robot.tiny = tiny_checkpoint_path


CANNOT_START = {
    'checkpoint:=/nowhere.safetensors': 'does not exist',
    'device:=cuda:99': 'is not available',
    'device:=gpu': 'expected auto, cpu, cuda or cuda:N',
    'score_treshold:=0.5': 'did you mean score_threshold?',
    'score_threshold:=7.0': '0.0..1.0',
    'input_transport:=rtsp': 'expected one of auto, raw, compressed',
    'cameras:=[front, 2nd]': 'cameras: expected relative topic names (letters, digits and underscores',
    'cameras:=[front, /left]': "got '/left'",
    'cameras:=[front, left, front]': 'got front more than once',
    'cameras:=[1, 2]': 'got 1',
    'cameras:=front': 'expected list or tuple',
    'device:=[]': 'device: expected str',
    'fusion:=heuristic': 'needs a network with an instance head',
}


@pytest.mark.parametrize('parameter', CANNOT_START)
def test_a_node_that_cannot_start_says_why_in_one_line(start_node: StartNode, parameter: str):
    node = start_node('-p', parameter, wait=False)
    assert node.process.wait(timeout=60) == 1
    lines = [line for line in node.output.splitlines() if line.strip()]
    assert len(lines) == 1, node.output
    assert CANNOT_START[parameter] in lines[0]


def test_malformed_ros_arguments_are_explained_without_a_traceback(start_node: StartNode):
    node = start_node('-p', 'device:=', wait=False)
    assert node.process.wait(timeout=60) == 1
    assert 'device:=' in node.output.splitlines()[-1]
    assert 'Traceback' not in node.output


def test_a_malformed_checkpoint_is_one_line(start_node: StartNode, tmp_path: Path):
    (tmp_path / 'bad.safetensors').write_bytes(b'\x08\x00\x00\x00\x00\x00\x00\x00{"a":1}x' * 100)
    node = start_node(wait=False, checkpoint=tmp_path / 'bad.safetensors')
    assert node.process.wait(timeout=60) == 1
    lines = [line for line in node.output.splitlines() if line.strip()]
    assert len(lines) == 1, node.output
    assert 'bad.safetensors' in lines[0]


@pytest.mark.parametrize('signal_number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('busy', [False, True])
def test_ends_quickly_and_cleanly(start_node: StartNode, robot: Robot, tmp_path: Path, signal_number, busy):
    robot.listen('/segmentation/mask', Image)
    node = start_node(anew=True)
    exchange(robot, street_message(), key='segmentation/mask')
    if busy:
        # Ten seconds' worth of pixels in flight.
        robot.publish(street_message(4000, 8000), '/image')
        time.sleep(0.3)
    status, seconds = node.stop(signal_number)
    assert status == 0, node.output
    assert seconds < 3  # 2 s on a quiet machine; docs/topics_and_parameters.md gives the measured time
    assert 'Traceback' not in node.output
