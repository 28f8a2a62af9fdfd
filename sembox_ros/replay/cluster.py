"""Several bags at a time, on this machine or on a Ray cluster; the only module that imports ray."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sembox_ros
from sembox_ros.errors import ConfigError
from sembox_ros.replay.many import (
    INTERRUPTED,
    NOT_RUN,
    BagJob,
    JobResult,
    Runner,
    first_line,
    kept_result,
    run_job,
)

POLL_S = 1.0
REACH_S = 10.0
GRACE_S = 10.0  # for interrupted bags to save what they have
STORE_BYTES = 128 << 20  # reports are small; Ray's default is a third of the memory


def run_jobs_on_ray(
    jobs: Sequence[BagJob],
    runner: Runner,
    *,
    address: str | None,
    gpus_per_job: float | None,
    cpus_per_job: int,
    retries: int = 2,
    on_result: Callable[[JobResult], None],
) -> list[JobResult]:
    """Replay bags side by side; results and their meaning are those of `many.run_jobs`.

    A bag whose worker is lost (killed, out of memory, its node gone) is begun anew; one that raises is not.

    Args:
        jobs: the bags; with an address, paths that all nodes see.
        runner: module-level function that replays one.
        address: HOST:PORT of a cluster to join, 'auto' for the one on this machine; None starts one for this call.
        gpus_per_job: GPUs of a worker; None: one if there is any and the setting 'device' is not 'cpu'.
        cpus_per_job: cores of a worker, also its setting 'threads' if that is 0 or not given.
        retries: how often a bag is begun anew.
        on_result: called with each result as it comes.

    Raises:
        ConfigError: ray is not installed, the cluster cannot be joined, or no node has room for one worker.
    """
    if cpus_per_job < 1 or (gpus_per_job or 0) < 0:
        raise ConfigError(f'cluster: expected 1 core or more and 0 GPUs or more, got {cpus_per_job} and {gpus_per_job}')
    results = {index: kept for index, job in enumerate(jobs) if (kept := kept_result(job)) is not None}
    for kept in results.values():
        on_result(kept)
    missing = [index for index in range(len(jobs)) if index not in results]
    if missing:
        ray = _import_ray()
        with _cluster(ray, address):
            gpus = _default_gpus(ray, jobs) if gpus_per_job is None else gpus_per_job

            def keep(index: int, result: JobResult) -> None:
                results[index] = result
                on_result(result)

            pool = _Pool(ray, jobs, runner, cpus=cpus_per_job, gpus=gpus, retries=retries, on_result=keep)
            pool.run(missing)
            for index in missing:
                if index not in results:
                    keep(index, JobResult(jobs[index], error=INTERRUPTED if index in pool.started else NOT_RUN))
    return [results[index] for index in range(len(jobs))]


def _import_ray() -> Any:
    """Ray, told what it reads from the environment when it is imported."""
    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    # Ray prints a page to stdout when it loses a worker or a node; here that is a line on stderr.
    os.environ.setdefault('RAY_DEDUP_LOGS_SKIP_REGEX', '.')
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"cluster: needs ray ({error}); pip install 'sembox_ros[cluster]'") from error
    return ray


def _check_address(address: str) -> None:
    """Raise a ConfigError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(':')
    try:
        socket.create_connection((host.strip('[]'), int(port)), timeout=REACH_S).close()
    except (OSError, ValueError, OverflowError) as error:
        wanted = "expected 'auto' or the HOST:PORT that `ray start --head` printed"
        raise ConfigError(f"cluster: {wanted}, got '{address}' ({error})") from error


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """Be connected to a cluster, by default to one of this process alone."""
    # Workers import the package that runs here, whichever is installed; the rest of their path stays as it is.
    root = str(Path(sembox_ros.__file__).parents[1])
    variables = {'PYTHONPATH': f'{root}{os.pathsep}${{PYTHONPATH}}'}
    own = {'include_dashboard': False, 'object_store_memory': STORE_BYTES} if address is None else {}
    if address is not None and address != 'auto':
        _check_address(address)
    try:
        ray.init(
            address=address or 'local',
            runtime_env={'env_vars': variables},
            logging_level=logging.ERROR,
            log_to_driver=False,
            **own,
        )
    except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        what = f"cannot be joined at '{address}'" if address else 'cannot be started on this machine'
        hint = '; if it asks for a token, set RAY_AUTH_MODE=token' if address else ''
        raise ConfigError(f'cluster: {what}: {first_line(error)}{hint}') from error
    try:
        yield
    finally:
        ray.shutdown()


def _default_gpus(ray: Any, jobs: Sequence[BagJob]) -> float:
    wanted = any(job.settings.get('device') != 'cpu' for job in jobs)
    return 1.0 if wanted and ray.cluster_resources().get('GPU', 0) >= 1 else 0.0


