"""Bags side by side: real local Ray clusters of two workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster_jobs import replay

import sembox_ros
from sembox_ros.errors import ConfigError
from sembox_ros.replay.cluster import run_jobs_on_ray
from sembox_ros.replay.many import BagJob, JobResult, find_bags, plan_jobs, run_jobs

TEST = Path(__file__).parents[1]
needs_ray = pytest.mark.skipif(
    subprocess.run([sys.executable, '-c', 'import ray'], capture_output=True).returncode != 0,
    reason="needs ray: pip install 'sembox_ros[cluster]'",
)


def ray_processes() -> set[str]:
    """Command lines of Ray's processes that are this process's."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            found.add(' '.join(process.cmdline()))
        except psutil.Error:
            continue
    return {line for line in found if 'ray' in line}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for bags whose replays the workers can import; no process is left behind."""
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(TEST), os.environ.get('PYTHONPATH', '')]))
    before = dict(os.environ)
    yield tmp_path
    assert ray_processes() == set()
    assert {name for name in os.environ if name.startswith('RAY_AUTH')} <= before.keys()
