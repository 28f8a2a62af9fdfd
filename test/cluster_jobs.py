"""Bags and their replay for tests of many bags, in a module that Ray's workers can import."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from example_report import offline_report

import sembox_ros
from sembox_ros.errors import DatasetError
from sembox_ros.replay.many import BagJob, find_bags, plan_jobs

PATIENCE_S = 30


def make_jobs(folder: Path, *acts: str, **settings: object) -> list[BagJob]:
    """Bags whose text says what happens to them (see `replay`)."""
    for index, act in enumerate(acts):
        (folder / f'{index}.mcap').write_text(act)
    return plan_jobs(find_bags([folder], exclude=folder / 'out'), folder / 'out', settings)


def replay(job: BagJob) -> dict[str, Any]:
    """What the bag's text says: succeed, raise, wait for a file named 'go' or be killed."""
    job.out.mkdir(parents=True, exist_ok=True)
    with (job.out / 'pids').open('a') as file:
        file.write(f'{os.getpid()}\n')
    act = job.bag.read_text()
    if act == 'bad':
        raise DatasetError(f'bag: {job.bag.name} cannot be read: truncated')
    if act == 'bug':
        raise ZeroDivisionError('division\nof the second line')
    if act == 'die':
        os.kill(os.getpid(), 9)
    if act == 'wait':
        wait_for(job.out.parent / 'go', job.out)
    seen = {'module': sembox_ros.__file__, 'threads': job.settings.get('threads'), 'pid': os.getpid()}
    (job.out / 'seen.json').write_text(json.dumps(seen))
    report = {**offline_report(), 'partial': 'its end is damaged' if act == 'partial' else None, 'name': job.name}
    (job.out / 'report.json').write_text(json.dumps(report))
    return report


def wait_for(file: Path, out: Path) -> None:
    """Return when the file is there; a KeyboardInterrupt leaves word in `out`."""
    try:
        end = time.monotonic() + PATIENCE_S
        while not file.exists():
            if time.monotonic() > end:
                raise TimeoutError(f'{file} did not come')
            time.sleep(0.02)
    except KeyboardInterrupt:
        (out / 'saved').touch()
        raise
