from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.decoding import decode_image
from sembox_ros.errors import DatasetError, InputError
from sembox_ros.labels import CITYSCAPES_THINGS_8
from sembox_ros.replay.scene_messages import DETECTIONS, MessageEncoder, read_detections, read_is_crowd, view_image
from sembox_ros.types import Detections

ENCODER = MessageEncoder()
HEADER = ENCODER.make_header(-1, 'left')

# From 1/100,000 px on, centre and size in float64 hold both float32 corners.
COORDINATES = st.just(0.0) | st.floats(2.0**-16, 8192, width=32)
BOXES = st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
ROWS = st.tuples(BOXES, st.integers(0, 7), st.floats(0, 1, width=32), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=5))
def test_boxes_come_back_bit_for_bit(rows: list[tuple]) -> None:
    boxes = Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32),
    )
    is_crowd = np.array([row[3] for row in rows], bool)
    store = ENCODER.typestore
    raw = bytes(store.serialize_cdr(ENCODER.encode_detections(boxes, HEADER, is_crowd=is_crowd), DETECTIONS))
    message = store.deserialize_cdr(raw, DETECTIONS)
    back = read_detections(message, CITYSCAPES_THINGS_8)
    for name in ('boxes_xyxy', 'class_ids', 'scores'):
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


def test_images_come_back() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for image, encoding in ((rgb, 'rgb8'), (rgb[..., 0], 'mono8'), (rgb[:, ::-1], 'rgb8')):
        message = ENCODER.encode_image(image, encoding, HEADER)
        np.testing.assert_array_equal(view_image(message), image)
    message.encoding = 'bgr8'
    with pytest.raises(DatasetError, match='bgr8'):
        view_image(message)
    smooth = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    jpeg = ENCODER.encode_jpeg(smooth, HEADER)
    assert jpeg.format == 'rgb8; jpeg compressed bgr8'
    assert np.abs(decode_image(jpeg).astype(int) - smooth).max() <= 3