class _Pool:
    """Keeps as many bags running as the cluster has room for, so that it is known which ones run.

    Args:
        ray: the module.
        jobs: the bags.
        runner: replays one.
        cpus: cores of a worker.
        gpus: GPUs of a worker, may be a fraction.
        retries: how often a bag is begun anew.
        on_result: takes each index and its result; what Ctrl-C interrupts has none.

    Attributes:
        started: indices of the jobs that a worker was given.
    """

    def __init__(
        self,
        ray: Any,
        jobs: Sequence[BagJob],
        runner: Runner,
        *,
        cpus: int,
        gpus: float,
        retries: int,
        on_result: Callable[[int, JobResult], None],
    ) -> None:
        self._ray, self._jobs, self._runner = ray, jobs, runner
        self._cpus, self._gpus, self._retries = cpus, gpus, retries
        self._on_result = on_result
        # Ray's own retries are not used: those after a lack of memory have no limit, and none of them is seen here.
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_job)
        # The worker's end shows as one of these; whatever else comes is the fault of the job or the installation.
        errors = ray.exceptions
        self._losses_in_words = {
            errors.WorkerCrashedError: 'its process was killed or crashed',
            errors.OutOfMemoryError: 'the memory of its node was full',
            errors.NodeDiedError: 'its node is gone',
            errors.LocalRayletDiedError: 'its node is gone',
            errors.ObjectLostError: 'its node is gone',
        }
        self.started: set[int] = set()
        self._waiting: deque[int] = deque()
        self._running: dict[Any, int] = {}  # Ray's reference to the coming result -> index of the job
        self._losses: Counter[int] = Counter()

    def run(self, indices: Sequence[int]) -> None:
        """Replay these jobs, or as many as can be until Ctrl-C.

        Raises:
            ConfigError: no node has room for one worker.
        """
        if not self._room():
            raise ConfigError(f'cluster: expected a node with {self._needs()} for a worker, found none; ask for fewer')
        self._waiting.extend(indices)
        with tqdm(total=len(indices), desc='bags', unit='bag', disable=None) as bar:
            try:
                while self._waiting or self._running:
                    self._start_what_fits()
                    bar.set_postfix_str(', '.join(sorted(self._jobs[index].name for index in self._running.values())))
                    done, _ = self._ray.wait(list(self._running), timeout=POLL_S) if self._running else ([], [])
                    for reference in done:
                        self._finish(reference)
                    bar.update(len(indices) - len(self._waiting) - len(self._running) - bar.n)
            except KeyboardInterrupt:
                tqdm.write('interrupted: the bags that run save what they have (again: end at once)', file=sys.stderr)
                self._interrupt()

    def _room(self) -> int:
        """How many workers all nodes together have room for, in use or not."""
        count = 0
        for node in self._ray.nodes():
            has = node['Resources'] if node['Alive'] else {}
            fits = has.get('CPU', 0) // self._cpus
            count += int(min(fits, has.get('GPU', 0) // self._gpus) if self._gpus else fits)
        return count

    def _needs(self) -> str:
        return f'{self._cpus} CPU core(s)' + (f' and {self._gpus:g} GPU(s)' if self._gpus else '')

    def _start_what_fits(self) -> None:
        room = self._room()
        while self._waiting and len(self._running) < room:
            index = self._waiting.popleft()
            job = self._jobs[index]
            settings = {**job.settings, 'threads': job.settings.get('threads') or self._cpus}
            self.started.add(index)
            self._running[self._task.remote(job, self._runner, settings)] = index
        if not self._running:  # the nodes that had room are gone: nothing would ever start
            for index in self._waiting:
                self._report(index, JobResult(self._jobs[index], error=f'no node has {self._needs()} any more'))
            self._waiting.clear()

    def _finish(self, reference: Any) -> None:
        """Report the result behind a reference, or put its bag back where the worker was lost."""
        index = self._running.pop(reference)
        job = self._jobs[index]
        try:
            result = self._ray.get(reference)
        except tuple(self._losses_in_words) as error:
            why = next(words for kind, words in self._losses_in_words.items() if isinstance(error, kind))
            self._losses[index] += 1
            if self._losses[index] <= self._retries:
                tqdm.write(f'{job.name}: its worker was lost ({why}); the bag is begun anew', file=sys.stderr)
                self._waiting.append(index)
                return
            result = JobResult(job, error=f'its worker was lost {self._losses[index]} times ({why})')
        except self._ray.exceptions.RayError as error:
            result = JobResult(job, error=first_line(getattr(error, 'cause', None) or error))
        self._report(index, result)

    def _report(self, index: int, result: JobResult) -> None:
        self._on_result(index, replace(result, job=self._jobs[index], retries=min(self._losses[index], self._retries)))

    def _interrupt(self) -> None:
        """End the bags that run."""
        references = list(self._running)
        for reference in references:
            self._ray.cancel(reference)  # a KeyboardInterrupt inside the worker
        if references:
            self._ray.wait(references, num_returns=len(references), timeout=GRACE_S)
