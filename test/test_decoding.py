"""What comes out of camera messages, and what is refused."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from camera_messages import (
    DEEP,
    GOLDENS,
    HEADER,
    HEIGHT,
    RAW,
    WIDTH,
    compressed,
    golden_image,
    raw_image,
    well_formed_image,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from sembox_ros import decoding
from sembox_ros.decoding import decode_image
from sembox_ros.errors import InputError

RNG = np.random.default_rng(0)


def encoded(image: np.ndarray, extension: str = '.png', params: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(extension, image, params)[1].tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> bytes:
    header = png_chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + png_chunk(b'IDAT', zlib.compress(bytes(1000))) + png_chunk(b'IEND', b'')


def jpeg_of_size(width: int, height: int) -> bytes:
    frame = struct.pack('>HBHHB', 17, 8, height, width, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    scan = bytes([0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0])
    return b'\xff\xd8\xff\xc0' + frame + b'\xff\xda' + scan + bytes(10) + b'\xff\xd9'


def assert_rgb(image: np.ndarray, size_hw: tuple[int, int]) -> None:
    assert image.shape == (*size_hw, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def assert_close(image: np.ndarray, expected: np.ndarray, tolerance: int = 1) -> None:
    assert_rgb(image, expected.shape[:2])
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= tolerance


# Every encoding, against the real cv_bridge


@pytest.mark.parametrize('encoding', RAW)
def test_image_equals_cv_bridge(encoding: str) -> None:
    assert_close(decode_image(golden_image(encoding)), GOLDENS[f'rgb8:{encoding}'])


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
@pytest.mark.parametrize('declared', ['{}', 'rgb8; {} compressed bgr8', 'bgr8; {} compressed bgr8', '', 'nonsense'])
def test_compressed_image_equals_cv_bridge(kind: str, declared: str) -> None:
    message = compressed(GOLDENS[f'in:compressed_{kind}'], declared.format(kind))
    assert_close(decode_image(message), GOLDENS[f'rgb8:compressed_{kind}'])


@pytest.mark.parametrize('encoding', RAW)
@pytest.mark.parametrize('last_row_padded', [True, False])
@pytest.mark.parametrize('padding', [1, 2, 7, 64])
def test_padded_rows_change_nothing(encoding: str, padding: int, last_row_padded: bool) -> None:
    message = golden_image(encoding, padding, last_row_padded=last_row_padded)
    np.testing.assert_array_equal(decode_image(message), decode_image(golden_image(encoding)))


@pytest.mark.parametrize('encoding', DEEP)
@pytest.mark.parametrize('padding', [0, 2, 3])
def test_big_endian_changes_nothing(encoding: str, padding: int) -> None:
    message = golden_image(encoding, padding, big=True)
    np.testing.assert_array_equal(decode_image(message), decode_image(golden_image(encoding)))


@pytest.mark.parametrize('encoding', sorted(set(RAW) - set(DEEP)))
def test_byte_order_means_nothing_for_single_bytes(encoding: str) -> None:
    message = golden_image(encoding)
    message.is_bigendian = 1
    np.testing.assert_array_equal(decode_image(message), decode_image(golden_image(encoding)))


@pytest.mark.parametrize(('name', 'same_as'), [('uyvy', 'yuv422'), ('yuyv', 'yuv422_yuy2')])
def test_new_names_of_yuv422(name: str, same_as: str) -> None:
    message = raw_image(GOLDENS[f'in:{same_as}'], name)
    np.testing.assert_array_equal(decode_image(message), decode_image(golden_image(same_as)))


@pytest.mark.parametrize(
    ('encoding', 'same_as', 'channels'), [('8UC1', 'mono8', 1), ('8UC3', 'bgr8', 3), ('8UC4', 'bgra8', 4)]
)
def test_matrix_types_are_guessed_with_one_text_each(encoding: str, same_as: str, channels: int) -> None:
    data = GOLDENS[f'in:{same_as}']
    warnings: list[str] = []
    for _ in range(2):
        image = decode_image(raw_image(data, encoding), warn=warnings.append)
    np.testing.assert_array_equal(image, decode_image(raw_image(data, same_as), warn=warnings.append))
    assert len(warnings) == 2
    assert len(set(warnings)) == 1
    assert encoding in warnings[0]
    assert same_as in warnings[0]
    assert_rgb(decode_image(raw_image(bytes(12 * channels), encoding, size_hw=(3, 4))), (3, 4))


# Semi-planar YUV, which cv_bridge does not know


@pytest.mark.parametrize(('encoding', 'code'), [('nv12', cv2.COLOR_YUV2RGB_NV12), ('nv21', cv2.COLOR_YUV2RGB_NV21)])
@pytest.mark.parametrize('padding', [0, 10])
def test_nv12_and_nv21_equal_opencv(encoding: str, code: int, padding: int) -> None:
    buffer = RNG.integers(0, 256, (HEIGHT * 3 // 2, WIDTH), dtype=np.uint8)
    padded = np.pad(buffer, ((0, 0), (0, padding)), constant_values=0xA5)
    message = raw_image(padded.reshape(-1)[: padded.size - padding], encoding, step=WIDTH + padding)
    assert_close(decode_image(message), cv2.cvtColor(buffer, code))


@pytest.mark.parametrize('padding', [0, 6])
def test_nv24_equals_bt601(padding: int) -> None:
    luma = RNG.integers(16, 236, (5, 7), dtype=np.uint8)
    chroma = RNG.integers(16, 241, (5, 7, 2), dtype=np.uint8)
    y, u, v = 1.164 * (luma - 16.0), chroma[..., 0] - 128.0, chroma[..., 1] - 128.0
    expected = np.stack([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], axis=-1).clip(0, 255)
    planes = [
        np.pad(luma, ((0, 0), (0, padding))).tobytes(),
        np.pad(chroma.reshape(5, 14), ((0, 0), (0, 2 * padding))).tobytes(),
    ]
    message = raw_image(b''.join(planes), 'nv24', size_hw=(5, 7), step=7 + padding)
    assert_close(decode_image(message), np.round(expected), tolerance=2)


@pytest.mark.parametrize(('encoding', 'luma_rows'), [('nv21', 32), ('nv24', 16)])
def test_height_of_semi_planar_images_counts_luma_rows(encoding: str, luma_rows: int) -> None:
    data = GOLDENS[f'in:{encoding}']
    assert_rgb(decode_image(raw_image(data, encoding, size_hw=(luma_rows, WIDTH), step=WIDTH)), (luma_rows, WIDTH))
    with pytest.raises(InputError, match=r'image\.data: expected \d+ bytes'):
        decode_image(raw_image(data, encoding, step=WIDTH))


# What is refused, and why


@pytest.mark.parametrize(
    ('message', 'reason'),
    [
        (raw_image(b'', 'rgb8', size_hw=(2, 2), step=6), r'image\.data: expected 12 bytes .* got 0'),
        (raw_image(bytes(11), 'rgb8', size_hw=(2, 2), step=6), r'image\.data: expected 12 bytes .* got 11'),
        (raw_image(bytes(12), 'rgb8', size_hw=(2, 2), step=5), r'image\.step: expected at least 6 .* got 5'),
        (raw_image(bytes(12), 'rgb8', size_hw=(2, 2), step=0), r'image\.step: expected at least 6 .* got 0'),
        (raw_image(bytes(12), 'mono8', size_hw=(2, 2), step=2), r'image\.data: expected 4 bytes .* do not describe'),
        (raw_image(b'', 'rgb8', size_hw=(0, 2), step=6), r'height and width above 0, got 0 x 2'),
        (raw_image(b'', 'rgb8', size_hw=(2, 0), step=0), r'height and width above 0, got 2 x 0'),
        (
            raw_image(bytes(12), 'yuyv', size_hw=(2, 3), step=6),
            r'width: expected an even number for yuyv, got 3',
        ),
        (raw_image(bytes(14), 'nv12', size_hw=(3, 4), step=4), r'expected even height and width for nv12, got 3 x 4'),
        (raw_image(bytes(4), 'bayer_rggb8', size_hw=(2, 2), step=2), r'expected at least 3 x 3 .* got 2 x 2'),
        (raw_image(bytes(8), '16UC1', size_hw=(2, 2), step=4), r"'16UC1', which is usually depth.* mono16"),
        (raw_image(bytes(16), '32FC1', size_hw=(2, 2), step=8), r"'32FC1', which is usually depth"),
        (raw_image(bytes(12), 'RGB8', size_hw=(2, 2), step=6), r"'RGB8' is not supported; did you mean rgb8"),
        (raw_image(bytes(12), '', size_hw=(2, 2), step=6), r"'' is not supported; expected one of: mono8, "),
        (raw_image(bytes(12), 'x' * 10**6, size_hw=(2, 2), step=6), r"'x{40}' is not supported"),
        (compressed(b''), r'got no bytes'),
        (compressed(b'\0\0\0\1h264', 'h264'), r"expected a jpeg, png, webp or bmp file.*'h264'"),
        (compressed(b'\x89PNG\r\n\x1a\n'), r'header of 8 bytes is broken'),
        (compressed(b'\0' * 12 + encoded(np.zeros((2, 2), np.uint16)), '16UC1; compressedDepth png'), r'got depth'),
        (compressed(encoded(np.zeros((2, 2), np.uint16)), '16UC1; png compressed '), r'which is usually depth'),
        (compressed(encoded(np.zeros((4, 4), np.uint8)), 'bayer_what8; png compressed '), r'is not supported'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_unusable_messages_say_why(message: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        decode_image(message)
    assert len(str(caught.value)) < 600


def test_other_messages_are_refused() -> None:
    with pytest.raises(InputError, match='expected sensor_msgs Image or CompressedImage, got std_msgs__msg__Header'):
        decode_image(HEADER)


def test_left_over_bytes_of_the_last_page_are_ignored() -> None:
    data = GOLDENS['in:rgb8']
    page = raw_image(data.tobytes() + bytes(-len(data) % 4096), 'rgb8', step=WIDTH * 3)
    np.testing.assert_array_equal(decode_image(page), GOLDENS['rgb8:rgb8'])


def test_one_row_may_have_any_step() -> None:
    assert_rgb(decode_image(raw_image(bytes(6), 'rgb8', size_hw=(1, 2), step=2**32 - 1)), (1, 2))


def test_tight_rgb8_is_not_copied() -> None:
    message = golden_image('rgb8')
    image = decode_image(message)
    assert np.shares_memory(image, np.frombuffer(message.data, np.uint8))
    assert not np.shares_memory(decode_image(golden_image('rgb8', 4)), image)


BOMBS = {
    'png': compressed(png_of_size(60000, 60000)),
    'jpeg': compressed(jpeg_of_size(60000, 60000)),
    'bmp': compressed(b'BM' + struct.pack('<IIIIiiHHIIIIII', 1000, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6)),
    'raw': raw_image(b'', 'rgb8', size_hw=(60000, 60000), step=180000),
    'raw step': raw_image(b'', 'mono8', size_hw=(2, 2), step=2**32 - 1),
    'raw size': raw_image(b'', 'nv24', size_hw=(2**32 - 1, 2**32 - 1), step=2**32 - 1),
}


@pytest.mark.parametrize('message', BOMBS.values(), ids=BOMBS.keys())
def test_bombs_cost_neither_time_nor_memory(message: Any) -> None:
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(InputError, match=r'expected at most \d+ pixels, got \d+ x \d+|image\.data: expected'):
            decode_image(message)
        seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6
    assert seconds < 1


def test_max_pixels_is_the_callers_choice() -> None:
    for message in (golden_image('rgb8'), compressed(GOLDENS['in:compressed_jpeg'])):
        assert_rgb(decode_image(message, max_pixels=HEIGHT * WIDTH), (HEIGHT, WIDTH))
        with pytest.raises(InputError, match=f'at most {HEIGHT * WIDTH - 1} pixels, got {HEIGHT} x {WIDTH}'):
            decode_image(message, max_pixels=HEIGHT * WIDTH - 1)


# Compressed files of every kind

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


# Anything at all: either an rgb image or an InputError

ENCODINGS = st.sampled_from([*decoding.PACKED, *decoding.SEMI_PLANAR, '16UC1', '32FC1', '8UC2']) | st.text(max_size=12)
SIZES = st.integers(0, 12) | st.sampled_from([2**16, 2**31, 2**32 - 1])


def decode_or_refuse(message: Any) -> np.ndarray | None:
    try:
        image = decode_image(message, max_pixels=2**20)
    except InputError:
        return None
    assert_rgb(image, image.shape[:2])
    return image


@settings(max_examples=400, deadline=None)
@given(
    data=st.binary(max_size=600),
    encoding=ENCODINGS,
    size_hw=st.tuples(SIZES, SIZES),
    step=st.integers(0, 80) | SIZES,
    is_bigendian=st.integers(0, 255),
)
def test_random_images(data: bytes, encoding: str, size_hw: tuple[int, int], step: int, is_bigendian: int) -> None:
    image = decode_or_refuse(raw_image(data, encoding, size_hw=size_hw, step=step, is_bigendian=is_bigendian))
    assert image is None or image.shape[:2] == size_hw


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.sampled_from([*decoding.PACKED, *decoding.SEMI_PLANAR]),
    size_hw=st.tuples(st.integers(2, 8), st.integers(2, 8)).map(lambda hw: (hw[0] * 2, hw[1] * 2)),
    padding=st.integers(0, 9),
    is_bigendian=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_well_formed_images_of_any_content(
    encoding: str, size_hw: tuple[int, int], padding: int, is_bigendian: bool, seed: int
) -> None:
    image = decode_or_refuse(well_formed_image(encoding, size_hw, padding, is_bigendian, seed))
    assert image is not None
    assert image.shape[:2] == size_hw


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
