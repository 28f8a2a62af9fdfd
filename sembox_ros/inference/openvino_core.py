"""The one OpenVINO core of this process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sembox_ros.errors import ConfigError


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """The `openvino.Core` that everything here uses, made by the first call and never destroyed.

    OpenVINO's CPU plugin (2026.4.1) gives the thread that loads it a signal stack of its own and takes it away with the
    core. With a second core that goes wrong: the thread is left with a stack that is gone, and the next signal that
    Python handles, such as Ctrl-C or the end of a child process, kills the process.

    Raises:
        ConfigError: openvino is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise ConfigError('openvino is not installed: pip install openvino') from error
    return openvino.Core()
