"""Box arithmetic; every box is xyxy in pixels unless its name says otherwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# exp() of a size regression is capped here, so that a wild output gives a large box and not infinity
# (the cap of the R-CNN implementations: 1000 pixels from a 16 pixel anchor).
MAX_LOG_SCALE = math.log(1000.0 / 16)


def decode_boxes(regression: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Boxes from regressions against anchors (R-CNN, Girshick et al. 2014, eq. 1 to 4).

    Args:
        regression: (..., 4) dx, dy, dw, dh; offsets in anchor sizes, sizes in log scale.
        anchors_xyxy: (..., 4) broadcastable to it, in pixels.

    Returns:
        (..., 4) boxes_xyxy in pixels, in the dtype of `anchors_xyxy`.
    """
    dx, dy, dw, dh = regression.to(anchors_xyxy.dtype).unbind(-1)
    x0, y0, x1, y1 = anchors_xyxy.unbind(-1)
    width, height = x1 - x0, y1 - y0
    center_x = dx * width + (x0 + x1) / 2
    center_y = dy * height + (y0 + y1) / 2
    half_w = dw.clamp(max=MAX_LOG_SCALE).exp() * width / 2
    half_h = dh.clamp(max=MAX_LOG_SCALE).exp() * height / 2
    return torch.stack((center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h), dim=-1)


def encode_boxes(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Inverse of `decode_boxes` for boxes of positive size: (..., 4) dx, dy, dw, dh."""
    ax0, ay0, ax1, ay1 = anchors_xyxy.unbind(-1)
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    aw, ah = ax1 - ax0, ay1 - ay0
    return torch.stack(
        (
            ((x0 + x1) - (ax0 + ax1)) / (2 * aw),
            ((y0 + y1) - (ay0 + ay1)) / (2 * ah),
            ((x1 - x0) / aw).log(),
            ((y1 - y0) / ah).log(),
        ),
        dim=-1,
    )


def clip_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Boxes cut at the image border: x in 0..width, y in 0..height."""
    height, width = size_hw
    limits = boxes_xyxy.new_tensor((width, height, width, height))
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)
