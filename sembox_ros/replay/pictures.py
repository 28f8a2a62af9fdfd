"""The pictures of image files and videos, one after the other, through the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from sembox_ros.errors import InputError
from sembox_ros.inference.tracking import SceneTracker
from sembox_ros.replay.bag_files import shorten
from sembox_ros.replay.media import VideoReader, is_video, read_image
from sembox_ros.types import Scene

AHEAD = 8  # decoded pictures that wait for the network at most

Item = TypeVar('Item')


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video.

    Attributes:
        file: where it is from.
        name: of its results, without suffix; the same for all frames of a video.
        image: (H, W, 3) uint8 rgb; None for one that cannot be used.
        problem: why it cannot be used; empty for a good one.
        frame: its number in its video, from 0; None for an image.
        rate_hz: of its video.
        previous: the image before it, of its video or of the images in a row; see `link_pictures`.
    """

    file: Path
    name: str
    image: np.ndarray | None
    problem: str = ''
    frame: int | None = None
    rate_hz: float | None = None
    previous: np.ndarray | None = None

    @property
    def stream(self) -> str:
        """What it follows another one in: its video, or the images in a row."""
        return '' if self.frame is None else str(self.file)


def read_pictures(files: Iterable[tuple[Path, str]]) -> Iterator[Picture]:
    """The pictures of all files in order; what cannot be read, a rest of a video too, is one picture with its problem.

    Args:
        files: image or video files, each with the name of its results.
    """
    for file, name in files:
        if is_video(file):
            yield from _read_video(file, name)
            continue
        try:
            yield Picture(file, name, read_image(file))
        except InputError as error:
            yield Picture(file, name, None, str(error))


def _read_video(file: Path, name: str) -> Iterator[Picture]:
    frame = 0
    try:
        reader = VideoReader(file)
        for image in reader:
            yield Picture(file, name, image, frame=frame, rate_hz=reader.rate_hz)
            frame += 1
        if not frame:
            raise InputError(f'{file}: holds no frame')
    except InputError as error:
        yield Picture(file, name, None, str(error), frame)


def count_pictures(files: Iterable[tuple[Path, str]]) -> int | None:
    """How many pictures files hold as far as they say; None if a video does not."""
    total = 0
    for file, _ in files:
        try:
            count = VideoReader(file).frame_count if is_video(file) else 1
        except InputError:
            count = 1  # of its problem
        if not count:
            return None
        total += count
    return total


def read_ahead(items: Iterator[Item], count: int) -> Generator[Item]:
    """The items, made in a thread of their own while earlier ones are used, at most `count` in advance."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, end) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)


def link_pictures(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """The same, each with the image before it, for networks that see what moved."""
    before: Picture | None = None
    for picture in pictures:
        follows = before is not None and before.stream == picture.stream
        yield replace(picture, previous=before.image) if before is not None and follows else picture
        before = picture


def predict_pictures(
    predict: Callable[..., list[Scene]], pictures: Iterable[Picture], batch: int
) -> Iterator[tuple[Picture, Scene | None]]:
    """Each picture with what was seen in it; None for those with a problem, perhaps one that the network had with it.

    Args:
        predict: images, and as `previous` those before them, to scenes, in order.
        pictures: read by `read_pictures`.
        batch: pictures per run of the network.
    """
    for group in _groups(pictures, batch):
        outcomes = iter(_outcomes(predict, [picture for picture in group if picture.image is not None]))
        for picture in group:
            outcome = None if picture.image is None else next(outcomes)
            if not isinstance(outcome, str):
                yield picture, outcome
            else:
                yield replace(picture, image=None, problem=f'{picture.file}: {outcome}'), None


def track_pictures(
    results: Iterable[tuple[Picture, Scene | None]], image_rate_hz: float
) -> Iterator[tuple[Picture, Scene | None]]:
    """The same, the objects of each video, and of images one after the other, with ids that stay.

    Args:
        results: of `predict_pictures`, scenes with detections.
        image_rate_hz: at which images follow each other.
    """
    tracker, stream, number = SceneTracker(), '', 0
    for picture, scene in results:
        if picture.stream != stream:
            tracker, stream, number = SceneTracker(), picture.stream, 0
        number += 1
        stamp_ns = round(number * 1e9 / (picture.rate_hz or image_rate_hz))
        yield picture, None if scene is None else tracker.update(scene, stamp_ns)


def _groups(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Runs of pictures with `size` good ones each; the last may be shorter."""
    group: list[Picture] = []
    for picture in pictures:
        group.append(picture)
        if sum(not other.problem for other in group) == size:
            yield group
            group = []
    if group:
        yield group


def _outcomes(predict: Callable[..., list[Scene]], pictures: Sequence[Picture]) -> list[Scene | str]:
    """Scenes, or why there is none; a batch that fails is done again image by image."""
    if not pictures:
        return []
    try:
        return list(predict([p.image for p in pictures], previous=[p.previous for p in pictures]))
    except (InputError, RuntimeError, MemoryError) as error:
        if len(pictures) == 1:
            return [shorten(error)]
    return [outcome for picture in pictures for outcome in _outcomes(predict, [picture])]
