"""What is read from serialized messages without deserializing them."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from vision_msgs.msg import Detection2DArray

from sembox_ros.errors import DatasetError, InputError
from sembox_ros.ros.serialized import MessageLog, find_message_class, has_header, read_stamp_ns

SECONDS, NANOSECONDS = st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1)
FRAME_IDS = st.text(st.characters(exclude_categories=('Cs',), exclude_characters='\0'), max_size=20)


@given(st.sampled_from((Image, CompressedImage, Detection2DArray)), SECONDS, NANOSECONDS, FRAME_IDS)
def test_the_stamp_of_what_ros_serializes(kind: type, seconds: int, nanoseconds: int, frame_id: str):
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
    assert has_header(kind)
    assert read_stamp_ns(serialize_message(kind(header=header))) == seconds * 10**9 + nanoseconds


@given(st.booleans(), SECONDS, NANOSECONDS, FRAME_IDS)
def test_the_stamp_in_either_byte_order(little_endian: bool, seconds: int, nanoseconds: int, frame_id: str):
    store = get_typestore(Stores.LATEST)
    time = store.types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds)
    header = store.types['std_msgs/msg/Header'](stamp=time, frame_id=frame_id)
    message = store.types['diagnostic_msgs/msg/DiagnosticArray'](header=header, status=[])
    data = bytes(store.serialize_cdr(message, 'diagnostic_msgs/msg/DiagnosticArray', little_endian=little_endian))
    assert read_stamp_ns(data) == seconds * 10**9 + nanoseconds


@given(st.binary(max_size=11))
def test_what_is_too_short_has_no_stamp(data: bytes):
    with pytest.raises(InputError, match=f'at least 12 bytes with a header, got {len(data)}'):
        read_stamp_ns(data)


def test_messages_without_a_header_are_told_apart():
    assert has_header(DiagnosticArray)
    assert not has_header(String)
    assert not has_header(Header)  # its stamp is its own first field, not one of a header
    assert find_message_class('sensor_msgs/msg/Image') is Image
    assert find_message_class('sensor_msgs/msg/Nothing') is None
    assert find_message_class('nowhere/msg/Image') is None


def test_the_log_has_a_row_for_each_message_at_once(tmp_path: Path):
    path = tmp_path / 'log.csv'
    image = Image()
    image.header.stamp.sec = 3
    with MessageLog(path) as log:
        log.add('/a', Image, serialize_message(image), bag_ns=5, wall_ns=7)
        log.add('/b', String, serialize_message(String()), bag_ns=6, wall_ns=8)
        log.add('/a', Image, b'garbage', bag_ns=9, wall_ns=9)
        rows = path.read_text().splitlines()
    assert rows == ['topic,stamp_ns,bag_ns,wall_ns', '/a,3000000000,5,7', '/b,,6,8', '/a,,9,9']
    with pytest.raises(DatasetError, match='cannot be written'):
        MessageLog(tmp_path / 'nowhere' / 'log.csv')
