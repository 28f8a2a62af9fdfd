"""What comes out of compressed camera messages, and what is refused."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from camera_messages import (
    GOLDENS,
    assert_close,
    assert_rgb,
    compressed,
    decode_or_refuse,
    encoded,
    golden_image,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from sembox_ros import decoding
from sembox_ros.decoding import decode_image
from sembox_ros.errors import InputError

RNG = np.random.default_rng(0)

BGR = cv2.resize(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8), (40, 30))
RGB = np.ascontiguousarray(BGR[..., ::-1])


@pytest.mark.parametrize('extension', ['.png', '.bmp'])
def test_lossless_files(extension: str) -> None:
    np.testing.assert_array_equal(decode_image(compressed(encoded(BGR, extension))), RGB)


def test_webp() -> None:
    file = io.BytesIO()
    PillowImage.fromarray(RGB).save(file, 'webp', lossless=True)
    np.testing.assert_array_equal(decode_image(compressed(file.getvalue(), 'webp')), RGB)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_png_of_any_depth_becomes_rgb8(dtype: type, channels: int) -> None:
    stored = RNG.integers(0, np.iinfo(dtype).max + 1, (9, 11, channels), dtype=dtype)
    colors = np.repeat(stored, 3, axis=2) if channels == 1 else stored[..., 2::-1]
    expected = np.round(colors * (255 / np.iinfo(dtype).max))
    assert_close(decode_image(compressed(encoded(stored))), expected)


def test_palette_and_grey_alpha_png() -> None:
    for mode in ('P', 'LA', '1'):
        file = io.BytesIO()
        picture = PillowImage.fromarray(RGB).convert(mode)
        picture.save(file, 'png')
        assert_close(decode_image(compressed(file.getvalue())), np.asarray(picture.convert('RGB')))


def test_grey_jpeg() -> None:
    image = decode_image(compressed(encoded(BGR[..., 0], '.jpg'), 'mono8; jpeg compressed mono8'))
    assert_rgb(image, BGR.shape[:2])
    assert (image == image[..., :1]).all()


def test_exif_orientation_does_not_turn_the_image() -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    plain, turned = io.BytesIO(), io.BytesIO()
    PillowImage.fromarray(RGB).save(plain, 'jpeg')
    PillowImage.fromarray(RGB).save(turned, 'jpeg', exif=exif)
    expected = decode_image(compressed(plain.getvalue()))
    np.testing.assert_array_equal(decode_image(compressed(turned.getvalue())), expected)


@pytest.mark.parametrize('encoding', ['bayer_rggb8', 'bayer_gbrg16'])
def test_bayer_in_png_is_demosaiced(encoding: str) -> None:
    mosaic = GOLDENS[f'passthrough:{encoding}']
    stored = compressed(encoded(mosaic), f'{encoding}; png compressed ')
    np.testing.assert_array_equal(decode_image(stored), decode_image(golden_image(encoding)))
    grey = decode_image(compressed(encoded(mosaic), f'{encoding}; jpeg compressed mono8'))
    assert (grey == grey[..., :1]).all()


FILES = {
    'jpeg': encoded(BGR, '.jpg'),
    'progressive jpeg': encoded(BGR, '.jpg', (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    'png': encoded(BGR),
    'bmp': encoded(BGR, '.bmp'),
    'webp': encoded(BGR, '.webp'),
}


@pytest.mark.parametrize('kind', FILES)
def test_truncated_files_are_refused_wherever_they_end(kind: str) -> None:
    data = FILES[kind]
    assert_rgb(decode_image(compressed(data)), BGR.shape[:2])
    for length in sorted({*range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 4, len(data))}):
        with pytest.raises(InputError):
            decode_image(compressed(data[:length]))


def test_jpeg_with_thumbnail_is_refused_when_only_the_thumbnail_is_whole() -> None:
    app1 = b'Exif\0\0' + encoded(BGR[:8, :8], '.jpg')
    data = FILES['jpeg'][:2] + b'\xff\xe1' + struct.pack('>H', len(app1) + 2) + app1 + FILES['jpeg'][2:]
    np.testing.assert_array_equal(decode_image(compressed(data)), decode_image(compressed(FILES['jpeg'])))
    with pytest.raises(InputError, match='truncated'):
        decode_image(compressed(data[:-2]))


@settings(max_examples=200, deadline=None)
@given(
    prefix=st.sampled_from([b'', *decoding._HEADER_READERS]),
    data=st.binary(max_size=200),
    declared=st.text(max_size=30),
)
def test_random_compressed_images(prefix: bytes, data: bytes, declared: str) -> None:
    decode_or_refuse(compressed(prefix + data, declared))


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)), where=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=8)
)
def test_damaged_compressed_images(kind: str, where: float, junk: bytes) -> None:
    data = bytearray(FILES[kind])
    at = int(where * len(data))
    data[at : at + len(junk)] = junk
    decode_or_refuse(compressed(bytes(data), kind))
