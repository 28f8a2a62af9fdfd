"""Writes rendered streets as a dataset in the Cityscapes layout: which street is which image, in several processes.

A run may be interrupted and started again, or started again for more images: what is already there stays.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sembox_ros.atomic import write_whole
from sembox_ros.data.cityscapes_layout import (
    CityscapesGeometry,
    FrameName,
    encode_geometry,
    encode_labels,
    write_frame,
)
from sembox_ros.data.streets.renderer import MIN_SIDE_PX, StreetFrame, render_pair, render_street
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.ops.flow import measure_flow

SPLITS = ('train', 'val')
MAX_IMAGES = 1_000_000  # of one split: the six digits in a file name
CITY_IMAGES = 100
SETTINGS_FILE = 'streets.json'

_SPLIT_CITIES = 10_000  # city numbers of one split
_MAX_SETTINGS_BYTES = 10_000
_MAX_SIDE_PX = 8192
_GEOMETRY = 'measured flow'  # what the settings file calls geometry; exact flow, of older versions, was `true`


@dataclass(frozen=True)
class StreetSettings:
    """What every image of one dataset has in common.

    Attributes:
        seed: which dataset; 0 or more.
        size_hw: image height and width, pixels.
        geometry: whether depth, flow and motion are written too; images and labels are the same.

    Raises:
        ConfigError: a value is out of range.
    """

    seed: int
    size_hw: tuple[int, int]
    geometry: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f'seed: expected 0 or more, got {self.seed}')
        if not all(MIN_SIDE_PX <= side <= _MAX_SIDE_PX for side in self.size_hw):
            raise ConfigError(f'size: expected {MIN_SIDE_PX} to {_MAX_SIDE_PX} px each way, got {self.size_hw}')


def street_seed(seed: int, split: str, index: int) -> int:
    """Seed of the street behind one image; no two of them are the same, and none is below 2**33.

    Args:
        seed: of the dataset, 0 or more.
        split: ``train`` or ``val``.
        index: of the image in its split, 0..999999.

    Raises:
        ConfigError: an argument is out of range.
    """
    if seed < 0 or split not in SPLITS or not 0 <= index < MAX_IMAGES:
        raise ConfigError(
            f'expected a seed of at least 0, a split of {SPLITS} and an index below {MAX_IMAGES}, '
            f"got {seed}, '{split}' and {index}"
        )
    return ((2 * (seed + 1) + SPLITS.index(split)) << 32) + index


def frame_name(split: str, index: int) -> FrameName:
    """File name of one image: `CITY_IMAGES` of them share a city, and the splits share none."""
    city = SPLITS.index(split) * _SPLIT_CITIES + index // CITY_IMAGES
    return FrameName(split=split, city=f'streets{city:05d}', sequence=index)


def make_image(root: Path, settings: StreetSettings, split: str, index: int) -> None:
    """Render and write one image with its labels.

    Raises:
        DatasetError: a file cannot be written.
    """
    seed, size_hw, before = street_seed(settings.seed, split, index), settings.size_hw, None
    if settings.geometry:
        still, before = render_pair(size_hw=size_hw, seed=seed)
    else:
        still = render_street(size_hw=size_hw, seed=seed)
    instance = np.where(np.isin(still.instance, still.track_ids[still.is_crowd]), 0, still.instance)
    labels = encode_labels(still.semantic, instance, still.ego)
    write_frame(root, frame_name(split, index), still.image, labels, _encode_geometry(still, before))


def _encode_geometry(still: StreetFrame, before: np.ndarray | None) -> CityscapesGeometry | None:
    """What is exact, but for the flow: that is measured, with the errors of what a robot measures."""
    if still.depth is None or still.motion is None:
        return None
    camera, flow = still.camera, measure_flow(still.image, before, still.semantic.shape)
    return encode_geometry(
        depth=still.depth, flow=flow, motion=still.motion, focal_px=camera.focal_px,
        principal_xy=(camera.cx, camera.horizon_px), height_m=camera.height,
    )  # fmt: skip


@cache
def renderer_fingerprint() -> str:
    """Short digest of a sample of what this renderer draws, so that images of two versions never mix."""
    sample = render_street(size_hw=(64, 128), seed=0)
    parts = (sample.image, sample.semantic, sample.is_crowd)
    return hashlib.sha256(b''.join(part.tobytes() for part in parts)).hexdigest()[:16]


def open_folder(root: Path, settings: StreetSettings) -> None:
    """Make the folder of a dataset, or check that it holds one of the same settings.

    One that was begun without geometry may go on with it: what is there lacks files then.

    Raises:
        DatasetError: it holds something else, or streets of other settings.
    """
    file = root / SETTINGS_FILE
    try:
        if root.exists() and not root.is_dir():
            raise DatasetError(f"'{root}' is a file; give a new or empty folder as --out")
        if not file.exists():
            others = sorted(path.name for path in islice(root.iterdir(), 1000)) if root.exists() else []
            others = [name for name in others if not name.startswith(f'.{SETTINGS_FILE}.')]  # drafts of it
            if others:
                raise DatasetError(
                    f"'{root}' holds other things ({', '.join(others[:3])}{' ...' if len(others) > 3 else ''}) and no "
                    f'{SETTINGS_FILE}; give a new or empty folder as --out'
                )
        found = _read_settings(file) if file.exists() else None
    except OSError as error:
        raise DatasetError(f"cannot read '{root}': {error.strerror or error}; give another folder as --out") from error
    wanted = {
        'made_by': 'sembox_ros streets',
        'seed': settings.seed,
        'size_hw': list(settings.size_hw),
        'renderer': renderer_fingerprint(),
        'geometry': _GEOMETRY if settings.geometry else False,
    }
    if found is not None:
        found = {'geometry': False, **found}  # files of older versions do not say
        may_begin = {'geometry'} if found['geometry'] is False else set()
        differing = [name for name in wanted if found.get(name) != wanted[name] and name not in may_begin]
        if differing:
            there = ', '.join(f'{name} {found.get(name)!r}, not {wanted[name]!r}' for name in differing)
            raise DatasetError(f"'{root}' holds streets of other settings: {there}; use those or another --out")
    if found is None or found['geometry'] != wanted['geometry']:
        write_whole(file, (json.dumps(wanted, indent=1) + '\n').encode(), DatasetError)


def _read_settings(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _MAX_SETTINGS_BYTES:
        raise DatasetError(f"'{file}': expected at most {_MAX_SETTINGS_BYTES} bytes of settings; give another --out")
    try:
        found = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"'{file}' is not a settings file of streets ({error}); give another --out") from error
    if not isinstance(found, dict):
        raise DatasetError(f"'{file}' is not a settings file of streets; give another --out")
    return found


def missing_images(root: Path, counts: dict[str, int], *, geometry: bool = False) -> list[tuple[str, int]]:
    """(split, index) of every image of which a file is missing.

    Args:
        root: folder of the dataset.
        counts: how many images each split should have.
        geometry: whether files of depth, flow and motion count.

    Raises:
        ConfigError: a count is out of range.
    """
    for split, count in counts.items():
        if not 0 <= count <= MAX_IMAGES:
            raise ConfigError(f'{split}: expected 0 to {MAX_IMAGES} images, got {count}')
    # The image itself is the last file of its name to appear; only those that have one are looked at closely.
    return [
        (split, index)
        for split, count in counts.items()
        for index in range(count)
        if not all(path.exists() for path in reversed(frame_name(split, index).paths(root, geometry=geometry).values()))
    ]


def write_images(
    root: Path, settings: StreetSettings, jobs: list[tuple[str, int]], *, workers: int
) -> Generator[tuple[str, int], None, None]:
    """Make the images of `jobs`, (split, index) each, and yield each when it is written, in any order.

    Closing the iterator (Ctrl-C does) finishes what is under way and leaves no process behind.

    Raises:
        ConfigError: `workers` is below 1.
        DatasetError: a file cannot be written, or a process was killed.
    """
    if workers < 1:
        raise ConfigError(f'workers: expected at least 1, got {workers}')
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            make_image(root, settings, *job)
            yield job
        return
    waiting = iter(jobs)
    with ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker) as pool:
        running: dict[Future[None], tuple[str, int]] = {}
        try:
            with _sigint_ignored():  # the processes inherit it: Ctrl-C is this one's to handle
                for job in islice(waiting, 2 * workers):
                    running[pool.submit(make_image, root, settings, *job)] = job
            while running:
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    done.result()
                    yield running.pop(done)
                    for job in islice(waiting, 1):
                        running[pool.submit(make_image, root, settings, *job)] = job
        except BrokenProcessPool as error:
            raise DatasetError(
                'a process was killed (out of memory?); give the same command again, with fewer --workers'
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
