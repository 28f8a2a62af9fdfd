"""The messages that the node takes and publishes, made of and turned into arrays."""

from __future__ import annotations

import array
import re
from dataclasses import replace

import numpy as np
import pytest
from camera_messages import GOLDENS, HEIGHT, RAW, WIDTH, compressed, golden_image, to_rclpy, well_formed_image
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('vision_msgs', reason='needs the ROS message packages')

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from sembox_ros import decoding
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.labels import CITYSCAPES_20, CITYSCAPES_THINGS_8
from sembox_ros.replay.scene_messages import MessageEncoder
from sembox_ros.ros.conversions import decode_image, encode_detections, encode_image, encode_label_info
from sembox_ros.types import Detections

HEADER = Header(stamp=Time(sec=-5, nanosec=999_999_999), frame_id='camera_ünïcode')
RNG = np.random.default_rng(0)


# Messages that the node takes; test_decoding.py has what they may hold


def assert_close(image: np.ndarray, expected: np.ndarray) -> None:
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize('encoding', RAW)
def test_image_equals_cv_bridge(encoding: str) -> None:
    assert_close(decode_image(to_rclpy(golden_image(encoding))), GOLDENS[f'rgb8:{encoding}'])


@settings(max_examples=200, deadline=None)
@given(
    encoding=st.sampled_from([*decoding.PACKED, *decoding.SEMI_PLANAR]),
    size_hw=st.tuples(st.integers(2, 8), st.integers(2, 8)).map(lambda hw: (hw[0] * 2, hw[1] * 2)),
    padding=st.integers(0, 9),
    is_bigendian=st.booleans(),
)
def test_a_message_of_a_bag_gives_the_same_image(
    encoding: str, size_hw: tuple[int, int], padding: int, is_bigendian: bool
) -> None:
    message = well_formed_image(encoding, size_hw, padding, is_bigendian, seed=padding)
    from_bag = decoding.decode_image(message)
    np.testing.assert_array_equal(decoding.decode_image(to_rclpy(message)), from_bag)
    assert_close(decode_image(to_rclpy(message)), from_bag)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_a_compressed_message_of_a_bag_gives_the_same_image(kind: str) -> None:
    message = compressed(GOLDENS[f'in:compressed_{kind}'], kind)
    np.testing.assert_array_equal(decode_image(to_rclpy(message)), decoding.decode_image(message))
    assert_close(decode_image(to_rclpy(message)), GOLDENS[f'rgb8:compressed_{kind}'])


@pytest.mark.parametrize('encoding', [*decoding.PACKED, *decoding.SEMI_PLANAR])
def test_both_routes_agree(encoding: str) -> None:
    try:
        import cv_bridge.boost.cv_bridge_boost  # noqa: F401
        from cv_bridge import CvBridge
        from rosbags.image import message_to_cvimage
    except (ImportError, AttributeError):
        pytest.skip('needs both cv_bridge and rosbags-image')
    message = to_rclpy(well_formed_image(encoding, (HEIGHT, WIDTH), padding=6, is_bigendian=True, seed=1))
    first, second = (
        decoding.decode_image(message, convert=route) for route in (CvBridge().imgmsg_to_cv2, message_to_cvimage)
    )
    assert_close(first, second)


def test_tight_rgb8_is_a_writable_view() -> None:
    message = to_rclpy(golden_image('rgb8'))
    image = decode_image(message)
    assert np.shares_memory(image, np.frombuffer(message.data, np.uint8))
    assert image.flags.writeable


def test_other_messages_are_refused() -> None:
    with pytest.raises(InputError, match='expected sensor_msgs Image or CompressedImage, got Header'):
        decode_image(HEADER)


# Messages that the node publishes


@pytest.mark.parametrize(
    ('encoding', 'shape', 'dtype'),
    [
        ('mono8', (5, 7), 'uint8'), ('rgb8', (5, 7, 3), 'uint8'), ('16UC1', (5, 7), 'uint16'),
        ('32FC1', (5, 7), 'float32'),
    ],
)
@pytest.mark.parametrize('layout', ['plain', 'transposed', 'flipped', 'big-endian'])
def test_encode_image(encoding: str, shape: tuple[int, ...], dtype: str, layout: str) -> None:
    largest = 256 ** min(2, np.dtype(dtype).itemsize)
    image = RNG.integers(0, largest, shape).astype('>u2' if layout == 'big-endian' else dtype)
    image = {'transposed': image.swapaxes(0, 1), 'flipped': image[:, ::-1]}.get(layout, image)
    if layout == 'big-endian':
        image = image.astype(dtype)
    message = encode_image(image, encoding, HEADER)
    assert message.header is HEADER
    assert (message.height, message.width, message.encoding, message.is_bigendian) == (*image.shape[:2], encoding, 0)
    assert message.step == image.shape[1] * image.itemsize * (3 if encoding == 'rgb8' else 1)
    assert isinstance(message.data, array.array)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.dtype(dtype).newbyteorder('<')), image.reshape(-1))
    if encoding in ('mono8', 'rgb8'):
        decoded = decode_image(message)
        np.testing.assert_array_equal(decoded if encoding == 'rgb8' else decoded[..., 0], image)


