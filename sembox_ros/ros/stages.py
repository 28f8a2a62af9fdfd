"""From a camera's message to its answers: what the threads of `worker.FrameWorker` do with a frame."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping

import rclpy
from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time

from sembox_ros.config import NodeConfig
from sembox_ros.errors import InputError
from sembox_ros.inference.flow import LastImages
from sembox_ros.inference.predictor import Predictor
from sembox_ros.inference.tracking import SceneTracker
from sembox_ros.ros.conversions import decode_image
from sembox_ros.ros.outputs import OVERLAY, PICTURE_TOPICS, SceneOutputs, needed_parts
from sembox_ros.ros.statistics import FrameStatistics
from sembox_ros.ros.worker import Frame
from sembox_ros.types import Scene

REPORT_PERIOD_S = 5.0  # between two log lines about the same kind of bad frame
MAX_KINDS = 100  # hostile input must not grow memory


class SceneStages:
    """Decodes, infers and publishes for all cameras of a node.

    Args:
        node: gives the clock and the logger.
        predictor: the network.
        outputs: camera -> its publishers.
        statistics: camera -> where the reasons of failures go.
        config: asked for the node's parameters, some of which change while it runs.
    """

    def __init__(
        self,
        node: LifecycleNode,
        predictor: Predictor,
        outputs: Mapping[str, SceneOutputs],
        statistics: Mapping[str, FrameStatistics],
        config: Callable[[], NodeConfig],
    ) -> None:
        self._node = node
        self._predictor = predictor
        self._outputs = dict(outputs)
        self._statistics = statistics
        self._config = config
        self._trackers: dict[str, SceneTracker] = {}  # camera -> what it saw; none while tracking is off
        self._last_images = LastImages()
        self._reported: dict[str, float] = {}
        self._lock = threading.Lock()  # guards _reported: every thread reports

    def decode(self, frame: Frame) -> str | None:
        """Turn the message into an image, unless it is too old or nobody wants its answers.

        Raises:
            InputError: the message is not a usable image.
        """
        config, message = self._config(), frame.message
        frame.header = message.header
        outcome = self._refuse(frame, config)
        if outcome is None:
            with frame.watch.stage('decode'):
                frame.image = decode_image(message, max_pixels=config.max_image_pixels, warn=self._warn_once)
            if self._predictor.takes_flow:
                # Here, where every image of the camera comes by in order, also those that are dropped later on.
                frame.previous = self._last_images.replace(frame.camera, _nanoseconds(frame), frame.image)
            frame.message = None
        return outcome

    def admit(self, frame: Frame) -> str | None:
        """Ask again what `decode` asked: the frame has waited, and subscribers may have come and gone."""
        frame.config = self._config()
        return self._refuse(frame, frame.config)

    def infer(self, frames: list[Frame]) -> None:
        """Give each frame its scene, in one call of the predictor.

        Raises:
            InputError: the network cannot run, for one by lack of memory.
        """
        config, topics = frames[0].config, frozenset().union(*(frame.topics for frame in frames))
        parts = needed_parts(topics)
        if config.tracking and 'instances' in parts:
            parts |= {'detections'}  # it is boxes that are tracked
        images, previous = [frame.image for frame in frames], [frame.previous for frame in frames]
        scenes = self._predictor.predict(images, previous=previous, detection=config, outputs=parts)
        if not config.tracking:
            self._trackers.clear()
        for frame, scene in zip(frames, scenes, strict=True):
            frame.watch.timings_ms.update(scene.timings_ms)
            frame.scene = self._track(frame, scene) if config.tracking and scene.detections is not None else scene
            frame.previous = None
            if OVERLAY not in frame.topics:
                frame.image = None

    def publish_results(self, frame: Frame) -> str | None:
        """Send mask, detections and confidence; the frame is processed if nobody wants pictures."""
        self._publish(frame, frame.topics - PICTURE_TOPICS)
        return None if frame.topics & PICTURE_TOPICS else 'processed'

    def publish_pictures(self, frame: Frame) -> str | None:
        """Draw and send colours and overlay."""
        self._publish(frame, frame.topics & PICTURE_TOPICS)
        return 'processed'

    def report_failure(self, frame: Frame, error: Exception) -> None:
        """Remember the reason and log it, but not more often than every few seconds for one kind of reason."""
        if not rclpy.ok(context=self._node.context):
            return  # publishers vanish under a frame in flight when the process is told to end
        statistics, reason = self._statistics[frame.camera], _describe(error)
        statistics.remember_failure(reason)
        failed = statistics.counts()['failed'] + 1
        whose = f' of {frame.camera}' if frame.camera else ''
        self._warn(f'bad frame{whose} dropped', f'({failed} so far): {reason}')

    def report_retry(self, count: int, error: Exception) -> None:
        """Log, as seldom as failures, that the frames of a batch are inferred again, one by one."""
        self._warn(f'{count} frames failed together and run one by one', f'(smaller max_batch?): {_describe(error)}')

    def _refuse(self, frame: Frame, config: NodeConfig) -> str | None:
        """Find out which topics are wanted; 'stale' or 'idle' if the frame need not be looked at."""
        if config.max_age_s > 0:
            now = self._node.get_clock().now()
            age = now - Time.from_msg(frame.header.stamp, clock_type=now.clock_type)
            if age.nanoseconds > config.max_age_s * 1e9:
                return 'stale'
        frame.topics = self._outputs[frame.camera].wanted_topics()
        return None if frame.topics else 'idle'

    def _track(self, frame: Frame, scene: Scene) -> Scene:
        """The scene with the numbers that its objects had in the camera's last frames."""
        tracker = self._trackers.setdefault(frame.camera, SceneTracker())
        with frame.watch.stage('postprocess'):
            return tracker.update(scene, _nanoseconds(frame))

    def _publish(self, frame: Frame, topics: frozenset[str]) -> None:
        if not topics:
            return
        outputs = self._outputs[frame.camera]
        with frame.watch.stage('encode'):
            messages = outputs.encode(topics, frame.image, frame.scene, frame.header, frame.config)
        with frame.watch.stage('publish'):
            outputs.publish(messages)
        frame.published = time.perf_counter()

    def _warn(self, what: str, details: str) -> None:
        kind, now = re.sub(r'\d+', '#', f'{what} {details}'), time.monotonic()
        with self._lock:
            if now - self._reported.get(kind, -REPORT_PERIOD_S) < REPORT_PERIOD_S:
                return
            if len(self._reported) > MAX_KINDS:
                self._reported.clear()
            self._reported[kind] = now
        self._node.get_logger().warning(f'{what} {details}')

    def _warn_once(self, text: str) -> None:
        with self._lock:
            if text in self._reported:
                return
            self._reported[text] = float('inf')
        self._node.get_logger().warning(text)


def _nanoseconds(frame: Frame) -> int:
    """The stamp of the frame's image."""
    stamp = frame.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f'unexpected {type(error).__name__}: {error}'
