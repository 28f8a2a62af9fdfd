"""Depth, optical flow and motion in files: Cityscapes' disparity and camera, KITTI's flow, and a mask of our own.

Facts of the formats follow the readme of the public cityscapesScripts (a 16-bit value p is a disparity of (p - 1) / 256
pixels, and unknown where p is 0) and that of KITTI's development kit (16-bit values of 64 * flow + 32768, and a third
channel that is 1 where the flow is known).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.data.files import read_json_object
from sembox_ros.data.image_files import check_size, read_ids, read_vectors
from sembox_ros.errors import DatasetError
from sembox_ros.labels import IGNORE_ID

GEOMETRY_FILES = {'disparity': 'png', 'camera': 'json', 'flow': 'png', 'motion': 'png'}  # folder -> type

_DISPARITY_STEPS = 256.0  # per pixel
_FLOW_STEPS, _FLOW_ZERO = 64.0, 1 << 15
_LARGEST = np.iinfo(np.uint16).max
_MAX_FACTOR = 1e6  # of focal lengths in pixels and baselines in metres


def encode_disparity(depth: np.ndarray, focal_baseline: float) -> np.ndarray:
    """(H, W) uint16 disparities as Cityscapes stores them; 0 for what is unknown or too near for 16 bits.

    Args:
        depth: (H, W) float32 metres, 0 = unknown.
        focal_baseline: focal length in pixels times baseline in metres.
    """
    disparity = np.divide(focal_baseline, depth, out=np.zeros_like(depth), where=depth > 0)
    stored = np.rint(disparity * _DISPARITY_STEPS) + 1
    return np.where((depth > 0) & (stored <= _LARGEST), stored, 0).astype(np.uint16)


def decode_disparity(stored: np.ndarray, focal_baseline: float) -> np.ndarray:
    """(H, W) float32 metres of disparities as Cityscapes stores them; 0 where unknown or infinitely far.

    Args:
        stored: (H, W) uint16.
        focal_baseline: focal length in pixels times baseline in metres.
    """
    disparity = (stored.astype(np.float32) - 1) / np.float32(_DISPARITY_STEPS)
    return np.divide(np.float32(focal_baseline), disparity, out=np.zeros_like(disparity), where=stored > 1)


def encode_flow(flow: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint16 as KITTI stores flow: dx, dy, known; what does not fit 16 bits (512 pixels) is unknown.

    Args:
        flow: (H, W, 2) float32 dx, dy in pixels.
    """
    steps = np.rint(flow * _FLOW_STEPS) + _FLOW_ZERO
    known = ((steps >= 0) & (steps <= _LARGEST)).all(axis=-1, keepdims=True)
    return np.where(known, np.concatenate((steps, known), axis=-1), 0).astype(np.uint16)


def decode_flow(stored: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 dx, dy in pixels of flow as KITTI stores it, (H, W, 3) uint16; 0 where unknown."""
    flow = (stored[..., :2].astype(np.float32) - _FLOW_ZERO) / np.float32(_FLOW_STEPS)
    flow[stored[..., 2] == 0] = 0
    return flow


def camera_file(
    *, focal_px: float, principal_xy: tuple[float, float], baseline_m: float, height_m: float
) -> dict[str, Any]:
    """Content of a camera file of Cityscapes, for a camera in the middle of its vehicle that looks straight ahead."""
    return {
        'extrinsic': {
            'baseline': baseline_m, 'pitch': 0.0, 'roll': 0.0, 'x': 0.0, 'y': 0.0, 'yaw': 0.0, 'z': height_m,
        },
        'intrinsic': {'fx': focal_px, 'fy': focal_px, 'u0': principal_xy[0], 'v0': principal_xy[1]},
    }  # fmt: skip


def read_focal_baseline(path: Path, how_to_get: str) -> float:
    """Focal length in pixels times baseline in metres, of a camera file of Cityscapes.

    Raises:
        DatasetError: missing, damaged, or without a number above 0 for one of both.
    """
    content = read_json_object(path, how_to_get)
    factors = []
    for group, name in (('intrinsic', 'fx'), ('extrinsic', 'baseline')):
        values = content.get(group)
        value = values.get(name) if isinstance(values, dict) else None
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= _MAX_FACTOR:
            raise DatasetError(
                f'{path}: {group}.{name}: expected a number above 0, up to {_MAX_FACTOR:.0f}, got {value!r:.40}. '
                f'{how_to_get}'
            )
        factors.append(float(value))
    return factors[0] * factors[1]


def read_depth(path: Path, camera_path: Path, size_hw: tuple[int, ...], how_to_get: str) -> np.ndarray:
    """(H, W) float32 metres along the optical axis, 0 = unknown, of a disparity file and its camera file.

    Args:
        path: disparity, 16-bit PNG.
        camera_path: JSON.
        size_hw: height and width of the image that it belongs to.
        how_to_get: remedy for a missing or damaged camera file.

    Raises:
        DatasetError: a file is missing, damaged, or of another size or type.
    """
    stored = read_ids(path, np.uint16)
    check_size(path, stored.shape, size_hw)
    return decode_disparity(stored, read_focal_baseline(camera_path, how_to_get))


def read_flow(path: Path, size_hw: tuple[int, ...]) -> np.ndarray:
    """(H, W, 2) float32 dx, dy in pixels, 0 = unknown, of a 16-bit PNG in KITTI's encoding.

    Raises:
        DatasetError: the file is missing, damaged, or of another size or type.
    """
    stored = read_vectors(path)
    check_size(path, stored.shape[:2], size_hw)
    return decode_flow(stored)


def read_motion(path: Path, size_hw: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8, 1 = moves in the world, 0 = does not, 255 = ignored, of an 8-bit PNG of these values.

    Raises:
        DatasetError: the file is missing, damaged, of another size or type, or has other values.
    """
    motion = read_ids(path, np.uint8)
    check_size(path, motion.shape, size_hw)
    values = np.flatnonzero(np.bincount(motion.ravel(), minlength=256))
    others = sorted(set(values.tolist()) - {0, 1, IGNORE_ID})
    if others:
        raise DatasetError(f'{path}: expected values 0, 1 and {IGNORE_ID}, got {others[0]}')
    return motion
