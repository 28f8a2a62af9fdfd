"""Camera messages to rgb arrays: those of a running ROS and those read from a bag without any.

Colour conversion itself is left to rosbags-image, or to cv_bridge where `ros/conversions.py` found it. Everything that
either of them gets wrong (padded rows, big-endian data on NumPy 2, lengths that do not add up, sizes that no memory
holds, truncated JPEGs) is settled here before they are called, so that both see the same tight native data.
"""

from __future__ import annotations

import difflib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from sembox_ros.errors import InputError

Converter = Callable[[Any, str], np.ndarray]
"""(image message, target encoding) -> array, as in cv_bridge and rosbags-image."""

MAX_PIXELS = 2**26
"""Default limit of height x width: 8192 x 8192, far above any camera, 201 MB as rgb8."""

_PAGE_BYTES = 4096  # drivers hand over whole memory pages, so the last one may end in left-over bytes
_JPEG_SCAN, _JPEG_END = b'\xff\xda', b'\xff\xd9'


class PixelFormat(NamedTuple):
    """How one pixel of a packed `sensor_msgs/Image` encoding is stored.

    Attributes:
        known_as: name of the same layout in both cv_bridge and rosbags-image.
        dtype: one sample, uint8 or uint16.
        channels: samples per pixel.
        even_width: two neighbouring pixels share their colour.
        min_side: OpenCV's demosaicing answers plain black below this height or width.
    """

    known_as: str
    dtype: type[np.unsignedinteger[Any]]
    channels: int
    even_width: bool = False
    min_side: int = 1


class SemiPlanarFormat(NamedTuple):
    """A plane of luma followed by one plane of interleaved chroma pairs.

    Attributes:
        subsampling: luma columns, and luma rows, per chroma pair.
        chroma_order: slice that turns a stored pair into (u, v).
    """

    subsampling: int
    chroma_order: slice


_AS_STORED, _SWAPPED = slice(None), slice(None, None, -1)

PACKED: dict[str, PixelFormat] = {
    'mono8': PixelFormat('mono8', np.uint8, 1),
    'mono16': PixelFormat('mono16', np.uint16, 1),
    'rgb8': PixelFormat('rgb8', np.uint8, 3),
    'bgr8': PixelFormat('bgr8', np.uint8, 3),
    'rgba8': PixelFormat('rgba8', np.uint8, 4),
    'bgra8': PixelFormat('bgra8', np.uint8, 4),
    'rgb16': PixelFormat('rgb16', np.uint16, 3),
    'bgr16': PixelFormat('bgr16', np.uint16, 3),
    'rgba16': PixelFormat('rgba16', np.uint16, 4),
    'bgra16': PixelFormat('bgra16', np.uint16, 4),
    'bayer_rggb8': PixelFormat('bayer_rggb8', np.uint8, 1, min_side=3),
    'bayer_bggr8': PixelFormat('bayer_bggr8', np.uint8, 1, min_side=3),
    'bayer_gbrg8': PixelFormat('bayer_gbrg8', np.uint8, 1, min_side=3),
    'bayer_grbg8': PixelFormat('bayer_grbg8', np.uint8, 1, min_side=3),
    'bayer_rggb16': PixelFormat('bayer_rggb16', np.uint16, 1, min_side=3),
    'bayer_bggr16': PixelFormat('bayer_bggr16', np.uint16, 1, min_side=3),
    'bayer_gbrg16': PixelFormat('bayer_gbrg16', np.uint16, 1, min_side=3),
    'bayer_grbg16': PixelFormat('bayer_grbg16', np.uint16, 1, min_side=3),
    'yuv422': PixelFormat('yuv422', np.uint8, 2, even_width=True),
    'uyvy': PixelFormat('yuv422', np.uint8, 2, even_width=True),
    'yuv422_yuy2': PixelFormat('yuv422_yuy2', np.uint8, 2, even_width=True),
    'yuyv': PixelFormat('yuv422_yuy2', np.uint8, 2, even_width=True),
    # Plain matrix types say nothing of colour; these are what OpenCV users mean by them.
    '8UC1': PixelFormat('mono8', np.uint8, 1),
    '8UC3': PixelFormat('bgr8', np.uint8, 3),
    '8UC4': PixelFormat('bgra8', np.uint8, 4),
}
GUESSED = frozenset({'8UC1', '8UC3', '8UC4'})

