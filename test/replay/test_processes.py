"""Background processes end with the program that started them, and say how they ended by themselves."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sembox_ros.errors import SemboxError
from sembox_ros.replay.processes import Processes, find_free_domain, ros_command, termination_interrupts


def test_the_command_is_this_python_s():
    assert ros_command('node', ['--x']) == [sys.executable, '-m', 'sembox_ros.ros.node', '--x']


def test_a_domain_in_use_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr('random.SystemRandom.sample', lambda *_: [97, 98])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as DDS may
        other.bind(('', 7410 + 250 * 97))
        assert find_free_domain() == 98
    assert find_free_domain() == 97


def test_sigterm_is_an_interrupt_inside_and_what_it_was_outside():
    script = """
import os, signal
from sembox_ros.replay.processes import termination_interrupts
try:
    with termination_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print('interrupted', flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=False, timeout=60)
    assert (result.stdout, result.returncode) == ('interrupted\n', -15), result.stderr


def test_other_threads_leave_signals_alone():
    done = []

    def enter() -> None:
        with termination_interrupts():
            done.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert done


def test_without_ros_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda _: None)
    with pytest.raises(SemboxError, match='expected ROS 2 in this Python'):
        Processes(tmp_path)


def test_an_ended_process_is_named_with_its_last_words(tmp_path: Path):
    with Processes(tmp_path, 3) as processes:
        assert processes.domain_id == 3
        processes.start('no_such_module', [])
        while processes.exit_status('no_such_module') is None:
            time.sleep(0.01)
        with pytest.raises(SemboxError, match=r'status 1; the last line of .*no_such_module\.log: .*No module named'):
            processes.check('no_such_module')
