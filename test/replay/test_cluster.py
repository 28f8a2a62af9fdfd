"""Bags side by side, on real Ray clusters of this machine that have room for two workers."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cluster_jobs import make_jobs, replay

import sembox_ros
from sembox_ros.errors import ConfigError
from sembox_ros.replay.cluster import run_jobs_on_ray
from sembox_ros.replay.many import BagJob, JobResult, run_jobs

CORES_OF_HALF = max(1, (os.cpu_count() or 1) // 2)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec('ray') is None, reason="needs ray: pip install 'sembox_ros[cluster]'"
)


def children() -> set[str]:
    """Names of the processes below this one that Ray may have started."""
    names = set()
    for process in psutil.Process().children(recursive=True):
        try:
            names.add(' '.join([process.name(), *process.cmdline()[:3]]))
        except psutil.Error:
            continue
    return {name for name in names if 'ray' in name}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for bags whose replay workers can import; afterwards nothing of Ray is left."""
    here = Path(__file__).parent
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(here), str(here.parent), os.environ.get('PYTHONPATH', '')]))
    monkeypatch.setenv('RAY_AUTH_TOKEN', '0123456789abcdef' * 4)  # or Ray would write one to the home folder
    yield tmp_path
    assert children() == set()


def pids_of(job: BagJob) -> list[int]:
    """The processes that were given a job, once there is one."""
    end = time.monotonic() + 30
    while not (job.out / 'pids').exists() or not (pids := (job.out / 'pids').read_text().split()):
        assert time.monotonic() < end, f'{job.name} never began'
        time.sleep(0.02)
    return [int(pid) for pid in pids]


@needs_ray
def test_a_lost_workers_bag_is_done_again_and_the_others_are_unaffected(folder: Path, capfd):
    jobs = make_jobs(folder, 'wait', 'good', 'bad', 'bug', 'die', 'good', 'partial')
    told: list[JobResult] = []

    def kill_the_first(result: JobResult) -> None:
        told.append(result)
        if len(told) == 1:
            os.kill(pids_of(jobs[0])[0], signal.SIGKILL)
            (folder / 'out' / 'go').touch()

    results = run_jobs_on_ray(
        jobs, replay, address=None, gpus_per_job=0, cpus_per_job=CORES_OF_HALF, retries=2, on_result=kill_the_first
    )
    assert [r.job for r in results] == jobs
    assert sorted(told, key=lambda r: r.job.name) == results
    assert [r.state for r in results] == ['done', 'done', 'failed', 'failed', 'failed', 'done', 'partial']
    assert [r.retries for r in results] == [1, 0, 0, 0, 2, 0, 0]
    assert results[2].error == 'bag: 2.mcap cannot be read: truncated'
    assert results[3].error == 'ZeroDivisionError: division (see 3/error.txt)'
    assert results[4].error == 'its worker was lost 3 times (its process was killed or crashed)'
    assert [len(pids_of(job)) for job in jobs] == [2, 1, 1, 1, 3, 1, 1]
    assert pids_of(jobs[0])[0] != pids_of(jobs[1])[0]
    for job in (jobs[0], jobs[1], jobs[5], jobs[6]):
        seen = json.loads((job.out / 'seen.json').read_text())
        assert seen['module'] == sembox_ros.__file__
        assert seen['threads'] == CORES_OF_HALF
        assert seen['pid'] != os.getpid()
    printed = capfd.readouterr()
    assert printed.out == ''
    lines = [line for line in printed.err.splitlines() if 'begun anew' in line]
    assert sorted(line.split(':')[0] for line in lines) == ['0', '4', '4']
    again = run_jobs([jobs[0], jobs[5]], replay, on_result=lambda _: None)
    assert [r.state for r in again] == ['kept', 'kept']


@needs_ray
def test_ctrl_c_lets_running_bags_save_and_keeps_finished_ones(folder: Path):
    jobs = make_jobs(folder, 'good', 'wait', 'wait', 'good')
    run_jobs(jobs[3:], replay, on_result=lambda _: None)

    def interrupt(result: JobResult) -> None:
        if result.job == jobs[0]:
            pids_of(jobs[1])
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        results = run_jobs_on_ray(
            jobs, replay, address=None, gpus_per_job=None, cpus_per_job=CORES_OF_HALF, on_result=interrupt
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert [r.state for r in results] == ['done', 'interrupted', 'not run', 'kept']
    assert (jobs[1].out / 'saved').exists()


@needs_ray
def test_a_worker_that_fits_nowhere_is_refused(folder: Path):
    jobs = make_jobs(folder, 'good')
    with pytest.raises(ConfigError, match=r'expected a node with 99999 CPU core\(s\) and 0\.5 GPU\(s\)'):
        run_jobs_on_ray(jobs, replay, address=None, gpus_per_job=0.5, cpus_per_job=99999, on_result=lambda _: None)
    with pytest.raises(ConfigError, match='got 0 and None'):
        run_jobs_on_ray(jobs, replay, address=None, gpus_per_job=None, cpus_per_job=0, on_result=lambda _: None)


@needs_ray
@pytest.mark.parametrize('address', ['127.0.0.1:1', '127.0.0.1', 'ray://127.0.0.1:1', '127.0.0.1:99999', ''])
def test_a_cluster_that_is_not_there_is_one_clear_error(folder: Path, address):
    jobs = make_jobs(folder, 'good')
    with pytest.raises(ConfigError, match=r"cluster: expected 'auto' or the HOST:PORT .*, got '.*' \(.*\)$") as caught:
        run_jobs_on_ray(jobs, replay, address=address, gpus_per_job=0, cpus_per_job=1, on_result=lambda _: None)
    assert '\n' not in str(caught.value)


def test_without_ray_the_extra_is_named_unless_all_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    jobs = make_jobs(tmp_path, 'good')
    options = {'address': None, 'gpus_per_job': None, 'cpus_per_job': 1, 'on_result': lambda _: None}
    with pytest.raises(ConfigError, match=r"pip install 'sembox_ros\[cluster\]'"):
        run_jobs_on_ray(jobs, replay, **options)
    run_jobs(jobs, replay, on_result=lambda _: None)
    assert [r.state for r in run_jobs_on_ray(jobs, replay, **options)] == ['kept']
