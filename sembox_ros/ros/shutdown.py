"""How the executables end when a signal ends ROS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import ExternalShutdownException


@contextmanager
def ends_quietly() -> Iterator[None]:
    """Shut ROS down after the body, which a signal may end at any place without this being an error.

    rclpy's signal handlers invalidate all of ROS at once, so that whatever the body was just doing with it fails
    with one of many exceptions; those are told from real ones by whether ROS is still there.
    """
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
