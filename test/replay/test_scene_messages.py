from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.decoding import decode_depth, decode_image, decode_instances
from sembox_ros.errors import DatasetError, InputError
from sembox_ros.labels import CITYSCAPES_THINGS_8
from sembox_ros.replay.scene_messages import (
    DETECTIONS,
    MessageEncoder,
    read_detections,
    read_is_crowd,
    read_motion,
    view_image,
)
from sembox_ros.types import MAX_INSTANCE, Detections

ENCODER = MessageEncoder()
HEADER = ENCODER.make_header(-1, 'left')

# From 1/100,000 px on, centre and size in float64 hold both float32 corners.
COORDINATES = st.just(0.0) | st.floats(2.0**-16, 8192, width=32)
BOXES = st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
ROWS = st.tuples(BOXES, st.integers(0, 7), st.floats(0, 1, width=32), st.booleans(), st.integers(1, MAX_INSTANCE))


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=5, unique_by=lambda row: row[4]))
def test_boxes_come_back_bit_for_bit(rows: list[tuple]) -> None:
    boxes = Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32),
        np.array([row[4] for row in rows], np.int64),
    )
    is_crowd = np.array([row[3] for row in rows], bool)
    store = ENCODER.typestore
    raw = bytes(store.serialize_cdr(ENCODER.encode_detections(boxes, HEADER, is_crowd=is_crowd), DETECTIONS))
    message = store.deserialize_cdr(raw, DETECTIONS)
    back = read_detections(message, CITYSCAPES_THINGS_8)
    for name in ('boxes_xyxy', 'class_ids', 'scores', 'ids'):
        np.testing.assert_array_equal(getattr(back, name), getattr(boxes, name))
    np.testing.assert_array_equal(read_is_crowd(message), is_crowd)


def one_box(**changes: object) -> object:
    boxes = Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([5], np.int64), np.array([0.5], np.float32))
    message = ENCODER.encode_detections(boxes, HEADER)
    for name, value in changes.items():
        target = message.detections[0].results[0].hypothesis if name == 'class_id' else message.detections[0]
        setattr(target, name, value)
    return message


def test_classes_are_ids_or_names() -> None:
    names = CITYSCAPES_THINGS_8.names
    for text in ('5', names[5]):
        assert read_detections(one_box(class_id=text), CITYSCAPES_THINGS_8).class_ids.tolist() == [5]


@pytest.mark.parametrize('class_id', ['8', '-1', '05', 'horse', '', '9' * 10_000])
def test_an_unknown_class_is_one_clear_line(class_id: str) -> None:
    with pytest.raises(DatasetError, match="is neither an id nor a name of 'cityscapes_things_8'") as caught:
        read_detections(one_box(class_id=class_id), CITYSCAPES_THINGS_8)
    assert len(str(caught.value)) < 200


def test_unusable_boxes_are_refused() -> None:
    with pytest.raises(DatasetError, match='got a box without results'):
        read_detections(one_box(results=[]), CITYSCAPES_THINGS_8)
    message = one_box()
    message.detections[0].bbox.size_x = float('nan')
    with pytest.raises(InputError, match='finite'):
        read_detections(message, CITYSCAPES_THINGS_8)


def numbered(texts: list[str]) -> tuple[list[int], list[bool]]:
    """Numbers of instances, and which are crowds, of boxes with these ids."""
    boxes = Detections(
        np.zeros((len(texts), 4), np.float32), np.zeros(len(texts), np.int64), np.zeros(len(texts), np.float32)
    )
    message = ENCODER.encode_detections(boxes, HEADER)
    for detection, text in zip(message.detections, texts, strict=True):
        detection.id = text
    return read_detections(message, CITYSCAPES_THINGS_8).ids.tolist(), read_is_crowd(message).tolist()


