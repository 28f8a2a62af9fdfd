"""Optical flow as an input of the network: resized with the image, in units that a network learns easily."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FLOW_UNITS = 32.0  # a motion by 1/32 of the canvas's height, fast for a frame of video, becomes 1


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
