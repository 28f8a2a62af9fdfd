"""Reading image and label files whose contents nobody has checked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from sembox_ros.errors import DatasetError

MAX_PIXELS = 64_000_000  # a header may claim any size; the largest public street images have 18 million


def _check_header(path: Path) -> None:
    """Refuse a file whose header is missing, unknown or too large, before any pixel is decoded."""
    try:
        with Image.open(path) as header:
            width, height = header.size
    except FileNotFoundError:
        raise DatasetError(f'{path}: no such file') from None
    except UnidentifiedImageError:
        raise DatasetError(f'{path}: expected an image file, its header is of no known format') from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f'{path}: cannot be opened as an image: {error}') from error
    if not 0 < height * width <= MAX_PIXELS:
        raise DatasetError(f'{path}: expected 1 to {MAX_PIXELS} pixels, the header says {height}x{width}')


def _decode(path: Path, flags: int) -> np.ndarray:
    _check_header(path)
    try:
        pixels = cv2.imread(str(path), flags)
    except cv2.error as error:
        raise DatasetError(f'{path}: cannot be decoded: {error}') from error
    if pixels is None:
        raise DatasetError(f'{path}: cannot be decoded, the file is damaged or cut short; copy it again')
    return pixels


def read_rgb(path: Path) -> np.ndarray:
    """The (H, W, 3) uint8 rgb pixels of an image file.

    Raises:
        DatasetError: missing, damaged, or larger than `MAX_PIXELS`.
    """
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_ids(path: Path, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """The (H, W) ids in a file of one channel.

    Args:
        path: a PNG file.
        dtype: type that the ids must be stored in, uint8 or uint16.

    Raises:
        DatasetError: missing, damaged, larger than `MAX_PIXELS`, or other channels or dtype.
    """
    ids = _decode(path, cv2.IMREAD_UNCHANGED)
    if ids.ndim != 2 or ids.dtype != dtype:
        channels = 1 if ids.ndim == 2 else ids.shape[2]
        raise DatasetError(
            f'{path}: expected one channel of {np.dtype(dtype)} ids, got {channels} of {ids.dtype}; '
            'it may be a colour rendering of the labels'
        )
    return ids
