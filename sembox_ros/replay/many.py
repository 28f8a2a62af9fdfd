"""Several bags: which they are, where their results go, and replaying one after another."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sembox_ros import __version__
from sembox_ros.errors import DatasetError, SemboxError
from sembox_ros.replay.media import unique_names
from sembox_ros.replay.report import load_report, write_json

BAG_SUFFIXES = frozenset({'.bag', '.db3', '.mcap'})
EXPECTED = 'a rosbag2 folder (with metadata.yaml), an .mcap, .db3 or .bag file, a folder of these, or a pattern'
INTERRUPTED, NOT_RUN = 'interrupted', 'not run'


@dataclass(frozen=True)
class BagJob:
    """One bag to replay; travels to other processes.

    Attributes:
        bag: file or rosbag2 folder.
        out: folder for its results.
        settings: options of the replay, JSON-ready.
    """

    bag: Path
    out: Path
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What people see."""
        return self.out.name


@dataclass(frozen=True)
class JobResult:
    """What came of a bag.

    Attributes:
        job: the bag.
        report: what report.json holds; None if there is none.
        error: why there is none, in one line; None if all went well.
        kept: the report is that of an earlier run with the same settings.
        retries: how often the bag was begun anew because its worker was lost.
    """

    job: BagJob
    report: Mapping[str, Any] | None = None
    error: str | None = None
    kept: bool = False
    retries: int = 0

    @property
    def state(self) -> str:
        """One of 'done', 'kept', 'partial', 'failed', 'interrupted' and 'not run'."""
        if self.error is not None:
            return self.error if self.error in (INTERRUPTED, NOT_RUN) else 'failed'
        if self.kept:
            return 'kept'
        return 'partial' if is_partial(self.report) else 'done'


# Replays one bag into its folder, leaves report.json there and returns what it holds. When it is stopped by Ctrl-C, it
# saves what it has and lets the KeyboardInterrupt pass.
Runner = Callable[[BagJob], Mapping[str, Any]]


def is_partial(report: Mapping[str, Any] | None) -> bool:
    """True unless the report tells of a whole bag."""
    return report is None or report.get('partial') is not None


def find_bags(paths: Sequence[str | Path], *, exclude: Path | None = None) -> list[Path]:
    """The bags at some paths, sorted, each once.

    Args:
        paths: bags, folders that are searched at any depth, or patterns such as 'drives/**/*.mcap'. What is inside a
            rosbag2 folder is never a bag of its own, unless it is named alone.
        exclude: folder that is not searched unless a path leads into it: results hold bags too.

    Raises:
        DatasetError: a path or a pattern leads to no bag.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        aside = exclude.resolve() if exclude is not None else None
        if aside is None or Path(path).resolve().is_relative_to(aside):
            bags = _bags_at(path)
        else:
            bags = [bag for bag in _bags_at(path) if not bag.resolve().is_relative_to(aside)]
        if not bags:
            raise DatasetError(f'bag: expected {EXPECTED}; found no bag at {path}')
        for bag in bags:
            found.setdefault(bag.resolve(), bag)
    return sorted(found.values())


def _bags_at(path: str | Path) -> list[Path]:
    """The bags that one argument names."""
    if os.path.lexists(path):
        return list(_bags_below(Path(path)))
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    bags = [bag for match in matches for bag in _bags_below(match)]
    folders = {bag for bag in bags if bag.is_dir()}
    return [bag for bag in bags if bag.parent not in folders]


def _bags_below(path: Path) -> Iterator[Path]:
    """`path` itself if it is a bag, otherwise those inside."""
    if path.is_file() and path.suffix.lower() in BAG_SUFFIXES:
        yield path
    seen: set[str] = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links may lead in circles
            folders.clear()
            continue
        seen.add(real)
        if 'metadata.yaml' in files:
            folders.clear()
            yield Path(folder)
        else:
            yield from (Path(folder, name) for name in files if Path(name).suffix.lower() in BAG_SUFFIXES)


def without_suffix(bag: Path) -> Path:
    """The path without the ending of a bag's file; the name of a folder may have dots, as in drive_2026.11.21."""
    return bag.with_suffix('') if bag.suffix.lower() in BAG_SUFFIXES else bag


