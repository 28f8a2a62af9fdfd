"""Bags of images with ground truth, written without ROS."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sembox_ros.errors import DatasetError, InputError
from sembox_ros.labels import SceneLabels
from sembox_ros.replay.bag_writer import METADATA, BagWriter, topic_of
from sembox_ros.replay.scene_messages import COMPRESSED_IMAGE, DETECTIONS, IMAGE
from sembox_ros.types import MAX_INSTANCE, Detections, check_array

TRUTH_MASK = 'ground_truth/segmentation/mask'
TRUTH_DETECTIONS = 'ground_truth/detections'
TRUTH_INSTANCES = 'ground_truth/panoptic/instances'
TRUTH_DEPTH = 'ground_truth/depth'
TRUTH_MOTION = 'ground_truth/motion/mask'
TRUTH_MASK_LABELS = 'ground_truth/segmentation/label_info'
TRUTH_DETECTION_LABELS = 'ground_truth/detections/label_info'


@dataclass(frozen=True)
class DriveFrame:
    """An image and what is known of it.

    Attributes:
        stamp_ns: stamp and time of recording, nanoseconds.
        image: (H, W, 3) uint8 rgb.
        semantic: (H, W) uint8 class ids of the truth's semantic label set, 255 = unlabeled; None if not known.
        boxes_xyxy: (N, 4) float32 in pixels; None if not known.
        class_ids: (N,) int64 ids of the truth's detection label set.
        is_crowd: (N,) bool, True for what is not asked for; None if all is.
        ids: (N,) int64, different numbers in 1..65535: which pixels of `instances` are whose; None: 1, 2, ... N.
        instances: (H, W) uint16, `ids` of the box that has the pixel, 0 = none; None if not known.
        depth: (H, W) float32 metres along the optical axis, 0 = unknown; None if not known.
        motion: (H, W) uint8, 1 = moves in the world, 0 = does not, 255 = ignored; None if not known.
        camera: whose it is, where there are several.
    """

    stamp_ns: int
    image: np.ndarray
    semantic: np.ndarray | None = None
    boxes_xyxy: np.ndarray | None = None
    class_ids: np.ndarray | None = None
    is_crowd: np.ndarray | None = None
    ids: np.ndarray | None = None
    instances: np.ndarray | None = None
    depth: np.ndarray | None = None
    motion: np.ndarray | None = None
    camera: str = ''


def write_drive(
    path: Path,
    frames: Iterable[DriveFrame],
    *,
    labels: SceneLabels | None,
    topic: str = '/camera/image_raw',
    frame_id: str = 'camera',
    compressed: bool = False,
) -> int:
    """Write images and ground truth as a rosbag2 bag (mcap), wholly or not at all; replaces a bag of that name.

    Args:
        path: folder of the bag.
        frames: in the order of the stamps.
        labels: what the truth's ids mean; None if no frame has masks or boxes.
        topic: name of the image topic, behind `/<camera>` for frames that have one.
        frame_id: of every header.
        compressed: write sensor_msgs/CompressedImage (jpeg of quality 95) on `<topic>/compressed`.

    Returns:
        Number of images written.

    Raises:
        DatasetError: the bag cannot be written, or a frame has masks or boxes without `labels`.
        InputError: the boxes of a frame do not fit together, or an instance has no box.
    """
    if (path / METADATA).is_file():
        shutil.rmtree(path, ignore_errors=True)
    bag = BagWriter(path)  # refuses a folder that is there: only what is made below may be removed
    count = 0
    cameras: set[str] = set()
    try:
        with bag:
            for frame in frames:
                if labels is not None and frame.camera not in cameras:
                    cameras.add(frame.camera)
                    sets = ((TRUTH_MASK_LABELS, labels.semantic, 0.0), (TRUTH_DETECTION_LABELS, labels.detection, 0.0))
                    bag.write_labels(frame.camera, frame.stamp_ns, frame.stamp_ns, sets)
                if labels is None and (frame.semantic is not None or frame.boxes_xyxy is not None):
                    raise DatasetError('labels: expected the label sets of the ground truth, got None')
                _write_frame(bag, frame, topic.strip('/'), frame_id, compressed)
                count += 1
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)  # without its index it is of no use to anybody
        raise
    return count


def _write_frame(bag: BagWriter, frame: DriveFrame, topic: str, frame_id: str, compressed: bool) -> None:
    encoder = bag.encoder
    header = encoder.make_header(frame.stamp_ns, frame_id)
    image_topic = topic_of(frame.camera, topic)
    if compressed:
        message = encoder.encode_jpeg(frame.image, header)
        bag.write(f'{image_topic}/compressed', COMPRESSED_IMAGE, frame.stamp_ns, message)
    else:
        bag.write(image_topic, IMAGE, frame.stamp_ns, encoder.encode_image(frame.image, 'rgb8', header))
    if frame.semantic is not None:
        message = encoder.encode_image(frame.semantic, 'mono8', header)
        bag.write(topic_of(frame.camera, TRUTH_MASK), IMAGE, frame.stamp_ns, message)
    if frame.boxes_xyxy is not None and frame.class_ids is not None:
        scores = np.ones(len(frame.boxes_xyxy), np.float32)
        numbers = {} if frame.ids is None else {'ids': frame.ids}
        boxes = Detections(frame.boxes_xyxy, frame.class_ids, scores, **numbers)
        message = encoder.encode_detections(boxes, header, is_crowd=frame.is_crowd)
        bag.write(topic_of(frame.camera, TRUTH_DETECTIONS), DETECTIONS, frame.stamp_ns, message)
        if frame.instances is not None:
            _check_instances(frame.instances, boxes, frame.image.shape[:2])
            message = encoder.encode_image(frame.instances, '16UC1', header)
            bag.write(topic_of(frame.camera, TRUTH_INSTANCES), IMAGE, frame.stamp_ns, message)
    if frame.depth is not None:
        metres = np.where(frame.depth > 0, frame.depth, np.float32(np.nan))  # REP 118's unknown
        message = encoder.encode_image(metres, '32FC1', header)
        bag.write(topic_of(frame.camera, TRUTH_DEPTH), IMAGE, frame.stamp_ns, message)
    if frame.motion is not None:
        message = encoder.encode_motion(frame.motion, header)
        bag.write(topic_of(frame.camera, TRUTH_MOTION), IMAGE, frame.stamp_ns, message)


def _check_instances(instances: np.ndarray, boxes: Detections, size_hw: tuple[int, ...]) -> None:
    check_array('instances', instances, size_hw, np.uint16)
    is_known = np.zeros(MAX_INSTANCE + 1, np.bool_)
    is_known[boxes.ids] = is_known[0] = True
    if not (found := is_known[instances]).all():
        raise InputError(f'instances: expected 0 or the id of a box, got {instances[~found][0]}')


def write_image_bag(
    path: Path, frames: Iterable[tuple[int, np.ndarray]], *, topic: str, frame_id: str = 'camera'
) -> int:
    """Write images alone; as `write_drive`.

    Args:
        path: folder of the bag.
        frames: stamp in nanoseconds and (H, W, 3) uint8 rgb.
        topic: name of the image topic.
        frame_id: of every header.

    Returns:
        Number of images written.

    Raises:
        DatasetError: the bag cannot be written.
    """
    drive = (DriveFrame(stamp_ns, image) for stamp_ns, image in frames)
    return write_drive(path, drive, labels=None, topic=topic, frame_id=frame_id)
