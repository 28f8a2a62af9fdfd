"""Messages of masks and boxes as rosbags reads and writes them, to arrays and back."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np

from sembox_ros.errors import DatasetError
from sembox_ros.labels import LabelSet
from sembox_ros.replay.vision_messages import DEFINITIONS, create_typestore
from sembox_ros.types import Detections

CROWD_ID = 'crowd'  # `id` of a ground-truth box that nobody has to find

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
DETECTIONS = 'vision_msgs/msg/Detection2DArray'
LABEL_INFO = 'vision_msgs/msg/LabelInfo'


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

    def encode_image(self, image: np.ndarray, encoding: Literal['mono8', 'rgb8'], header: Any) -> Any:
        """A sensor_msgs/Image.

        Args:
            image: (H, W) uint8 for mono8, (H, W, 3) uint8 for rgb8; any memory layout.
            encoding: one of the two.
            header: becomes the message's header as it is.
        """
        return self._types[IMAGE](
            header=header,
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=image.shape[1] * (3 if encoding == 'rgb8' else 1),
            data=np.ascontiguousarray(image).reshape(-1),
        )

    def encode_jpeg(self, image: np.ndarray, header: Any, *, quality: int = 95) -> Any:
        """A sensor_msgs/CompressedImage of (H, W, 3) uint8 rgb, as compressed_image_transport makes it."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].reshape(-1)
        return self._types[COMPRESSED_IMAGE](header=header, format='rgb8; jpeg compressed bgr8', data=data)

    def encode_detections(self, detections: Detections, header: Any, *, is_crowd: np.ndarray | None = None) -> Any:
        """A Detection2DArray whose class ids are decimal.

        Args:
            detections: boxes in pixels of the image that `header` belongs to.
            header: becomes the header of the array and of each Detection2D as it is.
            is_crowd: (N,) bool, ground truth only: which boxes are not asked for.
        """
        boxes = detections.boxes_xyxy.astype(np.float64)  # before the arithmetic, as in ros/conversions
        centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        crowd = np.zeros(len(detections), bool) if is_crowd is None else is_crowd
        columns = (centers, sizes, detections.class_ids, detections.scores, crowd)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return self._types[DETECTIONS](
            header=header,
            detections=[
                self._detection(
                    header=header,
                    results=[self._result(self._hypothesis(str(class_id), score), self._no_pose)],
                    bbox=self._box(self._pose(self._point(x, y), 0.0), size_x, size_y),
                    id=CROWD_ID if aside else '',
                )
                for (x, y), (size_x, size_y), class_id, score, aside in rows
            ],
        )

    def encode_label_info(self, labels: LabelSet, header: Any, *, threshold: float) -> Any:
        """A LabelInfo; `threshold` is the least score of what is there."""
        classes = [self._class(class_id=i, class_name=name) for i, name in enumerate(labels.names)]
        return self._types[LABEL_INFO](header=header, class_map=classes, threshold=threshold)


def view_image(message: Any) -> np.ndarray:
    """Pixels of a tightly packed 8-bit image message as this package publishes them.

    Returns:
        (H, W, 3) uint8 for rgb8, (H, W) uint8 for mono8.

    Raises:
        DatasetError: another encoding or a short message.
    """
    channels = {'rgb8': 3, 'mono8': 1}.get(message.encoding)
    if channels is None or len(message.data) != message.height * message.width * channels:
        raise DatasetError(f'image: expected packed rgb8 or mono8, got {message.encoding}, {len(message.data)} bytes')
    shape = (message.height, message.width, channels) if channels > 1 else (message.height, message.width)
    return np.asarray(message.data, np.uint8).reshape(shape)


def read_detections(message: Any, labels: LabelSet) -> Detections:
    """The boxes of a Detection2DArray; float32 corners come back as they were before they were published.

    Args:
        message: each of its detections has the decimal id or the name of its class first among its results.
        labels: what the ids and names mean.

    Raises:
        DatasetError: a detection has no result, or its class is not in `labels`.
        InputError: a box is not finite or has a negative size.
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
    return Detections(boxes.astype(np.float32), np.array(class_ids, np.int64), np.array(scores, np.float32))


def read_is_crowd(message: Any) -> np.ndarray:
    """Which boxes of a ground-truth Detection2DArray are not asked for: (N,) bool."""
    return np.array([detection.id == CROWD_ID for detection in message.detections], bool)
