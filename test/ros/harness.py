"""The real node in a process of its own, and a peer that talks to it over DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from forked import ForkedProcess
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sembox_ros.ros.conversions import encode_image

TIMEOUT_S = 60.0
# One domain per test process, away from 0, so that neither a robot nor a parallel run is disturbed.
DOMAIN_ID = 1 + os.getpid() % 200


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The condition's first true value.

    Fails the test, saying `what` did not happen, after `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    pytest.fail(f'waited {timeout_s:.0f} s in vain for: {what}')


def node_arguments(**parameters: Any) -> list[str]:
    """ROS arguments that give the node parameters; unless they say otherwise, news every 0.2 s and a quick start."""
    parameters = {'engine': 'torch', 'diagnostics_period_s': 0.2, **parameters}
    return [text for name, value in parameters.items() for text in ('-p', f'{name}:={value}')]


class NodeProcess:
    """The node in a process of its own; its output is in `log`.

    Args:
        arguments: what follows `--ros-args`.
        anew: in an interpreter of its own too, as its end is part of what is tested.
    """

    def __init__(self, log: Path, arguments: list[str], *, anew: bool = False) -> None:
        self.log = log
        self.process: ForkedProcess | subprocess.Popen[bytes]
        if not anew:
            self.process = ForkedProcess('sembox_ros.ros.node', ['--ros-args', *arguments], log)
            return
        command = [sys.executable, '-m', 'sembox_ros.ros.node', '--ros-args', *arguments]
        with log.open('wb') as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)

    @property
    def output(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors='replace')

    def wait_active(self) -> None:
        """Wait for its own word that it is active."""
        wait_until(lambda: self.process.poll() is not None or 'active; ' in self.output, 'the node to be active')
        assert self.process.poll() is None, self.output

    def stop(self, signal_number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; exit status and seconds that it took."""
        start = time.monotonic()
        self.process.send_signal(signal_number)
        status = self.process.wait(timeout=20)
        return status, time.monotonic() - start


class Robot:
    """The test's side of the topics: publishes images, collects what the node publishes.

    Attributes:
        node: an rclpy node that spins in a thread.
        received: topic -> messages so far.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.received: dict[str, list[Any]] = {}
        self._publishers: dict[str, Any] = {}
        self.listen('/diagnostics', DiagnosticArray)

    def listen(self, topic: str, kind: type, qos: QoSProfile | int = 10) -> list[Any]:
        """Subscribe, and return the list that fills with what arrives."""
        messages = self.received.setdefault(topic, [])
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def listen_latched(self, topic: str, kind: type) -> list[Any]:
        """Subscribe as a late joiner that wants what was published before it came."""
        return self.listen(topic, kind, QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))

    def publish(self, message: Any, topic: str) -> None:
        """Publish once the node listens."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(type(message), topic, 10)
        publisher = self._publishers[topic]
        wait_until(publisher.get_subscription_count, f'a subscriber of {topic}')
        publisher.publish(message)

    def remove_publisher(self, topic: str) -> None:
        """Unplug the camera on that topic."""
        self.node.destroy_publisher(self._publishers.pop(topic))

    def exchange(self, message: Any, topic: str, answers: list[Any]) -> Any:
        """Publish a frame and return the node's answer to it.

        Repeats the frame while nothing comes: until the node has discovered the listener, it computes nothing.
        """
        stamp = message.header.stamp

        def answer() -> Any:
            return next((a for a in list(answers)[before:] if a.header.stamp == stamp), None)

        before = len(answers)
        for _ in range(int(TIMEOUT_S)):
            self.publish(message, topic)
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                if answer() is not None:
                    return answer()
                time.sleep(0.01)
        pytest.fail(f'no answer to {TIMEOUT_S:.0f} frames on {topic}')

    def ask(self, service: str, kind: type, request: Any) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_sec=TIMEOUT_S), service
        future = client.call_async(request)
        wait_until(future.done, f'an answer of {service}')
        self.node.destroy_client(client)
        return future.result()

    def set_parameter(self, name: str, value: Any, node_name: str = '/sembox') -> SetParametersResult:
        """Set one parameter of the node; its result with the reason."""
        message: ParameterMessage = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[message])
        return self.ask(f'{node_name}/set_parameters', SetParameters, request).results[0]

    def health(self, node_name: str = '/sembox', camera: str = '') -> dict[str, str]:
        """Newest diagnostics of a node or of its camera as key -> value, with its message; empty before the first."""
        name = f'{node_name}: frames of {camera}' if camera else f'{node_name}: frames'
        for array in reversed(self.received['/diagnostics']):
            for status in array.status:
                if status.name == name:
                    return {**{pair.key: pair.value for pair in status.values}, 'message': status.message}
        return {}

    def counts(self, node_name: str = '/sembox', camera: str = '') -> dict[str, int]:
        """The newest frame counts of a node or of its camera; all 0 before the first diagnostics."""
        health = self.health(node_name, camera)
        names = ('received', 'processed', 'dropped', 'stale', 'failed', 'paused', 'idle')
        return {name: int(health.get(name, 0)) for name in names}


def street_message(
    height: int = 120, width: int = 160, *, seed: int = 0, stamp: tuple[int, int] = (1, 2), frame_id: str = 'camera'
) -> Image:
    """An rgb8 message with smooth, seeded content."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    image = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = stamp
    return encode_image(image, 'rgb8', header)
