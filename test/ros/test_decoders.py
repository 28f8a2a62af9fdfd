"""The node with networks of an encoder and decoders: masks alone, and masks, depth and motion from image and flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import NodeProcess, Robot, street_message, wait_until
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint, save_checkpoint
from sembox_ros.types import Scene

StartNode = Callable[..., NodeProcess]
TYPES: dict[str, Any] = {'mono8': np.uint8, 'rgb8': np.uint8, '32FC1': '<f4'}


def pixels(message: Image) -> np.ndarray:
    """What an image message holds; the shape of its rows is checked."""
    values = np.frombuffer(message.data, TYPES[message.encoding])
    assert message.step == len(message.data) // message.height
    assert not message.is_bigendian
    return values.reshape(message.height, message.width, -1).squeeze(axis=2 if message.encoding != 'rgb8' else ())


def saved(checkpoint: Checkpoint, folder: Path) -> Path:
    path = folder / 'network.safetensors'
    save_checkpoint(checkpoint, path)
    return path


def published(robot: Robot) -> set[str]:
    """Names of the topics that somebody publishes."""
    names = [name for name, _ in robot.node.get_topic_names_and_types()]
    return {name for name in names if robot.node.get_publishers_info_by_topic(name)}


def test_masks_come_and_nothing_that_needs_boxes(
    start_node: StartNode, robot: Robot, tiny_masks: Checkpoint, tmp_path: Path
):
    masks, overlays = robot.listen('/segmentation/mask', Image), robot.listen('/overlay', Image)
    boxes, instances = robot.listen('/detections', Detection2DArray), robot.listen('/panoptic/instances', Image)
    start_node(checkpoint=saved(tiny_masks, tmp_path))
    message = street_message()
    answer = robot.exchange(message, '/image', masks)
    assert serialize_message(answer.header) == serialize_message(message.header)
    predictor = Predictor(tiny_masks, device='cpu', engine='torch')
    [scene] = predictor.predict([pixels(message)])
    assert (pixels(answer) == scene.semantic).mean() > 0.999
    overlay = robot.exchange(message, '/image', overlays)
    assert (pixels(overlay) != pixels(message)).any(axis=2).mean() > 0.9  # class colours are blended in
    labels = robot.listen_latched('/segmentation/label_info', LabelInfo)
    wait_until(lambda: labels, 'the label set of the masks')
    assert [c.class_name for c in labels[0].class_map] == list(tiny_masks.labels.semantic_names)
    names = published(robot)
    assert {'/segmentation/mask', '/segmentation/confidence', '/segmentation/color', '/overlay'} <= names
    absent = ('/detections', '/panoptic', '/depth', '/motion')
    assert [name for name in names if name.startswith(absent)] == []
    assert boxes == instances == []
    assert robot.counts()['failed'] == 0
    assert robot.set_parameter('tracking', True).successful  # there is nothing to follow, which harms nobody
    assert robot.exchange(street_message(stamp=(2, 0)), '/image', masks)
    refused = robot.set_parameter('fusion', 'boxes')
    assert 'needs a network with a box head' in refused.reason


def test_depth_and_motion_are_those_of_the_predictor_with_the_image_before(
    start_node: StartNode, robot: Robot, tiny_multitask: Checkpoint, tmp_path: Path
):
    topics = {topic: robot.listen(topic, Image) for topic in ('/depth', '/motion/mask', '/segmentation/mask')}
    start_node(checkpoint=saved(tiny_multitask, tmp_path))
    # The first has none before it, the second and third have, the fourth comes too late, the fifth is earlier.
    stamps = [(10, 0), (10, 100_000_000), (10, 300_000_000), (12, 0), (11, 900_000_000)]
    messages = [street_message(stamp=stamp, seed=seed) for seed, stamp in enumerate(stamps)]
    images = [pixels(message) for message in messages]
    predictor = Predictor(tiny_multitask, device='cpu', engine='torch')
    expected: list[Scene] = predictor.predict(images, previous=[None, images[0], images[1], None, None])
    without: list[Scene] = predictor.predict(images)
    for message, scene in zip(messages, expected, strict=True):
        answers = {'/depth': robot.exchange(message, '/image', topics['/depth'])}
        for topic in ('/motion/mask', '/segmentation/mask'):
            stamp = message.header.stamp
            wait_until(lambda t=topic, s=stamp: any(a.header.stamp == s for a in list(topics[t])), f'{topic}')
            answers[topic] = next(a for a in topics[topic] if a.header.stamp == stamp)
        for topic, answer in answers.items():
            assert serialize_message(answer.header) == serialize_message(message.header), topic
        assert answers['/depth'].encoding == '32FC1'
        assert answers['/motion/mask'].encoding == 'mono8'
        np.testing.assert_allclose(pixels(answers['/depth']), scene.depth, rtol=1e-3)
        moves = pixels(answers['/motion/mask'])
        assert set(np.unique(moves)) <= {0, 255}
        assert ((moves == 255) == scene.motion).mean() > 0.999
        assert (pixels(answers['/segmentation/mask']) == scene.semantic).mean() > 0.999
    assert not np.allclose(expected[1].depth, without[1].depth, rtol=1e-2)  # the flow is what makes a difference
    assert {'/depth', '/motion/mask'} <= published(robot)
    assert not {'/detections', '/detections/label_info', '/panoptic/instances'} & published(robot)
    assert robot.counts()['failed'] == 0