@pytest.mark.parametrize(
    ('texts', 'ids'),
    [
        (['7', '3'], [7, 3]),
        (['', '', ''], [1, 2, 3]),  # a detector that tracks nothing
        (['2', '', 'crowd'], [2, 1, 3]),
        (['crowd 2', 'car_17', '1'], [2, 3, 1]),
        (['5', '5', '05', '5'], [5, 1, 2, 3]),
        (['0', '65535', '65536', '-1', '1.0', ' 4', '٣', '9' * 5000], [1, 65535, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_an_id_is_the_number_of_an_instance(texts: list[str], ids: list[int]) -> None:
    assert numbered(texts) == (ids, [text.startswith('crowd') for text in texts])


IDS = st.integers(-1, 12).map(str) | st.integers(1, 5).map('crowd {}'.format) | st.text()


@settings(max_examples=60, deadline=None)
@given(st.lists(IDS, max_size=9))
def test_ids_of_any_text_are_different_numbers(texts: list[str]) -> None:
    ids, _ = numbered(texts)
    assert len(set(ids)) == len(texts)
    assert all(1 <= number <= MAX_INSTANCE for number in ids)
    plain = [text.removeprefix('crowd ') for text in texts]
    for place, (text, number) in enumerate(zip(plain, ids, strict=True)):
        is_number = text.isascii() and text.isdigit() and 0 < int(text) <= MAX_INSTANCE
        if is_number and int(text) not in ids[:place]:
            assert number == int(text)


def test_images_come_back() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    numbers = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1900
    images = [(rgb, 'rgb8'), (rgb[..., 0], 'mono8'), (rgb[:, ::-1], 'rgb8'), (numbers, '16UC1')]
    images += [(numbers[::2][:1, 1::2], '16UC1'), (numbers.astype('>u2'), '16UC1')]
    metres = (numbers / np.float32(7)).astype(np.float32)
    images += [(metres, '32FC1'), (metres[:, ::-1], '32FC1'), (metres.astype('>f4'), '32FC1')]
    for image, encoding in images:
        message = ENCODER.encode_image(image, encoding, HEADER)
        assert message.step * message.height == len(message.data) == image.nbytes
        back = view_image(message)
        np.testing.assert_array_equal(back, image)
        assert back.dtype == {'16UC1': np.uint16, '32FC1': np.float32}.get(encoding, np.uint8)
        if encoding == '16UC1':
            np.testing.assert_array_equal(decode_instances(message), image)
        if encoding == '32FC1':
            np.testing.assert_array_equal(decode_depth(message), image)
    message = ENCODER.encode_image(rgb, 'rgb8', HEADER)
    message.encoding = 'bgr8'
    with pytest.raises(DatasetError, match='bgr8'):
        view_image(message)
    smooth = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    jpeg = ENCODER.encode_jpeg(smooth, HEADER)
    assert jpeg.format == 'rgb8; jpeg compressed bgr8'
    assert np.abs(decode_image(jpeg).astype(int) - smooth).max() <= 3


def test_depth_that_is_not_known_is_zero() -> None:
    metres = np.array([[1.5, np.nan, np.inf], [-np.inf, -2, 0]], '>f4')
    message = ENCODER.encode_image(np.zeros((2, 3), np.float32), '32FC1', HEADER)
    padded = np.pad(metres.view(np.uint8), ((0, 0), (0, 4)), constant_values=66)
    message.step, message.is_bigendian, message.data = 16, 1, padded.reshape(-1)
    found = decode_depth(message)
    np.testing.assert_array_equal(found, [[1.5, 0, 0], [0, 0, 0]])
    assert found.dtype == np.float32
    message.encoding = '16UC1'
    with pytest.raises(InputError, match=r"depth\.encoding: expected 32FC1 with metres, got '16UC1'"):
        decode_depth(message)


def test_what_moves_comes_back() -> None:
    motion = np.array([[0, 1, 255], [1, 0, 255]], np.uint8)
    message = ENCODER.encode_motion(motion, HEADER)
    np.testing.assert_array_equal(view_image(message), [[0, 255, 128], [255, 0, 128]])
    np.testing.assert_array_equal(read_motion(message), motion)
    message.data = np.array([0, 1, 50, 170, 254, 255], np.uint8)
    np.testing.assert_array_equal(read_motion(message), [[0, 255, 255], [255, 255, 1]])