@pytest.mark.parametrize(
    ('image', 'encoding'),
    [
        (np.zeros((2, 2), np.int32), '16UC1'),
        (np.zeros((2, 2), np.float64), '32FC1'),
        (np.zeros((2, 2, 3), np.uint8), 'mono8'),
        (np.zeros((2, 2, 4), np.uint8), 'rgb8'),
        (np.zeros((0, 2), np.uint8), 'mono8'),
        (np.zeros((2, 2, 3), np.uint8), 'bgr8'),
    ],
)
def test_encode_image_refuses_what_does_not_fit(image: np.ndarray, encoding: str) -> None:
    with pytest.raises(InputError, match=r'image: expected \(H, W.*got|encoding: expected one of'):
        encode_image(image, encoding, HEADER)


@pytest.fixture
def detections() -> Detections:
    return Detections(
        boxes_xyxy=np.array([[10, 20, 110, 60], [0.1, 0.2, 0.1, 2047.7]], np.float32),
        class_ids=np.array([7, 0], np.int64),
        scores=np.array([0.9, 0.25], np.float32),
        ids=np.array([65535, 3], np.int64),
    )


def test_encode_detections(detections: Detections) -> None:
    message = encode_detections(detections, CITYSCAPES_THINGS_8, HEADER)
    assert message.header is HEADER
    assert len(message.detections) == 2
    for i, detection in enumerate(message.detections):
        assert detection.header is HEADER
        assert detection.id == ('65535', '3')[i]
        x0, y0, x1, y1 = detections.boxes_xyxy[i].astype(np.float64).tolist()
        center = detection.bbox.center
        assert (center.position.x, center.position.y, center.theta) == ((x0 + x1) / 2, (y0 + y1) / 2, 0.0)
        assert (detection.bbox.size_x, detection.bbox.size_y) == (x1 - x0, y1 - y0)
        (result,) = detection.results
        assert result.hypothesis.class_id == str(detections.class_ids[i])
        assert result.hypothesis.score == float(detections.scores[i])
        assert result.pose.pose.orientation.w == 1.0
        assert not result.pose.covariance.any()


def test_encode_detections_with_names(detections: Detections) -> None:
    message = encode_detections(detections, CITYSCAPES_THINGS_8, HEADER, class_id_format='name')
    assert [d.results[0].hypothesis.class_id for d in message.detections] == ['bicycle', 'person']


def test_encode_no_detections() -> None:
    message = encode_detections(Detections.empty(), CITYSCAPES_THINGS_8, HEADER)
    assert message.header is HEADER
    assert message.detections == []


def test_encode_detections_refuses_what_does_not_fit(detections: Detections) -> None:
    foreign = replace(detections, class_ids=np.array([8, 0], np.int64))
    with pytest.raises(InputError, match=re.escape("expected 0..7 of label set 'cityscapes_things_8', got 0..8")):
        encode_detections(foreign, CITYSCAPES_THINGS_8, HEADER)
    with pytest.raises(ConfigError, match='class_id_format'):
        encode_detections(detections, CITYSCAPES_THINGS_8, HEADER, class_id_format='both')


def test_encode_label_info() -> None:
    message = encode_label_info(CITYSCAPES_20, HEADER, threshold=0.5)
    assert message.header is HEADER
    assert message.threshold == 0.5
    assert [(c.class_id, c.class_name) for c in message.class_map] == list(enumerate(CITYSCAPES_20.names))


# The same messages in a bag that the offline replay writes


def fields_of(message: object) -> object:
    """Nested dicts of a message of rclpy or of rosbags."""
    if hasattr(message, 'get_fields_and_field_types'):
        return {name: fields_of(getattr(message, name)) for name in message.get_fields_and_field_types()}
    if hasattr(message, '__dataclass_fields__'):
        names = [name for name in message.__dataclass_fields__ if name != '__msgtype__']
        return {name: fields_of(getattr(message, name)) for name in names}
    if isinstance(message, (array.array, np.ndarray, list, tuple)):
        return [fields_of(item) for item in message]
    return message.item() if isinstance(message, np.generic) else message


def test_the_replay_writes_what_the_node_publishes(detections: Detections) -> None:
    encoder = MessageEncoder()
    header = encoder.copy_header(HEADER)
    rgb = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pairs = (
        (encoder.encode_image(rgb, 'rgb8', header), encode_image(rgb, 'rgb8', HEADER)),
        (encoder.encode_image(rgb[..., 1], 'mono8', header), encode_image(rgb[..., 1], 'mono8', HEADER)),
        (encoder.encode_detections(detections, header), encode_detections(detections, CITYSCAPES_THINGS_8, HEADER)),
        (
            encoder.encode_label_info(CITYSCAPES_20, header, threshold=0.3),
            encode_label_info(CITYSCAPES_20, HEADER, threshold=0.3),
        ),
    )
    for written, published in pairs:
        assert fields_of(written) == fields_of(published)
        kind = type(written).__name__.replace('__', '/')
        raw = encoder.typestore.serialize_cdr(written, kind)
        assert fields_of(deserialize_message(bytes(raw), type(published))) == fields_of(
            deserialize_message(serialize_message(published), type(published))
        )
