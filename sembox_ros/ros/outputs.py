"""A camera's publishers, and which parts of a scene they need."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from sembox_ros.config import NodeConfig
from sembox_ros.draw import colorize, colorize_panoptic, draw_overlay
from sembox_ros.labels import SceneLabels
from sembox_ros.ros.conversions import encode_detections, encode_image, encode_label_info
from sembox_ros.types import Scene

MASK = 'segmentation/mask'
CONFIDENCE = 'segmentation/confidence'
COLOR = 'segmentation/color'
INSTANCES = 'panoptic/instances'
PANOPTIC_COLOR = 'panoptic/color'
OVERLAY = 'overlay'
DETECTIONS = 'detections'
SEMANTIC_LABELS = 'segmentation/label_info'
DETECTION_LABELS = 'detections/label_info'
DEPTH = 'depth'
MOTION = 'motion/mask'

# Topic -> message type and the parts of a scene (`inference.predictor.OUTPUTS`) that it is made of.
FRAME_TOPICS: dict[str, tuple[type, frozenset[str]]] = {
    MASK: (Image, frozenset({'semantic'})),
    CONFIDENCE: (Image, frozenset({'confidence'})),
    COLOR: (Image, frozenset({'semantic'})),
    INSTANCES: (Image, frozenset({'instances'})),
    PANOPTIC_COLOR: (Image, frozenset({'semantic', 'instances', 'detections'})),
    OVERLAY: (Image, frozenset({'semantic', 'instances', 'detections', 'motion'})),
    DETECTIONS: (Detection2DArray, frozenset({'detections'})),
    DEPTH: (Image, frozenset({'depth'})),
    MOTION: (Image, frozenset({'motion'})),
}
# Topic -> the part of a scene whose ids it explains.
LABEL_TOPICS = {SEMANTIC_LABELS: 'semantic', DETECTION_LABELS: 'detections'}
PICTURE_TOPICS = frozenset({COLOR, PANOPTIC_COLOR, OVERLAY})  # for people, who can wait until robots have the rest

_FRAME_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
_LABEL_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class SceneOutputs:
    """All publishers of one camera, made when the node is configured.

    Args:
        node: owns the publishers.
        labels: label sets of the checkpoint.
        parts: of a scene, that the network gives; what is made of others has no publisher, but for the overlay, which
            shows what there is.
        camera: name that all topics begin with; empty for a node with only one camera.
    """

    def __init__(self, node: LifecycleNode, labels: SceneLabels, parts: frozenset[str], camera: str = '') -> None:
        self._node = node
        self._labels = labels
        self._publishers: dict[str, Any] = {}
        kinds = {
            topic: (kind, _FRAME_QOS)
            for topic, (kind, made_of) in FRAME_TOPICS.items()
            if made_of <= parts or topic == OVERLAY
        }
        kinds.update({topic: (LabelInfo, _LABEL_QOS) for topic, part in LABEL_TOPICS.items() if part in parts})
        for topic, (kind, qos) in kinds.items():
            self._publishers[topic] = node.create_lifecycle_publisher(
                kind, topic_of(camera, topic), qos, qos_overriding_options=QoSOverridingOptions.with_default_policies()
            )

    def destroy(self) -> None:
        """Remove every publisher."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def wanted_topics(self) -> frozenset[str]:
        """Frame topics that somebody subscribes to now."""
        return frozenset(t for t, p in self._publishers.items() if t in FRAME_TOPICS and p.get_subscription_count() > 0)

    def publish_labels(self, config: NodeConfig) -> None:
        """Publish the label sets; late joiners get them too. Called again when the score threshold changes."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        for topic, labels, threshold in (
            (SEMANTIC_LABELS, self._labels.semantic, 0.0),
            (DETECTION_LABELS, self._labels.detection, config.score_threshold),
        ):
            if topic in self._publishers:
                self._publishers[topic].publish(encode_label_info(labels, header, threshold=threshold))

    def encode(
        self, topics: frozenset[str], image: np.ndarray | None, scene: Scene, header: Header, config: NodeConfig
    ) -> dict[str, Image | Detection2DArray]:
        """Make the messages of some frame topics, each with the input's header.

        Args:
            topics: which messages.
            image: (H, W, 3) uint8 rgb; only the overlay needs it.
            scene: what was seen in it, with all parts that the topics need.
            header: of the input.
            config: how to write and draw.
        """
        messages: dict[str, Image | Detection2DArray] = {}
        color = None
        if scene.semantic is not None and topics & {COLOR, OVERLAY}:
            color = colorize(scene.semantic, self._labels.semantic)
        if MASK in topics:
            messages[MASK] = encode_image(scene.semantic, 'mono8', header)
        if DETECTIONS in topics:
            messages[DETECTIONS] = encode_detections(
                scene.detections, self._labels.detection, header, class_id_format=config.class_id_format
            )
        if INSTANCES in topics:
            messages[INSTANCES] = encode_image(scene.instances, '16UC1', header)
        if CONFIDENCE in topics:
            messages[CONFIDENCE] = encode_image(scene.confidence, 'mono8', header)
        if DEPTH in topics:
            messages[DEPTH] = encode_image(scene.depth, '32FC1', header)
        if MOTION in topics:
            messages[MOTION] = encode_image(scene.motion.view(np.uint8) * np.uint8(255), 'mono8', header)
        if COLOR in topics:
            messages[COLOR] = encode_image(color, 'rgb8', header)
        if PANOPTIC_COLOR in topics:
            messages[PANOPTIC_COLOR] = encode_image(colorize_panoptic(scene, self._labels), 'rgb8', header)
        if OVERLAY in topics:
            picture = draw_overlay(image, scene, self._labels, alpha=config.overlay_alpha, color=color)
            messages[OVERLAY] = encode_image(picture, 'rgb8', header)
        return messages

    def publish(self, messages: dict[str, Image | Detection2DArray]) -> None:
        """Send what `encode` made."""
        for topic, message in messages.items():
            self._publishers[topic].publish(message)


def topic_of(camera: str, topic: str) -> str:
    """The relative name of a camera's topic; without a camera's name, the topic itself."""
    return f'{camera}/{topic}' if camera else topic


def needed_parts(topics: frozenset[str]) -> frozenset[str]:
    """The parts of a scene that these frame topics are made of."""
    return frozenset().union(*(FRAME_TOPICS[topic][1] for topic in topics))
