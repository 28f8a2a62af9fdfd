"""Instances, their numbers and tracking: the real node, with the bundled checkpoint on rendered streets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from harness import NodeProcess, Robot, wait_until
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from sembox_ros.config import DetectionConfig, find_shared
from sembox_ros.data.streets import StreetFrame, render_sequence
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import BUNDLED
from sembox_ros.ros.conversions import encode_image
from sembox_ros.types import MAX_INSTANCE

PICTURES = ('panoptic/color', 'overlay')
StartNode = Callable[..., NodeProcess]


@pytest.fixture(scope='module')
def street() -> list[StreetFrame]:
    """A short drive, small enough to be answered soon."""
    return list(render_sequence(frames=4, size_hw=(192, 384), seed=7))


def message_of(frame: StreetFrame) -> Image:
    header = Header(frame_id='cam')
    seconds, header.stamp.nanosec = divmod(frame.stamp_ns, 10**9)
    header.stamp.sec = 1_700_000_000 + seconds
    return encode_image(frame.image, 'rgb8', header)


def numbers_in(message: Image) -> np.ndarray:
    assert message.encoding == '16UC1'
    assert message.is_bigendian == 0
    return np.frombuffer(message.data, '<u2').reshape(message.height, message.width)


def ids_of(message: Detection2DArray) -> list[int]:
    ids = [int(d.id) for d in message.detections]
    assert len(set(ids)) == len(ids)
    assert all(1 <= i <= MAX_INSTANCE for i in ids)
    return ids


def same_objects(before: Detection2DArray, after: Detection2DArray) -> float:
    """Share of the ids of a frame that the next one has too."""
    return len(set(ids_of(before)) & set(ids_of(after))) / len(before.detections)


@pytest.mark.parametrize(
    ('checkpoint', 'fusion'), [(BUNDLED, 'boxes'), ('weights/sembox_b1_solo_streets.safetensors', 'efficientps')]
)
def test_the_image_of_instances_holds_the_ids_of_the_detections(
    start_node: StartNode, robot: Robot, street: list[StreetFrame], checkpoint: str, fusion: str
):
    start_node(checkpoint=find_shared(checkpoint), engine='torch', fusion=fusion)
    message = message_of(street[0])
    alone = robot.exchange(message, '/image', robot.listen('/detections', Detection2DArray))
    for topic in ('panoptic/instances', *PICTURES):
        robot.listen(f'/{topic}', Image)
    answers = {t: robot.exchange(message, '/image', robot.received[f'/{t}']) for t in ('panoptic/instances', *PICTURES)}
    together = robot.exchange(message, '/image', robot.received['/detections'])
    assert ids_of(alone) == ids_of(together) == list(range(1, len(alone.detections) + 1))
    assert [serialize_message(d.bbox) for d in alone.detections] == [
        serialize_message(d.bbox) for d in together.detections
    ]
    for topic, answer in answers.items():
        assert serialize_message(answer.header) == serialize_message(message.header), topic
        assert (answer.height, answer.width) == street[0].semantic.shape, topic

    numbers = numbers_in(answers['panoptic/instances'])
    present = set(np.unique(numbers).tolist()) - {0}
    assert len(present) >= 3
    assert present <= set(ids_of(together))
    # The same file through the same predictor, without ROS, gives the same instances.
    predictor = Predictor.from_checkpoint(find_shared(checkpoint), engine='torch')
    [scene] = predictor.predict([street[0].image], detection=DetectionConfig(fusion=fusion), outputs={'instances'})
    assert scene.instances is not None
    assert (numbers == scene.instances).mean() > 0.999
    assert [answers[topic].encoding for topic in PICTURES] == ['rgb8', 'rgb8']
    colors = np.frombuffer(answers['panoptic/color'].data, np.uint8).reshape(*numbers.shape, 3)
    assert len({tuple(np.median(colors[numbers == i], axis=0)) for i in present}) > 1


def test_tracking_keeps_ids_and_is_switched_while_the_node_runs(
    start_node: StartNode, robot: Robot, street: list[StreetFrame]
):
    boxes, images = robot.listen('/detections', Detection2DArray), robot.listen('/panoptic/instances', Image)
    start_node(checkpoint=find_shared(BUNDLED), engine='torch', tracking=True, score_threshold=0.5)

    def answers(frame: StreetFrame) -> tuple[Detection2DArray, Image]:
        message = message_of(frame)
        found = robot.exchange(message, '/image', boxes)
        wait_until(lambda: images and images[-1].header.stamp == message.header.stamp, 'the image of instances')
        return found, images[-1]

    tracked = [answers(frame) for frame in street]
    assert len(tracked[0][0].detections) >= 3
    for (before, _), (after, image) in pairwise(tracked):
        assert same_objects(before, after) > 0.5
        assert set(np.unique(numbers_in(image)).tolist()) - {0} <= set(ids_of(after))
    assert any(ids_of(found) != list(range(1, len(found.detections) + 1)) for found, _ in tracked)

    again, _ = answers(street[0])  # time goes backwards
    assert not set(ids_of(again)) & set(ids_of(tracked[-1][0]))
    assert robot.set_parameter('tracking', False).successful
    found, _ = answers(street[1])
    assert ids_of(found) == list(range(1, len(found.detections) + 1))


def test_fusion_changes_while_the_node_runs_and_stays_where_the_network_cannot(start_node: StartNode, robot: Robot):
    node = start_node(fusion='boxes')
    refused = robot.set_parameter('fusion', 'heuristic')
    assert not refused.successful
    assert 'needs a network with an instance head' in refused.reason
    assert robot.set_parameter('fusion', 'auto').successful
    assert robot.set_parameter('score_threshold', 0.3).successful  # others are checked as they were
    assert node.process.poll() is None
