"""Camera messages for tests: well-formed ones in every encoding, and the goldens that cv_bridge made."""

from __future__ import annotations

import array
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

from sembox_ros.decoding import decode_image
from sembox_ros.errors import InputError

GOLDENS = dict(np.load(Path(__file__).parent / 'goldens' / 'golden_conversions.npz'))
HEIGHT, WIDTH = (int(n) for n in GOLDENS['size_hw'])
RAW = sorted(k[5:] for k in GOLDENS if k.startswith('rgb8:') and not k.startswith('rgb8:compressed'))
DEEP = [e for e in RAW if e.endswith('16')]
BYTES_PER_PIXEL = {e: len(GOLDENS[f'in:{e}']) // (HEIGHT * WIDTH) for e in RAW}

_TYPES = get_typestore(Stores.LATEST).types
HEADER = _TYPES['std_msgs/msg/Header'](
    stamp=_TYPES['builtin_interfaces/msg/Time'](sec=-5, nanosec=999_999_999), frame_id='camera_ünïcode'
)


def raw_image(
    data: bytes | np.ndarray,
    encoding: str,
    *,
    size_hw: tuple[int, int] = (HEIGHT, WIDTH),
    step: int | None = None,
    is_bigendian: int = 0,
) -> Any:
    """As rosbags reads it."""
    height, width = size_hw
    return _TYPES['sensor_msgs/msg/Image'](
        header=HEADER,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=len(data) // height if step is None else step,
        data=as_array(data),
    )


def compressed(data: bytes | np.ndarray, declared: str = '') -> Any:
    """As rosbags reads it."""
    return _TYPES['sensor_msgs/msg/CompressedImage'](header=HEADER, format=declared, data=as_array(data))


def as_array(data: bytes | np.ndarray) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


def golden_image(encoding: str, padding: int = 0, *, big: bool = False, last_row_padded: bool = True) -> Any:
    rows = GOLDENS[f'in:{encoding}'].reshape(HEIGHT, -1)
    if big:
        rows = rows.view(np.uint16).byteswap().view(np.uint8)
    step = rows.shape[1] + padding
    padded = np.full((HEIGHT, step), 0xA5, np.uint8)
    padded[:, : rows.shape[1]] = rows
    data = padded.reshape(-1) if last_row_padded else padded.reshape(-1)[: padded.size - padding]
    return raw_image(data, encoding, step=step, is_bigendian=int(big))


def well_formed_image(encoding: str, size_hw: tuple[int, int], padding: int, is_bigendian: bool, seed: int) -> Any:
    """Random pixels in any encoding; both sides even."""
    height, width = size_hw
    aliases = {'uyvy': 2, 'yuyv': 2, '8UC1': 1, '8UC3': 3, '8UC4': 4}
    step = width * {**BYTES_PER_PIXEL, **aliases}.get(encoding, 1) + padding
    rows = {'nv12': height * 3 // 2, 'nv21': height * 3 // 2, 'nv24': height * 3}.get(encoding, height)
    data = np.random.default_rng(seed).integers(0, 256, step * rows, dtype=np.uint8)
    return raw_image(data, encoding, size_hw=size_hw, step=step, is_bigendian=int(is_bigendian))


def to_rclpy(message: Any) -> Any:
    """The same message as rclpy hands it over; needs ROS."""
    import sensor_msgs.msg
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    stamp = Time(sec=message.header.stamp.sec, nanosec=message.header.stamp.nanosec)
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__ if name != '__msgtype__'}
    fields['header'] = Header(stamp=stamp, frame_id=message.header.frame_id)
    fields['data'] = array.array('B', message.data.tobytes())
    return getattr(sensor_msgs.msg, type(message).__name__.rpartition('__')[2])(**fields)


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


def decode_or_refuse(message: Any) -> np.ndarray | None:
    try:
        image = decode_image(message, max_pixels=2**20)
    except InputError:
        return None
    assert_rgb(image, image.shape[:2])
    return image
