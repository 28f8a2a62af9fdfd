"""Optical flow between the images of a camera, for networks that see it beside the image."""

from __future__ import annotations

import cv2
import numpy as np

MAX_AGE_S = 0.5  # of a previous image: what moved for longer has little to do with how it moves now
MIN_SIDE = 64  # OpenCV 5.0's DIS reads outside of its memory for images of 16 pixels and less


def measure_flow(current: np.ndarray, previous: np.ndarray | None, size_hw: tuple[int, int]) -> np.ndarray:
    """Where the points of an image were in the one before, minus where they are: dense inverse search (DIS, medium).

    Args:
        current: (H, W, 3) uint8 rgb.
        previous: the camera's image before it, (H, W, 3) uint8 rgb; of another size, it is of another camera or mode
            and counts as none.
        size_hw: at which the flow is wanted; both images are scaled to it first.

    Returns:
        (h, w, 2) float32 dx, dy in pixels of that size; zeros without a previous image.
    """
    height, width = size_hw
    if previous is None or previous.shape != current.shape:
        return np.zeros((height, width, 2), np.float32)
    below, beside = max(0, MIN_SIDE - height), max(0, MIN_SIDE - width)
    now, before = (
        cv2.copyMakeBorder(_scale(image, size_hw), 0, below, 0, beside, cv2.BORDER_REPLICATE)
        for image in (current, previous)
    )
    flow = np.zeros((*now.shape, 2), np.float32)
    cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(now, before, flow)
    return flow[:height, :width]


def _scale(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 rgb to (h, w) uint8 gray."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shrinks = size_hw[0] * size_hw[1] < gray.size
    return cv2.resize(gray, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class LastImages:
    """The last image of each camera, given out when the next one comes."""

    def __init__(self) -> None:
        self._images: dict[str, tuple[int, np.ndarray | None]] = {}

    def replace(self, camera: str, stamp_ns: int, image: np.ndarray | None) -> np.ndarray | None:
        """Remember an image of a camera; returns the one before it, None if that is not up to `MAX_AGE_S` older.

        Args:
            camera: its name.
            stamp_ns: when the image was taken, nanoseconds; the same stamp or an earlier one is a jump in time.
            image: (H, W, 3) uint8 rgb, kept as it is, not copied; None for one that cannot be used.
        """
        before = self._images.get(camera)
        self._images[camera] = (stamp_ns, image)
        return before[1] if before is not None and 0 < stamp_ns - before[0] <= MAX_AGE_S * 1e9 else None
