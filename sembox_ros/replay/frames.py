"""The images of a bag, read and decoded ahead in a thread of their own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.decoding import MAX_PIXELS, decode_image
from sembox_ros.errors import InputError
from sembox_ros.inference.flow import LastImages
from sembox_ros.replay.bags import BagMessage, BagReader
from sembox_ros.replay.truth import BagTruth

AHEAD = 16  # decoded images that wait for the network at most


@dataclass(frozen=True)
class Frame:
    """One image message of the bag.

    Attributes:
        index: its number among all image messages that are replayed, from 0, in the order of recording.
        camera: name of its camera; empty for the only one.
        received_ns: when it was recorded, nanoseconds.
        stamp_ns: its header's stamp, nanoseconds; 0 if it cannot be read.
        header: of its message; None if that cannot be read.
        image: (H, W, 3) uint8 rgb, None for one that cannot be used.
        problem: why it cannot be used; empty for a good one.
        timings_ms: what reading and decoding it took.
        previous: the image before it from the same camera, if it is to be known and is not too old.
    """

    index: int
    camera: str
    received_ns: int
    stamp_ns: int
    header: Any
    image: np.ndarray | None
    problem: str
    timings_ms: Mapping[str, float]
    previous: np.ndarray | None = None


class FrameReader:
    """Iterates over the frames of a bag; what the bag says about the truth goes to `truth` on the way.

    Args:
        path: the bag.
        cameras: image topic -> name of its camera.
        truth: takes the messages of its topics; None if the bag has none that matter.
        first: frames below this index are passed over without being decoded: they are done already.
        with_previous: give frames the image before them.
        max_pixels: larger images are refused before they are decoded.

    Attributes:
        lost: messages in damaged parts of the bag, known at the end.

    Raises:
        DatasetError: on entering; the bag cannot be read.
    """

    def __init__(
        self,
        path: Path,
        cameras: Mapping[str, str],
        *,
        truth: BagTruth | None = None,
        first: int = 0,
        with_previous: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._cameras, self._truth, self._first, self._max_pixels = dict(cameras), truth, first, max_pixels
        topics = [*cameras, *(truth.topics if truth else [])]
        self._bag = BagReader(path, topics)
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(AHEAD)
        self._stopping = threading.Event()
        self._last_images = LastImages() if with_previous else None
        self._passed_over: dict[str, BagMessage] = {}  # camera -> its last one
        self.lost = 0
        self._thread = threading.Thread(target=self._read, name='replay-read', daemon=True)

    def __enter__(self) -> FrameReader:
        self._bag.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading; frames that nobody took are thrown away."""
        self._stopping.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)
        self._bag.__exit__()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            frame = self._queue.get()
            if frame is None:
                return
            if isinstance(frame, BaseException):
                raise frame
            yield frame

    def _read(self) -> None:
        try:
            index, begun = 0, time.perf_counter()
            for entry in self._bag.messages():
                read_ms = (time.perf_counter() - begun) * 1e3
                if self._stopping.is_set():
                    return
                if entry.topic not in self._cameras:
                    assert self._truth is not None
                    self._truth.add(entry)
                else:
                    if index >= self._first:
                        self._put(self._decode(index, entry, read_ms))
                    elif self._last_images is not None:
                        self._passed_over[self._cameras[entry.topic]] = entry
                    index += 1
                begun = time.perf_counter()
            self.lost = self._bag.lost
            self._put(None)
        except BaseException as error:  # whatever it is, it must not leave the other side waiting
            self._put(error)

    def _put(self, item: Frame | BaseException | None) -> None:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _decode(self, index: int, entry: BagMessage, read_ms: float) -> Frame:
        start = time.perf_counter()
        image, problem = self._decode_image(entry)
        timings_ms = {'read': read_ms, 'decode': (time.perf_counter() - start) * 1e3}
        camera, stamp_ns = self._cameras[entry.topic], entry.stamp_ns or 0
        previous = None
        if self._last_images is not None:
            if camera in self._passed_over:
                passed = self._passed_over.pop(camera)
                self._last_images.replace(camera, passed.stamp_ns or 0, self._decode_image(passed)[0])
            previous = self._last_images.replace(camera, stamp_ns, image)
        header = getattr(entry.message, 'header', None)
        return Frame(index, camera, entry.received_ns, stamp_ns, header, image, problem, timings_ms, previous)

    def _decode_image(self, entry: BagMessage) -> tuple[np.ndarray | None, str]:
        """The image of a message, or why there is none."""
        if entry.error:
            return None, entry.error
        try:
            return decode_image(entry.message, max_pixels=self._max_pixels), ''
        except InputError as error:
            return None, str(error)
