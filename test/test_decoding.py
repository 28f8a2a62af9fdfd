"""What comes out of camera messages, and what is refused."""

from __future__ import annotations

import struct
import time
import tracemalloc
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
    assert_close,
    assert_rgb,
    compressed,
    decode_or_refuse,
    encoded,
    golden_image,
    jpeg_of_size,
    png_of_size,
    raw_image,
    well_formed_image,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros import decoding
from sembox_ros.decoding import decode_image, decode_instances, decode_mask
from sembox_ros.errors import InputError

RNG = np.random.default_rng(0)


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


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
@pytest.mark.parametrize('padding', [0, 3])
def test_masks_are_ids_and_no_colours(encoding: str, padding: int) -> None:
    ids = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
    padded = np.pad(ids, ((0, 0), (0, padding)), constant_values=9)
    np.testing.assert_array_equal(decode_mask(raw_image(padded.reshape(-1), encoding, size_hw=(5, 7))), ids)


def test_unusable_masks_say_why() -> None:
    for message, reason in (
        (raw_image(bytes(12), 'rgb8', size_hw=(2, 2)), "expected mono8 with class ids, got 'rgb8'"),
        (raw_image(bytes(3), 'mono8', size_hw=(2, 2), step=2), r'image\.data: expected 4 bytes'),
        (raw_image(b'', 'mono8', size_hw=(2**32 - 1, 2), step=2), 'mask: expected at most'),
    ):
        with pytest.raises(InputError, match=reason):
            decode_mask(message)


@pytest.mark.parametrize('encoding', ['16UC1', 'mono16'])
@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('order', '<>')
def test_instances_are_numbers_of_16_bits(encoding: str, padding: int, order: str) -> None:
    numbers = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    rows = numbers.astype(f'{order}u2').view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=9).reshape(-1)
    message = raw_image(padded, encoding, size_hw=(5, 7), step=14 + padding, is_bigendian=order == '>')
    found = decode_instances(message)
    np.testing.assert_array_equal(found, numbers)
    assert found.dtype == np.uint16
    for wrong, reason in (
        (raw_image(bytes(4), 'mono8', size_hw=(2, 2)), "expected 16UC1 with numbers, got 'mono8'"),
        (raw_image(bytes(7), encoding, size_hw=(2, 2), step=4), r'image\.data: expected 8 bytes'),
        (raw_image(bytes(8), encoding, size_hw=(2, 2), step=3), r'image\.step: expected at least 4'),
    ):
        with pytest.raises(InputError, match=reason):
            decode_instances(wrong)


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


# Anything at all: either an rgb image or an InputError

ENCODINGS = st.sampled_from([*decoding.PACKED, *decoding.SEMI_PLANAR, '16UC1', '32FC1', '8UC2']) | st.text(max_size=12)
SIZES = st.integers(0, 12) | st.sampled_from([2**16, 2**31, 2**32 - 1])


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
