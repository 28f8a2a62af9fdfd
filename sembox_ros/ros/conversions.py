"""Conversions between ROS messages and numpy arrays; `decode_image` is that of `decoding`, with cv_bridge if there."""

from __future__ import annotations

import array
from functools import partial
from typing import Literal

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)

from sembox_ros import decoding
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.labels import LabelSet
from sembox_ros.types import Detections

Encoding = Literal['mono8', 'rgb8', '16UC1', '32FC1']


def _load_converter() -> decoding.Converter:
    """cv_bridge's conversion of colours, or that of rosbags-image where it is not installed."""
    try:
        # The compiled half is what fails when cv_bridge was built for another NumPy; better now than at a frame.
        import cv_bridge.boost.cv_bridge_boost  # noqa: F401
        from cv_bridge import CvBridge
    except (ImportError, AttributeError):
        from rosbags.image import message_to_cvimage

        return message_to_cvimage
    convert: decoding.Converter = CvBridge().imgmsg_to_cv2
    return convert


decode_image = partial(decoding.decode_image, convert=_load_converter())


def encode_image(image: np.ndarray, encoding: Encoding, header: Header) -> Image:
    """Build an image message.

    Args:
        image: (H, W) uint8 for mono8, (H, W, 3) uint8 for rgb8, (H, W) uint16 for 16UC1, (H, W) float32 for 32FC1; any
            memory layout.
        encoding: one of the four.
        header: becomes the message's header as it is, not a copy.

    Raises:
        InputError: encoding, shape and dtype do not go together.
    """
    wanted = {'mono8': (2, np.uint8), 'rgb8': (3, np.uint8), '16UC1': (2, np.uint16), '32FC1': (2, np.float32)}
    if encoding not in wanted:
        raise InputError(f'encoding: expected one of {", ".join(wanted)}, got {encoding!r}')
    ndim, dtype = wanted[encoding]
    if image.ndim != ndim or image.dtype != dtype or image.size == 0 or image.shape[2:] not in ((), (3,)):
        raise InputError(
            f'image: expected {"(H, W, 3)" if ndim == 3 else "(H, W)"} {np.dtype(dtype)} for {encoding}, '
            f'got {image.shape} {image.dtype}'
        )
    height, width = image.shape[:2]
    little = np.ascontiguousarray(image, np.dtype(dtype).newbyteorder('<'))
    # rclpy takes an array.array over unchecked and looks at every single byte of anything else.
    data = array.array('B')
    data.frombytes(little.reshape(-1).view(np.uint8).data)
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=little.nbytes // height,
        data=data,
    )


def encode_detections(
    detections: Detections, labels: LabelSet, header: Header, *, class_id_format: Literal['id', 'name'] = 'id'
) -> Detection2DArray:
    """Build the message of one image's boxes.

    Args:
        detections: boxes in pixels of the image that `header` belongs to.
        labels: the detection label set.
        header: becomes the header of the array and of each Detection2D as it is, not a copy.
        class_id_format: whether `hypothesis.class_id` is the decimal id or the class name.

    Returns:
        One Detection2D with one result per box, in the given order; `id` is the decimal number that the box's pixels
        have in `panoptic/instances`, and `pose` the message's default.

    Raises:
        ConfigError: `class_id_format` is neither id nor name.
        InputError: a class id is not in `labels`.
    """
    if class_id_format not in ('id', 'name'):
        raise ConfigError(f"class_id_format: expected 'id' or 'name', got {class_id_format!r}")
    class_ids = detections.class_ids
    if len(class_ids) and (class_ids.min() < 0 or class_ids.max() >= len(labels)):
        raise InputError(
            f"class_ids: expected 0..{len(labels) - 1} of label set '{labels.name}', "
            f'got {class_ids.min()}..{class_ids.max()}'
        )
    names = labels.names if class_id_format == 'name' else [str(i) for i in range(len(labels))]
    boxes = detections.boxes_xyxy.astype(np.float64)  # before the arithmetic: float32 halves lose what they carry
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    columns = (centers, sizes, class_ids, detections.scores, detections.ids)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return Detection2DArray(
        header=header,
        detections=[
            Detection2D(
                header=header,
                results=[ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=names[class_id], score=score))],
                bbox=BoundingBox2D(center=Pose2D(position=Point2D(x=x, y=y)), size_x=size_x, size_y=size_y),
                id=str(number),
            )
            for (x, y), (size_x, size_y), class_id, score, number in rows
        ],
    )


def encode_label_info(labels: LabelSet, header: Header, *, threshold: float) -> LabelInfo:
    """Build the message that says what the ids of masks or boxes mean.

    Args:
        labels: the label set.
        header: becomes the message's header as it is, not a copy.
        threshold: least score or confidence 0..1 of what is published; the message stores it as float32.
    """
    classes = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(labels.names)]
    return LabelInfo(header=header, class_map=classes, threshold=float(threshold))
