"""The definitions of vision_msgs that bags of ours need, for machines where that package is not installed."""

from __future__ import annotations

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

# vision_msgs 4.x; a test compares them with the .msg files below underlay/, which an installed package does not ship.
DEFINITIONS: dict[str, str] = {
    'Point2D': 'float64 x\nfloat64 y\n',
    'Pose2D': 'vision_msgs/Point2D position\nfloat64 theta\n',
    'BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n',
    'ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'ObjectHypothesisWithPose': 'vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n',
    'Detection2D': (
        'std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n'
        'string id\n'
    ),
    'Detection2DArray': 'std_msgs/Header header\nvision_msgs/Detection2D[] detections\n',
    'VisionClass': 'uint16 class_id\nstring class_name\n',
    'LabelInfo': 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n',
}


def create_typestore() -> Typestore:
    """The standard message types of ROS 2 and those of vision_msgs."""
    store = get_typestore(Stores.LATEST)
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, f'vision_msgs/msg/{name}'))
    return store
