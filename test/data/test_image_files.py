from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from sembox_ros.data.image_files import read_ids, read_rgb
from sembox_ros.errors import DatasetError


def png_header(height: int, width: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    end = b'IEND'
    chunks = (struct.pack('>I', len(c) - 4) + c + struct.pack('>I', zlib.crc32(c)) for c in (header, end))
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def test_colours_come_as_rgb(tmp_path: Path) -> None:
    rgb = np.zeros((3, 4, 3), np.uint8)
    rgb[1, 2] = 10, 20, 30
    cv2.imwrite(str(tmp_path / 'a.png'), rgb[:, :, ::-1])
    np.testing.assert_array_equal(read_rgb(tmp_path / 'a.png'), rgb)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_ids_come_as_stored(tmp_path: Path, dtype: type) -> None:
    ids = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (7, 5)).astype(dtype)
    cv2.imwrite(str(tmp_path / 'a.png'), ids)
    read = read_ids(tmp_path / 'a.png', dtype)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, ids)


@pytest.mark.parametrize(
    ('pixels', 'wanted', 'words'),
    [
        (np.zeros((4, 4), np.uint16), np.uint8, 'uint8 ids, got 1 of uint16'),
        (np.zeros((4, 4), np.uint8), np.uint16, 'uint16 ids, got 1 of uint8'),
        (np.zeros((4, 4, 3), np.uint8), np.uint8, 'one channel of uint8 ids, got 3'),
    ],
)
def test_other_channels_or_depth_are_refused(tmp_path: Path, pixels: np.ndarray, wanted: type, words: str) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    with pytest.raises(DatasetError, match=rf'a\.png: .*{words}'):
        read_ids(tmp_path / 'a.png', wanted)


def test_a_size_that_only_the_header_claims_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / 'a.png').write_bytes(png_header(20_000, 4_000))
    with pytest.raises(DatasetError, match=r'a\.png.*64000000 pixels.*20000x4000'):
        read_ids(tmp_path / 'a.png', np.uint8)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('size', [(50_000, 60_000), (10_000, 11_000)])
def test_absurd_sizes_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / 'a.png').write_bytes(png_header(*size))
    with pytest.raises(DatasetError, match=r'a\.png'):
        read_rgb(tmp_path / 'a.png')


def test_missing_foreign_and_damaged_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'none\.png: no such file'):
        read_rgb(tmp_path / 'none.png')
    (tmp_path / 'text.png').write_text('hello')
    with pytest.raises(DatasetError, match=r'text\.png.*no known format'):
        read_rgb(tmp_path / 'text.png')
    (tmp_path / 'empty.png').write_bytes(png_header(4, 4))
    with pytest.raises(DatasetError, match=r'empty\.png.*damaged'):
        read_rgb(tmp_path / 'empty.png')
    cv2.imwrite(str(tmp_path / 'cut.png'), np.random.default_rng(0).integers(0, 255, (50, 60, 3)).astype(np.uint8))
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'cut.png').read_bytes()[:3000])
    with pytest.raises(DatasetError, match=r'cut\.png.*damaged'):
        read_rgb(tmp_path / 'cut.png')