SEMI_PLANAR: dict[str, SemiPlanarFormat] = {
    'nv12': SemiPlanarFormat(2, _AS_STORED),
    'nv21': SemiPlanarFormat(2, _SWAPPED),
    'nv24': SemiPlanarFormat(1, _AS_STORED),
}

DEPTH = frozenset({'16UC1', '32FC1'})
DEPTH_ENCODING = '32FC1'  # in metres
INSTANCE_ENCODINGS = frozenset({'16UC1', 'mono16'})

# By signature, so that Pillow (which reads the size) and OpenCV (which decodes) agree on what the file is.
_HEADER_READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b'\xff\xd8\xff': JpegImagePlugin.JpegImageFile,
    b'\x89PNG\r\n\x1a\n': PngImagePlugin.PngImageFile,
    b'RIFF': WebPImagePlugin.WebPImageFile,
    b'BM': BmpImagePlugin.BmpImageFile,
}


@dataclass(frozen=True)
class _TightImage:
    """The fields of `sensor_msgs/Image` that the converters read, around data that needs no copy into a message."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: np.ndarray


def convert_with_rosbags(image: Any, encoding: str) -> np.ndarray:
    """rosbags-image's conversion of colours."""
    from rosbags.image import message_to_cvimage  # not above: a node that has cv_bridge runs without rosbags

    return message_to_cvimage(image, encoding)


def decode_image(
    msg: Any,
    *,
    max_pixels: int = MAX_PIXELS,
    warn: Callable[[str], None] | None = None,
    convert: Converter = convert_with_rosbags,
) -> np.ndarray:
    """Turn a camera message into an rgb image.

    Args:
        msg: `sensor_msgs/Image` in any encoding of `PACKED` or `SEMI_PLANAR`, or `CompressedImage` that holds a jpeg,
            png, webp or bmp; of rclpy (data in an `array.array`) or of rosbags (data in a numpy array).
        max_pixels: largest height x width that is accepted; checked before anything is allocated.
        warn: called when colours had to be guessed (8UC1, 8UC3, 8UC4), at every such message but with one constant
            text per encoding, so that the caller can log it once.
        convert: what converts colours; every one gives the same image up to rounding.

    Returns:
        (H, W, 3) uint8 rgb, C-contiguous. For rgb8 without padding it is a view of `msg.data` (no copy; the view keeps
        it alive), which rosbags makes read-only; for everything else it is fresh memory.
        `height` of the semi-planar encodings counts luma rows. 16-bit samples are scaled by 255 / 65535. The EXIF
        orientation of a jpeg is ignored, so that the pixels stay those that the camera calibration is about.

    Raises:
        InputError: the message cannot be used; the text names the field, what was expected and what came.
    """
    kind = type(msg).__name__.rpartition('__')[2]  # rosbags' classes are called sensor_msgs__msg__Image
    if kind == 'CompressedImage':
        return _decode_compressed(msg, max_pixels, convert)
    if kind != 'Image':
        raise InputError(f'msg: expected sensor_msgs Image or CompressedImage, got {type(msg).__name__}')
    encoding = msg.encoding
    if encoding not in PACKED and encoding not in SEMI_PLANAR:
        raise InputError(_unusable_encoding('image.encoding', encoding))
    _check_size('image', msg.height, msg.width, max_pixels)
    if encoding in SEMI_PLANAR:
        return _decode_semi_planar(msg, SEMI_PLANAR[encoding], convert)
    if warn is not None and encoding in GUESSED:
        warn(
            f"image.encoding: '{encoding}' does not say what its channels are, taken as '{PACKED[encoding].known_as}'; "
            f'publish an encoding such as rgb8, bgr8 or mono8'
        )
    return _decode_packed(msg, PACKED[encoding], convert)


