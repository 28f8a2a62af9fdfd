"""Optical flow as an input of the network: measured, resized with the image, in units that a network learns easily."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FLOW_UNITS = 32.0  # a motion by 1/32 of the canvas's height, fast for a frame of video, becomes 1
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


def resize_flow(flow: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Flow resized like the image that it belongs to, bilinear with antialiasing, in pixels of the new size.

    Args:
        flow: (2, H, W) float32 dx, dy in pixels.
        size_hw: the new height and width.

    Returns:
        (2, h, w) float32.
    """
    height, width = flow.shape[-2:]
    if size_hw == (height, width):
        return flow
    resized = F.interpolate(flow[None], size_hw, mode='bilinear', antialias=True)[0]
    return resized * torch.tensor((size_hw[1] / width, size_hw[0] / height), device=flow.device).view(2, 1, 1)


def normalise_flow(flow: Tensor, canvas_height: int) -> Tensor:
    """Flow as the network takes it.

    Args:
        flow: any shape, float32, in pixels of the canvas.
        canvas_height: of the configured input, pixels; trimmed canvases count as whole ones.
    """
    return flow * (FLOW_UNITS / canvas_height)
