"""Reading image and label files whose contents nobody has checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from sembox_ros.errors import DatasetError

MAX_PIXELS = 64_000_000  # a header may claim any size; the largest public street images have 18 million


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image of a file, its size checked and its pixels not yet decoded; what PIL raises becomes a DatasetError."""
    try:
        with Image.open(path) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS:
                raise DatasetError(f'{path}: expected 1 to {MAX_PIXELS} pixels, got {image.height}x{image.width}')
            yield image
    except FileNotFoundError:
        raise DatasetError(f'{path}: no such file') from None
    except UnidentifiedImageError:
        raise DatasetError(f'{path}: expected an image file, its header is of no known format') from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'{path}: cannot be decoded, the file is damaged or cut short: {error}') from error


def _decode(path: Path, flags: int) -> np.ndarray:
    with _opened(path):
        pass  # the size is checked before any pixel is decoded
    try:
        pixels = cv2.imread(str(path), flags)
    except cv2.error as error:
        raise DatasetError(f'{path}: cannot be decoded: {error}') from error
    if pixels is None:
        raise DatasetError(f'{path}: cannot be decoded, the file is damaged or cut short; copy it again')
    return pixels


def read_rgb(path: Path) -> np.ndarray:
    """The (H, W, 3) uint8 rgb pixels of a PNG file, as they are stored; for JPEG files there is `read_photo`.

    Raises:
        DatasetError: missing, damaged, or larger than `MAX_PIXELS`.
    """
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)


def read_photo(path: Path) -> np.ndarray:
    """The (H, W, 3) uint8 rgb pixels of a photograph, grey ones too, as they are stored.

    Slower than `read_rgb`, but it refuses a JPEG that is cut short, which OpenCV fills up with grey.

    Raises:
        DatasetError: missing, damaged, or larger than `MAX_PIXELS`.
    """
    with _opened(path) as image:
        return np.array(image.convert('RGB'))


def read_ids(path: Path, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """The (H, W) ids in a file of one channel.

    Args:
        path: a PNG file.
        dtype: type that the ids must be stored in, uint8 or uint16.

    Raises:
        DatasetError: missing, damaged, larger than `MAX_PIXELS`, or other channels or dtype.
    """
    return _read_stored(
        path, dtype, 1, f'one channel of {np.dtype(dtype)} ids', hint='; it may be a colour rendering of the labels'
    )


def read_vectors(path: Path) -> np.ndarray:
    """The (H, W, 3) uint16 values in a file of three channels, in the order of the file.

    Args:
        path: a PNG file of 16 bits.

    Raises:
        DatasetError: missing, damaged, larger than `MAX_PIXELS`, or other channels or dtype.
    """
    stored = _read_stored(path, np.uint16, 3, 'three channels of uint16 values')
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)


def _read_stored(path: Path, dtype: type[np.unsignedinteger], channels: int, wanted: str, hint: str = '') -> np.ndarray:
    """Pixels as they are stored, in OpenCV's order, if they are of that type and as many channels."""
    pixels = _decode(path, cv2.IMREAD_UNCHANGED)
    found = 1 if pixels.ndim == 2 else pixels.shape[2]
    if found != channels or pixels.dtype != dtype:
        raise DatasetError(f'{path}: expected {wanted}, got {found} of {pixels.dtype}{hint}')
    return pixels


def read_index_image(path: Path, size_hw: tuple[int, ...]) -> np.ndarray:
    """The (H, W) uint8 indices of a grey or palette PNG; a palette's colours do not matter.

    OpenCV would give a palette image's colours, so PIL reads it.

    Args:
        path: an 8-bit image of one channel.
        size_hw: height and width of the photograph that it labels.

    Raises:
        DatasetError: missing, damaged, of another size, or with more than one channel.
    """
    with _opened(path) as image:
        check_size(path, (image.height, image.width), size_hw)
        if image.mode not in ('P', 'L'):
            raise DatasetError(
                f'{path}: expected a palette or grey image of 8 bits, got mode {image.mode}; '
                'it may be a colour rendering of the labels'
            )
        return np.array(image)


def check_size(path: Path, size_hw: tuple[int, ...], expected_hw: tuple[int, ...]) -> None:
    """Check that a file has the height and width of what it belongs to.

    Raises:
        DatasetError: it has others.
    """
    if tuple(size_hw) != tuple(expected_hw):
        height, width = expected_hw
        raise DatasetError(f'{path}: expected {height}x{width} pixels (height x width), got {size_hw[0]}x{size_hw[1]}')
