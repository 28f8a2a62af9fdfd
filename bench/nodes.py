"""Real node processes, and a client that publishes images to them and waits for the answers over DDS.

rclpy is imported when a client is made: the rest of the benchmark runs where there is no ROS.
"""

from __future__ import annotations

import functools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT_S = 60.0  # for a node to be there, and for an answer
IN_FLIGHT = 2  # under load each camera has one frame in the network and one that waits: never idle, never flooded
MASK_AND_BOXES = ('segmentation/mask', 'detections')
ALL_OUTPUTS = (*MASK_AND_BOXES, 'segmentation/confidence', 'segmentation/color', 'overlay')


class NodeError(Exception):
    """A node ended or did not answer; the text has the end of its log."""


class NodeProcess:
    """The node in a process of its own, until `stop`.

    Args:
        arguments: what follows --ros-args.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._log = tempfile.NamedTemporaryFile(mode='w+', suffix='.log')  # noqa: SIM115 - lives as long as the node
        command = [sys.executable, '-m', 'sembox_ros.ros.node', '--ros-args', *arguments]
        # A session of its own: Ctrl-C is for the benchmark, which then stops the node.
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)

    def check(self) -> None:
        """Raise NodeError if it has ended."""
        if self._process.poll() is not None:
            raise NodeError(f'the node ended with status {self._process.returncode}:\n{self.log()}')

    def log(self) -> str:
        """The last lines that it printed."""
        return '\n'.join(Path(self._log.name).read_text(errors='replace').splitlines()[-8:])

    def memory_mib(self) -> tuple[float, float]:
        """Resident memory, and the share of it that is its own if shared pages are split among their users (PSS)."""
        text = Path(f'/proc/{self._process.pid}/smaps_rollup').read_text()
        rss, pss = (int(re.search(rf'^{name}:\s+(\d+) kB', text, re.MULTILINE)[1]) for name in ('Rss', 'Pss'))
        return rss / 1024, pss / 1024

    def stop(self) -> None:
        """End it as Ctrl-C would; kill it if it does not listen."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Camera:
    """One publisher of frames and the subscriptions to what comes back for it.

    Attributes:
        published: frames sent; a frame's number is in its stamp's nanoseconds.
        newest: number of the newest frame that was answered on all topics, -1 before that.
        answer_times: `time.perf_counter` of each complete answer.
    """

    def __init__(self, node: Any, prefix: str, image: np.ndarray, topics: Sequence[str], answered: Any) -> None:
        from sensor_msgs.msg import Image
        from std_msgs.msg import Header
        from vision_msgs.msg import Detection2DArray

        from sembox_ros.ros.conversions import encode_image

        self.published, self.newest = 0, -1
        self.answer_times: list[float] = []
        self._answered = answered
        self._topics = len(topics)
        self._arrived: dict[int, int] = {}
        self._message = encode_image(image, 'rgb8', Header(frame_id=prefix))
        self._publisher = node.create_publisher(Image, f'{prefix}/image', IN_FLIGHT)
        for topic in topics:
            kind = Detection2DArray if topic == 'detections' else Image
            node.create_subscription(kind, f'{prefix}/{topic}', self._take, 10)

    def connected(self) -> bool:
        """Whether a node listens."""
        return self._publisher.get_subscription_count() > 0

    def publish(self) -> int:
        """Send the next frame; its number."""
        number = self.published
        self._message.header.stamp.nanosec = number
        self.published += 1
        self._publisher.publish(self._message)
        return number

    def unanswered(self) -> int:
        """Frames that may still be answered: none is answered after a newer one."""
        return self.published - 1 - self.newest

    def rate(self, start: float) -> float:
        """Complete answers per second since `start`, from the first of them to the last."""
        times = [t for t in self.answer_times if t >= start]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def _take(self, message: Any) -> None:
        number = message.header.stamp.nanosec
        with self._answered:
            self._arrived[number] = self._arrived.get(number, 0) + 1
            if self._arrived[number] == self._topics:
                self.newest = max(self.newest, number)
                self.answer_times.append(time.perf_counter())
                self._arrived = {n: count for n, count in self._arrived.items() if n > self.newest}
                self._answered.notify_all()


