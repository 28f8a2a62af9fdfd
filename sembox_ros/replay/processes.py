"""ROS modules of this package as processes in the background, on a ROS domain of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from sembox_ros.errors import SemboxError

STOP_TIMEOUT_S = 10.0
# Where the first participant of a domain on a machine is found (DDSI-RTPS, 9.6.1).
FIRST_PORT, PORTS_PER_DOMAIN = 7410, 250


def ros_command(module: str, args: Sequence[str]) -> list[str]:
    """Command line that runs `sembox_ros.ros.<module>` with this Python."""
    return [sys.executable, '-m', f'sembox_ros.ros.{module}', *args]


def find_free_domain() -> int:
    """A ROS domain, at random, on which nothing runs on this machine.

    DDS fixes the ports of a domain, so that they tell; up to 99, none is among those that Linux gives to clients.

    Raises:
        SemboxError: all are in use.
    """
    for domain_id in random.SystemRandom().sample(range(1, 100), 99):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(('', FIRST_PORT + PORTS_PER_DOMAIN * domain_id))
            return domain_id
    raise SemboxError('domain_id: expected one of 1 to 99 to be free, but all are in use on this machine; name one')


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """SIGTERM ends the body as Ctrl-C does, so that it can end its processes.

    Only the main thread may handle signals; in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Processes:
    """Modules of `sembox_ros.ros` that run in the background; those that still do at the end are ended, last one first.

    Args:
        folder: for their output, one file NAME.log each.
        domain_id: ROS domain of all of them; None takes one that nothing else on this machine uses.

    Raises:
        SemboxError: ROS is not there.
    """

    def __init__(self, folder: Path, domain_id: int | None = None) -> None:
        if importlib.util.find_spec('rclpy') is None:
            raise SemboxError(
                'rclpy: expected ROS 2 in this Python, found none; source ROS 2, or use what `make` builds'
            )
        self._folder = folder
        self.domain_id = find_free_domain() if domain_id is None else domain_id
        # Their logs are read here, so nobody's own format or buffer applies.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith('RCUTILS_')}
        self._environment = {
            **inherited,
            'ROS_DOMAIN_ID': str(self.domain_id),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    def log(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self._folder / f'{name}.log'

    def read_log(self, name: str) -> list[str]:
        """The lines of that output so far."""
        return self.log(name).read_text(errors='replace').strip().splitlines()

    def start(self, name: str, args: Sequence[str]) -> int:
        """Start a module; its process id."""
        with self.log(name).open('wb') as log:
            # A session of its own: Ctrl-C ends this program, which then ends its processes in order.
            self._running[name] = subprocess.Popen(
                ros_command(name, args), env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        return self._running[name].pid

    def exit_status(self, name: str) -> int | None:
        """How the process ended, None while it runs."""
        return self._running[name].poll()

    def check(self, *names: str) -> None:
        """Raise if one of the processes ended by itself.

        Raises:
            SemboxError: how it ended, with the last line of its log.
        """
        for name in names:
            status = self.exit_status(name)
            if status is not None:
                how = f'was ended by {signal.Signals(-status).name}' if status < 0 else f'ended with status {status}'
                raise SemboxError(f'the {name} {how}; {self.last_words(name)}')

    def last_words(self, name: str) -> str:
        """The last line of a process's output and where the rest is, in words."""
        lines = self.read_log(name)
        return f'the last line of {self.log(name)}: {lines[-1] if lines else "(empty)"}'

    def stop(self, name: str) -> None:
        """SIGINT; SIGKILL for one that does not listen, or when the user has no patience with it."""
        process = self._running.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=STOP_TIMEOUT_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.kill()
                process.wait()
