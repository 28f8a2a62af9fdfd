"""The node with a network that has no semantics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import NodeProcess, Robot, street_message, wait_until
from random_networks import calibrate_norms
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from sembox_ros.config import InputConfig
from sembox_ros.labels import COCO_90, SceneLabels
from sembox_ros.models.checkpoint import Checkpoint, save_checkpoint
from sembox_ros.models.zoo import create_model, find_model


def test_boxes_and_overlay_come_and_nothing_that_has_pixels(
    start_node: Callable[..., NodeProcess], robot: Robot, tmp_path: Path
):
    config = dataclasses.replace(find_model('efficientdet_d0').config, neck_channels=16, neck_cells=1, box_head_depth=1)
    model = create_model(config, seed=3)
    calibrate_norms(model, seed=3)
    path = tmp_path / 'boxes.safetensors'
    labels = SceneLabels(None, COCO_90)
    save_checkpoint(Checkpoint(model.eval(), config, labels, InputConfig(size_hw=(128, 256)), trained=False), path)

    for topic, kind in (('/detections', Detection2DArray), ('/overlay', Image), ('/segmentation/mask', Image)):
        robot.listen(topic, kind)
    start_node(checkpoint=path, engine='torch', score_threshold=0.0, max_detections=5)
    message = street_message()
    boxes = robot.exchange(message, '/image', robot.received['/detections'])
    overlay = robot.exchange(message, '/image', robot.received['/overlay'])
    assert [d.id for d in boxes.detections] == ['1', '2', '3', '4', '5']
    assert overlay.header == message.header
    difference = np.frombuffer(overlay.data, np.uint8) != np.frombuffer(message.data, np.uint8)
    assert 0 < difference.mean() < 0.9  # boxes are drawn, no class colours are blended in
    detection = robot.listen_latched('/detections/label_info', LabelInfo)
    wait_until(lambda: detection, 'the label set of the boxes')
    published = {name for name, _ in robot.node.get_topic_names_and_types()}
    assert '/detections' in published
    assert not [name for name in published if name.startswith('/panoptic/')]
    for topic in ('mask', 'confidence', 'color', 'label_info'):
        assert not robot.node.get_publishers_info_by_topic(f'/segmentation/{topic}')
    assert robot.received['/segmentation/mask'] == []
    assert robot.counts()['failed'] == 0
