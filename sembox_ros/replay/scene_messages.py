"""Messages of masks and boxes as rosbags reads and writes them, to arrays and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal

import cv2
import numpy as np

from sembox_ros.decoding import decode_mask
from sembox_ros.errors import DatasetError
from sembox_ros.labels import IGNORE_ID, LabelSet
from sembox_ros.replay.vision_messages import DEFINITIONS, create_typestore
from sembox_ros.types import MAX_INSTANCE, Detections

MOVES, UNKNOWN_MOTION = 255, 128  # in a motion/mask, where 0 does not move; only ground truth leaves pixels unknown
CROWD_ID = 'crowd'  # before the number in the `id` of a ground-truth box that nobody has to find, or alone

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
DETECTIONS = 'vision_msgs/msg/Detection2DArray'
LABEL_INFO = 'vision_msgs/msg/LabelInfo'

# Encoding -> type of a sample and, where there are several, samples per pixel.
_PIXELS: dict[str, tuple[Any, ...]] = {'mono8': ('u1',), 'rgb8': ('u1', 3), '16UC1': ('<u2',), '32FC1': ('<f4',)}
Encoding = Literal['mono8', 'rgb8', '16UC1', '32FC1']


class MessageEncoder:
    """Makes the messages that the node publishes, field for field, of the types that rosbags writes."""

    def __init__(self) -> None:
        self.typestore = create_typestore()
        self._types = self.typestore.types
        vision = {name: self._types[f'vision_msgs/msg/{name}'] for name in DEFINITIONS}
        self._point, self._pose, self._box = vision['Point2D'], vision['Pose2D'], vision['BoundingBox2D']
        self._hypothesis, self._result = vision['ObjectHypothesis'], vision['ObjectHypothesisWithPose']
        self._detection, self._class = vision['Detection2D'], vision['VisionClass']
        geometry = {name: self._types[f'geometry_msgs/msg/{name}'] for name in ('Point', 'Quaternion', 'Pose')}
        pose = geometry['Pose'](geometry['Point'](0.0, 0.0, 0.0), geometry['Quaternion'](0.0, 0.0, 0.0, 1.0))
        self._no_pose = self._types['geometry_msgs/msg/PoseWithCovariance'](pose, np.zeros(36))

    def make_header(self, stamp_ns: int, frame_id: str) -> Any:
        """A std_msgs/Header."""
        stamp = self._types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
        return self._types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)

    def copy_header(self, header: Any) -> Any:
        """The header of a message of any bag, also of ROS 1, which has a sequence number more."""
        stamp = self._types['builtin_interfaces/msg/Time'](header.stamp.sec, header.stamp.nanosec)
        return self._types['std_msgs/msg/Header'](stamp=stamp, frame_id=header.frame_id)

    def encode_image(self, image: np.ndarray, encoding: Encoding, header: Any) -> Any:
        """A sensor_msgs/Image.

        Args:
            image: (H, W) uint8 for mono8, (H, W, 3) uint8 for rgb8, (H, W) uint16 for 16UC1, (H, W) float32 for 32FC1;
                any memory layout.
            encoding: one of the four.
            header: becomes the message's header as it is.
        """
        little = np.ascontiguousarray(image, image.dtype.newbyteorder('<'))
        return self._types[IMAGE](
            header=header,
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=little.nbytes // image.shape[0],
            data=little.reshape(-1).view(np.uint8),
        )

    def encode_jpeg(self, image: np.ndarray, header: Any, *, quality: int = 95) -> Any:
        """A sensor_msgs/CompressedImage of (H, W, 3) uint8 rgb, as compressed_image_transport makes it."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].reshape(-1)
        return self._types[COMPRESSED_IMAGE](header=header, format='rgb8; jpeg compressed bgr8', data=data)

    def encode_detections(self, detections: Detections, header: Any, *, is_crowd: np.ndarray | None = None) -> Any:
        """A Detection2DArray whose class ids are decimal; `id` is the number of the detection's instance.

        Args:
            detections: boxes in pixels of the image that `header` belongs to.
            header: becomes the header of the array and of each Detection2D as it is.
            is_crowd: (N,) bool, ground truth only: which boxes are not asked for.
        """
        boxes = detections.boxes_xyxy.astype(np.float64)  # before the arithmetic, as in ros/conversions
        centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        crowd = np.zeros(len(detections), bool) if is_crowd is None else is_crowd
        columns = (centers, sizes, detections.class_ids, detections.scores, detections.ids, crowd)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return self._types[DETECTIONS](
            header=header,
            detections=[
                self._detection(
                    header=header,
                    results=[self._result(self._hypothesis(str(class_id), score), self._no_pose)],
                    bbox=self._box(self._pose(self._point(x, y), 0.0), size_x, size_y),
                    id=f'{CROWD_ID} {number}' if aside else str(number),
                )
                for (x, y), (size_x, size_y), class_id, score, number, aside in rows
            ],
        )

    def encode_motion(self, motion: np.ndarray, header: Any) -> Any:
        """A sensor_msgs/Image mono8 of ground truth: 255 moves, 0 does not, 128 unknown.

        Args:
            motion: (H, W) uint8, 1 = moves, 0 = does not, 255 = ignored.
            header: becomes the message's header as it is.
        """
        pixels = np.select([motion == 1, motion == IGNORE_ID], [MOVES, UNKNOWN_MOTION]).astype(np.uint8)
        return self.encode_image(pixels, 'mono8', header)

    def encode_label_info(self, labels: LabelSet, header: Any, *, threshold: float) -> Any:
        """A LabelInfo; `threshold` is the least score of what is there."""
        classes = [self._class(class_id=i, class_name=name) for i, name in enumerate(labels.names)]
        return self._types[LABEL_INFO](header=header, class_map=classes, threshold=threshold)


