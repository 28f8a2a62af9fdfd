"""Fixtures that start the real node and a peer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from harness import DOMAIN_ID, NodeProcess, Robot, node_arguments
from rclpy.executors import SingleThreadedExecutor


@pytest.fixture(scope='session', autouse=True)
def isolated_domain() -> Iterator[None]:
    """Every ROS process of the tests lives on one domain of this machine only."""
    os.environ['ROS_DOMAIN_ID'] = str(DOMAIN_ID)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.pop('FASTDDS_BUILTIN_TRANSPORTS', None)
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def robot() -> Iterator[Robot]:
    """A fresh peer on the domain, spinning."""
    node = rclpy.create_node('robot')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield Robot(node)
    executor.shutdown()
    thread.join(5)
    node.destroy_node()


@pytest.fixture
def start_node(tmp_path: Path, tiny_checkpoint_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes with parameters and further ROS arguments; all are ended with the test."""
    started: list[NodeProcess] = []

    def start(*arguments: str, wait: bool = True, anew: bool = False, **parameters: Any) -> NodeProcess:
        given = node_arguments(**{'checkpoint': tiny_checkpoint_path, **parameters})
        node = NodeProcess(tmp_path / f'node{len(started)}.log', [*given, *arguments], anew=anew)
        started.append(node)
        if wait:
            node.wait_active()
        return node

    yield start
    for node in started:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()
