"""Image files and videos in, images and videos out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from sembox_ros.errors import InputError

IMAGE_SUFFIXES = frozenset({'.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm'})
VIDEO_SUFFIXES = frozenset({'.mp4', '.avi', '.mkv', '.mov', '.webm', '.m4v', '.mpg', '.mpeg'})
DEFAULT_RATE_HZ = 25.0  # of videos that do not say, and of images in a row


def find_media(path: Path) -> list[Path]:
    """Image and video files at `path`: itself, or all below it, sorted by name with numbers as numbers (2 before 10).

    Raises:
        InputError: nothing there, or no file of a known kind.
    """
    if path.is_file():
        if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            known = ' '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
            raise InputError(f'{path}: expected an image or a video ({known})')
        return [path]
    if not path.is_dir():
        raise InputError(f'{path}: no such file or folder')
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(path)
        for name in names
        if Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    ]
    if not found:
        raise InputError(f'{path}: holds no image and no video')
    return sorted(found, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[list[str | int]], Path]:
    """Sorts as people count: text and numbers of each part in turn, and what differs in zeros alone as text."""
    parts: list[list[str | int]] = [
        [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r'(\d+)', part))]
        for part in path.parts
    ]
    return parts, path


def unique_names(stems: Iterable[str]) -> list[str]:
    """The same names in order, numbered from the second of a kind on: a, a_2, a_3."""
    names: dict[str, None] = {}
    for stem in stems:
        name, number = stem, 2
        while name in names:
            name, number = f'{stem}_{number}', number + 1
        names[name] = None
    return list(names)


def is_video(path: Path) -> bool:
    """True if the file's name ends as a video's does."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_image(path: Path) -> np.ndarray:
    """One image file as (H, W, 3) uint8 rgb.

    Raises:
        InputError: unreadable, or not an image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f'{path}: cannot be read: {error.strerror}') from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise InputError(f'{path}: cannot be decoded ({str(error).strip().splitlines()[0]})') from error
    if image is None:
        raise InputError(f'{path}: not an image that OpenCV can decode')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W) uint8 or, as PNG, uint16, or (H, W, 3) rgb uint8; the suffix chooses the format.

    Raises:
        InputError: the file cannot be written.
    """
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(path.suffix, pixels)
    if not done:
        raise InputError(f'{path}: the image cannot be encoded as {path.suffix}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f'{path}: cannot be written: {error.strerror}') from error


class VideoReader:
    """Frames of a video file.

    Attributes:
        frame_count: as the file says, or as its duration suggests; 0 if it says neither.
        rate_hz: mean frame rate.

    Raises:
        InputError: not a readable video.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise InputError(f'{path}: not a readable video ({error.strerror or error})') from error
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f'{path}: holds no video stream')
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = 'AUTO'
        self.rate_hz = float(self._stream.average_rate or DEFAULT_RATE_HZ)
        seconds = (self._container.duration or 0) / av.time_base
        self.frame_count: int = self._stream.frames or round(seconds * self.rate_hz)

    def __iter__(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 rgb, in order and upright; a video with damage ends with an InputError."""
        damaged = False
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:  # what follows may be good, and the decoder still holds frames before it
                    damaged = True
                    continue
                for frame in packet.decode():
                    yield _upright(frame)
        except av.FFmpegError as error:
            raise InputError(f'{self._path}: damaged video ({error.strerror or error})') from error
        finally:
            self._container.close()
        if damaged:
            raise InputError(f'{self._path}: damaged video, some of it is missing (cut short?)')


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Its pixels; telephones store them as the sensor lies, and beside them how to turn them, counterclockwise."""
    image = frame.to_ndarray(format='rgb24')
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90))) if frame.rotation else image


class VideoWriter:
    """Writes an H.264 mp4 that browsers and slides can play; every frame is fitted to the first one's size.

    The first frame makes the file; without any there is none. What was written can be played once it is closed.

    Args:
        path: file to write.
        rate_hz: frames per second.
        preset: of x264, how much time is given to make the file small.

    Attributes:
        frame_count: frames written.
    """

    def __init__(self, path: Path, rate_hz: float, *, preset: str = 'medium') -> None:
        self._path, self._preset = path, preset
        self._rate = Fraction(rate_hz).limit_denominator(1001)  # of NTSC's 30000/1001
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self.frame_count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: np.ndarray) -> None:
        """Append one (H, W, 3) uint8 rgb frame."""
        if self._container is None or self._stream is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._path), 'w', options={'movflags': 'faststart'})
            options = {'crf': '23', 'preset': self._preset}
            self._stream = self._container.add_stream('libx264', rate=self._rate, options=options)
            # Colour is stored at half the resolution, so both sides must be even.
            self._stream.height, self._stream.width = (max(2, s - s % 2) for s in image.shape[:2])
            self._stream.pix_fmt = 'yuv420p'
        height, width = self._stream.height, self._stream.width
        if image.shape[0] - height in (0, 1) and image.shape[1] - width in (0, 1):
            image = image[:height, :width]  # scaling by one pixel would blur it and leave a border
        fitted = np.ascontiguousarray(fit_picture(image, (height, width)))
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(fitted, format='rgb24')):
            self._container.mux(packet)
        self.frame_count += 1

    def close(self) -> None:
        """Finish the file."""
        if self._container is None:
            return
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()


def join_videos(parts: Sequence[Path], path: Path) -> None:
    """One video of several that `VideoWriter` made with the same rate, one after the other.

    Those of one size are not encoded again; of different sizes, all are fitted to the first one's.

    Raises:
        InputError: a part cannot be read, or the result not be written.
    """
    try:
        path.unlink(missing_ok=True)
        if len({_video_size(part) for part in parts}) > 1:
            _encode_again(parts, path)
            return
        with av.open(str(path), 'w', options={'movflags': 'faststart'}) as target:
            stream, offset = None, 0
            for part in parts:
                with av.open(str(part)) as source:
                    [video] = source.streams.video
                    stream = stream or target.add_stream_from_template(video)
                    end = 0
                    for packet in source.demux(video):
                        if packet.dts is None:  # the flushing packet at the end
                            continue
                        end = max(end, packet.pts + packet.duration)
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = stream
                        target.mux(packet)
                    offset += end
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f'{path}: the videos of the parts cannot be joined: {error}') from error


def _video_size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as source:
        return source.streams.video[0].width, source.streams.video[0].height


def _encode_again(parts: Sequence[Path], path: Path) -> None:
    with VideoWriter(path, VideoReader(parts[0]).rate_hz, preset='veryfast') as writer:
        for part in parts:
            for image in VideoReader(part):
                writer.write(image)


def fit_picture(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Scale (H, W, 3) uint8 into a frame of that size, centred on black, keeping the aspect ratio."""
    height, width = size_hw
    if image.shape[:2] == size_hw:
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    scaled = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    frame = np.zeros((height, width, 3), np.uint8)
    top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
    frame[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return frame


def contact_sheet(rows: Iterable[Iterable[np.ndarray]], titles: list[str], cell_hw: tuple[int, int]) -> np.ndarray:
    """Pictures in a grid with a title over each column: (H, W, 3) uint8 rgb."""
    gap, head = 6, 30
    height, width = cell_hw
    grid = [[fit_picture(picture, cell_hw) for picture in row] for row in rows]
    sheet = np.full((head + len(grid) * (height + gap), len(titles) * (width + gap) + gap, 3), 255, np.uint8)
    for column, title in enumerate(titles):
        left = gap + column * (width + gap)
        cv2.putText(sheet, title, (left, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        for index, row in enumerate(grid):
            top = head + index * (height + gap)
            sheet[top : top + height, left : left + width] = row[column]
    return sheet