class Client:
    """Cameras of one image each, and the health that nodes report.

    Args:
        prefixes: of the topics of each camera, '' or '/name'.
        image: (H, W, 3) uint8 rgb that all of them show.
        topics: subscribed outputs, relative to the prefix.

    Attributes:
        cameras: one per prefix.
        health: full name of a node -> its newest diagnostics, key -> value.
    """

    def __init__(self, prefixes: Sequence[str], image: np.ndarray, topics: Sequence[str]) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor

        self._node = rclpy.create_node('bench')
        self._answered = threading.Condition()
        self.health: dict[str, dict[str, str]] = {}
        self.cameras = [Camera(self._node, prefix, image, topics, self._answered) for prefix in prefixes]
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._take_health, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _take_health(self, array: Any) -> None:
        for status in array.status:
            name, _, what = status.name.partition(': ')
            if what == 'frames':
                self.health[name] = {pair.key: pair.value for pair in status.values}

    def warm_up(self, nodes: Sequence[NodeProcess], frames: int) -> float:
        """Wait until every camera gets complete answers, then `frames` more; seconds until the nodes listened.

        Frames that come before all subscriptions are matched are answered in part, so they are sent again.

        Raises:
            NodeError: a node ended or is silent.
        """
        start = time.perf_counter()
        self._wait(nodes, lambda: all(camera.connected() for camera in self.cameras), 'a node that listens', 0.005)
        seconds = time.perf_counter() - start
        for camera in self.cameras * (1 + frames):
            self._wait(nodes, functools.partial(self._is_answered, camera), 'an answer', 0.0)
        return seconds

    def _is_answered(self, camera: Camera) -> bool:
        """Send a frame and wait for its answer, but not for long."""
        number = camera.publish()
        with self._answered:
            return bool(self._answered.wait_for(lambda: camera.newest >= number, 3.0))

    def _wait(self, nodes: Sequence[NodeProcess], condition: Callable[[], bool], what: str, period_s: float) -> None:
        deadline = time.perf_counter() + TIMEOUT_S
        while not condition():
            for node in nodes:
                node.check()
            if time.perf_counter() > deadline:
                raise NodeError(f'waited {TIMEOUT_S:.0f} s in vain for {what}:\n{nodes[0].log()}')
            time.sleep(period_s)

    def round_trip_ms(self) -> float:
        """From publishing one frame of the first camera to holding all its answers.

        Raises:
            NodeError: none came.
        """
        camera = self.cameras[0]
        start = time.perf_counter()
        number = camera.publish()
        with self._answered:
            if not self._answered.wait_for(lambda: camera.newest >= number, TIMEOUT_S):
                raise NodeError(f'no answer to a frame within {TIMEOUT_S:.0f} s')
        return (camera.answer_times[-1] - start) * 1e3

    def keep_busy(self, seconds: float) -> float:
        """Full load for some seconds, every camera having `IN_FLIGHT` unanswered frames; answers per second of all."""
        start = time.perf_counter()
        while (left := start + seconds - time.perf_counter()) > 0:
            for camera in self.cameras:
                for _ in range(IN_FLIGHT - camera.unanswered()):
                    camera.publish()
            with self._answered:
                self._answered.wait_for(lambda: any(c.unanswered() < IN_FLIGHT for c in self.cameras), min(left, 1.0))
        return sum(camera.rate(start) for camera in self.cameras)

    def drain(self) -> None:
        """Wait until nothing is unanswered, a few seconds at most."""
        with self._answered:
            self._answered.wait_for(lambda: not any(c.unanswered() for c in self.cameras), 10.0)

    def close(self) -> None:
        """Leave the ROS graph."""
        self._executor.shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()


@contextmanager
def ros_world() -> Iterator[None]:
    """rclpy in a domain of its own, on this machine only, with the transports that the node uses."""
    os.environ['ROS_DOMAIN_ID'] = str(random.SystemRandom().randrange(1, 100))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from sembox_ros.ros.transport import use_large_shared_memory

    use_large_shared_memory()

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()


@contextmanager
def running(
    node_arguments: Sequence[Sequence[str]], prefixes: Sequence[str], image: np.ndarray, topics: Sequence[str],
    *, warmup: int = 3,
) -> Iterator[tuple[list[NodeProcess], Client, float]]:  # fmt: skip
    """Nodes that have answered their first frames, the client, and the seconds until the nodes listened.

    Args:
        node_arguments: of each node, after --ros-args.
        prefixes: of the cameras.
        image: (H, W, 3) uint8 rgb.
        topics: what the client subscribes to.
        warmup: frames of each camera before the body runs.
    """
    client = Client(prefixes, image, topics)
    nodes = [NodeProcess([*arguments, '-p', 'diagnostics_period_s:=0.2']) for arguments in node_arguments]
    try:
        seconds = client.warm_up(nodes, warmup)
        yield nodes, client, seconds
    finally:
        for node in nodes:
            node.stop()
        client.close()
