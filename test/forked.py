"""`python -m MODULE` as a process of its own that need not import torch first, which takes longer than most tests.

A server has imported it once and forks. The interpreter's own clean-up at the end of a process is left out, because the
libraries' is not made for a copy of their process: what is about it starts `python` anew.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

_context = multiprocessing.get_context('forkserver')
# What the programs import, not the programs: those run as `__main__`. Without ROS, the last two are passed over.
_context.set_forkserver_preload(['sembox_ros.replay.session', 'sembox_ros.ros.outputs', 'sembox_ros.ros.worker'])


class ForkedProcess:
    """The part of `subprocess.Popen` that tests need; what the program prints goes to `log`."""

    def __init__(self, module: str, arguments: list[str], log: Path) -> None:
        log.touch()
        # A daemon: multiprocessing would wait for others when the tests end.
        self._process = _context.Process(
            target=_run, args=(module, arguments, str(log), dict(os.environ)), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, -N of signal N; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(module: str, arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the server ignores
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name='__main__', alter_sys=True)