def view_image(message: Any) -> np.ndarray:
    """Pixels of a tightly packed image message as this package publishes them.

    Returns:
        (H, W, 3) uint8 for rgb8, (H, W) uint8 for mono8, (H, W) uint16 for 16UC1, (H, W) float32 for 32FC1.

    Raises:
        DatasetError: another encoding or a short message.
    """
    dtype, *channels = _PIXELS.get(message.encoding, (None,))
    shape = (message.height, message.width, *channels)
    if dtype is None or len(message.data) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise DatasetError(
            f'image: expected packed {", ".join(_PIXELS)}, got {message.encoding}, {len(message.data)} bytes'
        )
    pixels = np.asarray(message.data, np.uint8).view(dtype).reshape(shape)
    return pixels.astype(pixels.dtype.newbyteorder('='), copy=False)


def read_motion(message: Any) -> np.ndarray:
    """What a motion/mask says: (H, W) uint8, 1 = moves, 0 = does not, 255 = ignored.

    Args:
        message: mono8 image, 255 = moves, 0 = does not; pixels of any other number are unknown.

    Raises:
        InputError: another encoding, or data that does not fit.
    """
    pixels = decode_mask(message)
    return np.select([pixels == MOVES, pixels > 0], [1, IGNORE_ID]).astype(np.uint8)


def read_detections(message: Any, labels: LabelSet) -> Detections:
    """The boxes of a Detection2DArray; float32 corners come back as they were before they were published.

    Args:
        message: each of its detections has the decimal id or the name of its class first among its results. Its `id`
            is the number of its instance; those that have none of their own (others leave `id` empty, or put names
            there) get the least numbers that are free, in order.
        labels: what the ids and names mean.

    Raises:
        DatasetError: a detection has no result, or its class is not in `labels`.
        InputError: a box is not finite or has a negative size, or there are more than 65535.
    """
    ids = {name: i for i, name in enumerate(labels.names)}
    ids.update((str(i), i) for i in range(len(labels)))
    rows, class_ids, scores = [], [], []
    for detection in message.detections:
        if not detection.results:
            raise DatasetError('detections: expected a class for each box, got a box without results')
        hypothesis, bbox = detection.results[0].hypothesis, detection.bbox
        if hypothesis.class_id not in ids:
            raise DatasetError(
                f"detections: class_id {hypothesis.class_id[:40]!r} is neither an id nor a name of '{labels.name}'"
            )
        rows.append((bbox.center.position.x, bbox.center.position.y, bbox.size_x / 2, bbox.size_y / 2))
        class_ids.append(ids[hypothesis.class_id])
        scores.append(hypothesis.score)
    x, y, half_width, half_height = np.array(rows, np.float64).reshape(-1, 4).T
    boxes = np.stack((x - half_width, y - half_height, x + half_width, y + half_height), axis=1)
    return Detections(
        boxes.astype(np.float32),
        np.array(class_ids, np.int64),
        np.array(scores, np.float32),
        np.array(_number([detection.id for detection in message.detections]), np.int64),
    )


def read_is_crowd(message: Any) -> np.ndarray:
    """Which boxes of a ground-truth Detection2DArray are not asked for: (N,) bool."""
    return np.array([detection.id.split(' ')[0] == CROWD_ID for detection in message.detections], bool)


def _number(texts: Sequence[str]) -> list[int]:
    """A number for each `id`, all different: its own, if it is one in 1..65535 that no `id` before it has."""
    own = [_read_number(text.removeprefix(f'{CROWD_ID} ')) for text in texts]
    taken = set(own)
    free = (number for number in count(1) if number not in taken)
    numbers: dict[int, None] = {}
    for number in own:
        numbers[next(free) if number is None or number in numbers else number] = None
    return list(numbers)


def _read_number(text: str) -> int | None:
    """The number of an instance that a text is, None for any other text."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_INSTANCE))):
        return None
    number = int(text)
    return number if 0 < number <= MAX_INSTANCE else None