def plan_jobs(bags: Sequence[Path], out: Path, settings: Mapping[str, Any]) -> list[BagJob]:
    """One job per bag, each with a folder of its own directly below `out`, named after the bag's path.

    Args:
        bags: from `find_bags`.
        out: folder for all results.
        settings: options of the replay, JSON-ready, the same for all.
    """
    whole = [Path(os.path.abspath(bag)) for bag in bags]
    base = os.path.commonpath([bag.parent for bag in whole])
    names = unique_names('_'.join(without_suffix(bag).relative_to(base).parts) for bag in whole)
    folder = Path(os.path.abspath(out))
    return [BagJob(bag, folder / name, settings) for bag, name in zip(whole, names, strict=True)]


def run_job(job: BagJob, runner: Runner, settings: Mapping[str, Any] | None = None) -> JobResult:
    """Replay one bag; whatever goes wrong becomes a result with one line of text.

    Args:
        job: the bag.
        runner: what replays it.
        settings: what `runner` gets in place of `job.settings`; a later run still compares those of the job.

    Returns:
        The result. An error that only a programmer can mend leaves its traceback in error.txt.
    """
    record, failure = job.out / 'job.json', job.out / 'error.txt'
    try:
        for stale in (record, failure):
            stale.unlink(missing_ok=True)
        report = runner(job if settings is None else replace(job, settings=settings))
        if not is_partial(report):
            with contextlib.suppress(DatasetError):  # where it cannot be written, a later run does the bag again
                write_json(_describe(job), record)
        return JobResult(job, report)
    except (SemboxError, OSError) as error:  # what a user can mend, such as a full disk
        return JobResult(job, error=first_line(error))
    except Exception as error:  # a bag that we cannot handle must not cost the others their turn
        with contextlib.suppress(OSError):
            job.out.mkdir(parents=True, exist_ok=True)
            failure.write_text(traceback.format_exc())
        return JobResult(job, error=f'{type(error).__name__}: {first_line(error)} (see {job.name}/error.txt)')


def first_line(error: BaseException) -> str:
    """An error's message without what follows its first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _describe(job: BagJob) -> dict[str, Any]:
    """What a result depends on: version, bag and settings, as JSON gives it back."""
    files = sorted(job.bag.rglob('*')) if job.bag.is_dir() else [job.bag]
    facts = [(str(f.relative_to(job.bag)), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    settings = {name: value for name, value in job.settings.items() if name != 'overwrite'}
    described = {'sembox_ros': __version__, 'bag': str(job.bag), 'files': facts, 'settings': settings}
    return json.loads(json.dumps(described))


def kept_result(job: BagJob) -> JobResult | None:
    """The result of an earlier run, if it is whole and its bag, settings and version were the same.

    The setting `overwrite` begins anew whatever is there.
    """
    if job.settings.get('overwrite'):
        return None
    try:
        known = json.loads((job.out / 'job.json').read_text())
        report = load_report(job.out)
    except (OSError, ValueError, SemboxError):
        return None
    return None if known != _describe(job) or is_partial(report) else JobResult(job, report, kept=True)


def run_jobs(jobs: Sequence[BagJob], runner: Runner, *, on_result: Callable[[JobResult], None]) -> list[JobResult]:
    """Replay bag by bag; one that fails does not stop the rest, and what an earlier run finished is kept.

    Args:
        jobs: the bags.
        runner: replays one.
        on_result: called with each result as it comes.

    Returns:
        One result per job, in their order. Ctrl-C ends the bag that runs with the state 'interrupted', and the rest
        is 'not run'.
    """
    results = [kept_result(job) for job in jobs]
    stopped = False
    with tqdm(total=len(jobs), desc='bags', unit='bag', disable=None) as bar:
        for index, job in enumerate(jobs):
            bar.set_postfix_str(job.name)
            result = results[index]
            if result is None:
                try:
                    result = JobResult(job, error=NOT_RUN) if stopped else run_job(job, runner)
                except KeyboardInterrupt:
                    result, stopped = JobResult(job, error=INTERRUPTED), True
            results[index] = result
            bar.update()
            on_result(result)
    return [result for result in results if result is not None]