def decode_mask(msg: Any, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Take the class ids out of a `sensor_msgs/Image`, which are numbers and no colours.

    Args:
        msg: an image of encoding mono8 or 8UC1.
        max_pixels: largest height x width that is accepted.

    Returns:
        (H, W) uint8; a view of `msg.data` if its rows are not padded.

    Raises:
        InputError: another encoding, or data that does not fit.
    """
    if msg.encoding not in ('mono8', '8UC1'):
        raise InputError(f"mask.encoding: expected mono8 with class ids, got '{msg.encoding[:40]}'")
    return _plane_rows(msg, 'mask', msg.width, max_pixels)


def decode_instances(msg: Any, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Take the numbers of instances out of a `sensor_msgs/Image`.

    Args:
        msg: an image of encoding 16UC1 or mono16, of either byte order.
        max_pixels: largest height x width that is accepted.

    Returns:
        (H, W) uint16; a view of `msg.data` if its rows are not padded and its bytes are in this machine's order.

    Raises:
        InputError: another encoding, or data that does not fit.
    """
    if msg.encoding not in INSTANCE_ENCODINGS:
        raise InputError(f"instances.encoding: expected 16UC1 with numbers, got '{msg.encoding[:40]}'")
    rows = _plane_rows(msg, 'instances', 2 * msg.width, max_pixels)
    return rows.view('>u2' if msg.is_bigendian else '<u2').astype(np.uint16, copy=False)


def decode_depth(msg: Any, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Take the metres out of a `sensor_msgs/Image` of depth, REP 118's floating-point form.

    Args:
        msg: an image of encoding 32FC1, of either byte order; NaN, infinity and what is not above 0 are unknown.
        max_pixels: largest height x width that is accepted.

    Returns:
        (H, W) float32, 0 = unknown; fresh memory.

    Raises:
        InputError: another encoding, or data that does not fit.
    """
    if msg.encoding != DEPTH_ENCODING:
        raise InputError(f"depth.encoding: expected {DEPTH_ENCODING} with metres, got '{msg.encoding[:40]}'")
    rows = _plane_rows(msg, 'depth', 4 * msg.width, max_pixels)
    metres = rows.view('>f4' if msg.is_bigendian else '<f4').astype(np.float32)
    metres[~(np.isfinite(metres) & (metres > 0))] = 0
    return metres


def _plane_rows(msg: Any, field: str, row_bytes: int, max_pixels: int) -> np.ndarray:
    """The rows of an image with one number per pixel: (H, `row_bytes`) uint8."""
    _check_size(field, msg.height, msg.width, max_pixels)
    data = _checked_bytes(msg, row_bytes, msg.step * (msg.height - 1) + row_bytes, msg.step)
    return _tight_rows(data, msg.height, row_bytes, msg.step)


def _unusable_encoding(field: str, encoding: str) -> str:
    shown = repr(encoding[:40])  # the text comes from outside and has no limit
    if encoding in DEPTH:
        return f'{field}: expected a colour or grey image, got {shown}, which is usually depth; publish grey as mono16'
    known = [*PACKED, *SEMI_PLANAR]
    close = difflib.get_close_matches(encoding[:40].lower(), known, n=3)
    hint = f'did you mean {" or ".join(close)}? ' if close else ''
    return f'{field}: {shown} is not supported; {hint}expected one of: {", ".join(known)}'


def _check_size(field: str, height: int, width: int, max_pixels: int) -> None:
    if height <= 0 or width <= 0:
        raise InputError(f'{field}: expected height and width above 0, got {height} x {width}')
    if height * width > max_pixels:
        raise InputError(f'{field}: expected at most {max_pixels} pixels, got {height} x {width}; raise max_pixels')


def _checked_bytes(msg: Any, row_bytes: int, needed: int, last_step: int) -> np.ndarray:
    """`msg.data` as (L,) uint8 once `step` and the length are known to hold the image.

    The last row may lack its padding. Bytes beyond the image are ignored if they are less than one row or fill up the
    last memory page; more than that means that height, step or encoding are wrong.

    Args:
        msg: the message.
        row_bytes: least `step`.
        needed: least length, without the padding of the last row.
        last_step: bytes from the start of the last row to where a further one would start.
    """
    if msg.step < row_bytes:
        raise InputError(f'image.step: expected at least {row_bytes} for {msg.width} x {msg.encoding}, got {msg.step}')
    got = len(msg.data)
    if got < needed:
        raise InputError(
            f'image.data: expected {needed} bytes for {msg.height} rows of step {msg.step} ({msg.encoding}), got {got}'
        )
    surplus = got - needed
    if surplus >= last_step and (got % _PAGE_BYTES or surplus >= _PAGE_BYTES):
        raise InputError(
            f'image.data: expected {needed} bytes for {msg.height} rows of step {msg.step} ({msg.encoding}), '
            f'got {got}; height, step or encoding do not describe this data'
        )
    return np.frombuffer(msg.data, np.uint8)


def _tight_rows(data: np.ndarray, rows: int, row_bytes: int, step: int) -> np.ndarray:
    """Take the first `row_bytes` of each of `rows` rows that are `step` bytes apart.

    Args:
        data: (L,) uint8, L at least `step * (rows - 1) + row_bytes`.

    Returns:
        (rows, row_bytes) uint8, C-contiguous; a view if there is no padding.
    """
    if step == row_bytes:
        return data[: rows * row_bytes].reshape(rows, row_bytes)
    last = step * (rows - 1)
    tight = np.empty((rows, row_bytes), np.uint8)
    tight[:-1] = data[:last].reshape(rows - 1, step)[:, :row_bytes]
    tight[-1] = data[last : last + row_bytes]  # on its own, because its padding may be missing
    return tight


def _decode_packed(msg: Any, fmt: PixelFormat, convert: Converter) -> np.ndarray:
    if fmt.even_width and msg.width % 2:
        raise InputError(f'image.width: expected an even number for {msg.encoding}, got {msg.width}')
    row_bytes = msg.width * fmt.channels * np.dtype(fmt.dtype).itemsize
    data = _checked_bytes(msg, row_bytes, msg.step * (msg.height - 1) + row_bytes, msg.step)
    samples = _tight_rows(data, msg.height, row_bytes, msg.step)
    if fmt.dtype == np.uint16:
        # Swapped here, because cv_bridge's own way ends in ndarray.newbyteorder, which NumPy 2 removed.
        samples = samples.view('>u2' if msg.is_bigendian else '<u2').astype(np.uint16, copy=False)
    return _to_rgb(samples.reshape(msg.height, msg.width, fmt.channels), fmt.known_as, convert)


def _decode_semi_planar(msg: Any, fmt: SemiPlanarFormat, convert: Converter) -> np.ndarray:
    """Repack as uyvy, which both converters know; its BT.601 arithmetic is that of OpenCV's own nv12 and nv21."""
    height, width, every = msg.height, msg.width, fmt.subsampling
    if height % every or width % every:
        raise InputError(f'image: expected even height and width for {msg.encoding}, got {height} x {width}')
    # A chroma row holds width / every pairs; V4L2 pads it in the same proportion as a luma row.
    rows, row_bytes, step = height // every, width // every * 2, msg.step * 2 // every
    data = _checked_bytes(msg, width, msg.step * height + step * (rows - 1) + row_bytes, step)
    luma = _tight_rows(data, height, width, msg.step)
    chroma = _tight_rows(data[msg.step * height :], rows, row_bytes, step).reshape(rows, -1, 2)
    packed = np.empty((height, width // every, 4), np.uint8)  # u y v y
    packed[..., 0::2] = np.repeat(chroma[..., fmt.chroma_order], every, axis=0)
    packed[..., 1::2] = luma.reshape(height, -1, every)  # 4:4:4 has one luma per pair, and gets it twice
    rgb = _to_rgb(packed.reshape(height, -1, 2), 'yuv422', convert)
    return np.ascontiguousarray(rgb[:, :: 2 // every])


def _to_rgb(pixels: np.ndarray, encoding: str, convert: Converter) -> np.ndarray:
    """Convert (H, W, C) C-contiguous native uint8 or uint16 pixels to (H, W, 3) uint8 rgb.

    Raises:
        InputError: too small to demosaic, or the converter refused for a reason that was not foreseen here.
    """
    if encoding == 'rgb8':
        return pixels
    height, width = pixels.shape[:2]
    smallest = PACKED[encoding].min_side
    if min(height, width) < smallest:
        raise InputError(f'image: expected at least {smallest} x {smallest} for {encoding}, got {height} x {width}')
    deep = pixels.dtype == np.uint16
    data = pixels.reshape(-1).view(np.uint8)
    image = _TightImage(height, width, encoding, int(sys.byteorder == 'big'), data.size // height, data)
    try:
        rgb = convert(image, 'rgb16' if deep else 'rgb8')
    except (cv2.error, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f'image: {height} x {width} {encoding} could not be converted to rgb8: {error}') from error
    # cv_bridge rounds and rosbags-image truncates when it narrows, so both stay at 16 bits and OpenCV rounds.
    return cv2.convertScaleAbs(rgb, alpha=255 / 65535) if deep else np.ascontiguousarray(rgb)


def _decode_compressed(msg: Any, max_pixels: int, convert: Converter) -> np.ndarray:
    """Decode as cv_bridge does: the file itself tells its colours, `format` only what must not be taken for colours."""
    source, _, packing = (part.strip() for part in msg.format.partition(';'))
    if 'compressedDepth' in msg.format:
        raise InputError(f'compressed image.format: expected a colour or grey image, got depth, {msg.format[:60]!r}')
    if source in DEPTH:
        raise InputError(_unusable_encoding('compressed image.format', source))
    data = bytes(msg.data)
    height, width = _announced_size(data, msg.format)
    _check_size('compressed image', height, width, max_pixels)
    if data.startswith(b'\xff\xd8') and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        # OpenCV 4.6 (Ubuntu 24.04) fills the missing part of a truncated jpeg with grey and says nothing.
        raise InputError('compressed image.data: the jpeg is truncated, its end marker is missing')
    try:
        # IMREAD_UNCHANGED is cv_bridge's choice; it also keeps the EXIF orientation out.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        raise InputError(f'compressed image.data: {len(data)} bytes could not be decoded: {error}') from error
    if pixels is None:
        raise InputError(f'compressed image.data: {len(data)} bytes could not be decoded, truncated or corrupt')
    pixels = np.atleast_3d(pixels)
    name = {1: 'mono', 3: 'bgr', 4: 'bgra'}.get(pixels.shape[2])
    if name is None or pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[:2] != (height, width):
        raise InputError(
            f'compressed image.data: expected {height} x {width} pixels of 8 or 16 bits, grey, colour or with alpha, '
            f'decoded {pixels.shape} {pixels.dtype}'
        )
    if name == 'mono' and source.startswith('bayer_') and packing == 'png compressed':
        # compressed_image_transport stores Bayer as it is in png, and says so by naming no target encoding.
        name = source.rstrip('0123456789')
    encoding = f'{name}{pixels.dtype.itemsize * 8}'
    if encoding not in PACKED:
        raise InputError(_unusable_encoding('compressed image.format', source))
    return _to_rgb(np.ascontiguousarray(pixels), encoding, convert)


def _announced_size(data: bytes, declared: str) -> tuple[int, int]:
    """Height and width in the header of an image file, without decoding it.

    Raises:
        InputError: no supported signature, or a broken header.
    """
    if not data:
        raise InputError('compressed image.data: expected an image file, got no bytes')
    reader = next((cls for signature, cls in _HEADER_READERS.items() if data.startswith(signature)), None)
    if reader is None:
        raise InputError(
            f'compressed image.data: expected a jpeg, png, webp or bmp file, got {len(data)} bytes that start with '
            f'{data[:8].hex()} (format {declared[:60]!r})'
        )
    try:
        with reader(io.BytesIO(data)) as file:
            width, height = file.size
    except Exception as error:  # a parser of hostile bytes may raise anything, and one bad frame must not end a node
        raise InputError(f'compressed image.data: the header of {len(data)} bytes is broken: {error}') from error
    return height, width
