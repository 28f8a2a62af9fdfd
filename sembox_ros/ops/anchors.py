"""Anchor boxes of the pyramid levels (EfficientDet, Tan et al. 2020; RetinaNet, Lin et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

ANCHOR_SCALE = 4.0
OCTAVE_SCALES = (1.0, 2.0 ** (1 / 3), 2.0 ** (2 / 3))
ASPECT_RATIOS_WH = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
ANCHORS_PER_CELL = len(OCTAVE_SCALES) * len(ASPECT_RATIOS_WH)


def create_anchors(
    size_hw: tuple[int, int],
    strides: tuple[int, ...] = (8, 16, 32, 64, 128),
    device: torch.device | str = 'cpu',
    *,
    anchor_scale: float = ANCHOR_SCALE,
) -> Tensor:
    """Anchors of all levels, in the order of the box head's outputs.

    Levels from fine to coarse; inside a level row by row; inside a cell scales outer, aspect ratios inner.
    The anchor of scale 1 and ratio 1 is a square of side anchor_scale x stride around the centre of its cell.

    Args:
        size_hw: height and width of the network's input, divisible by the largest stride.
        strides: pixels per cell of each level.
        device: where the result is made.
        anchor_scale: side of the smallest square anchor, in strides.

    Returns:
        (A, 4) float32 anchors_xyxy in pixels of the network's input.
    """
    height, width = size_hw
    sizes_wh = torch.tensor(
        [(w * scale, h * scale) for scale in OCTAVE_SCALES for w, h in ASPECT_RATIOS_WH], device=device
    )
    levels = []
    for stride in strides:
        y = (torch.arange(height // stride, device=device) + 0.5) * stride
        x = (torch.arange(width // stride, device=device) + 0.5) * stride
        center = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1)[:, :, None]  # (rows, columns, 1, 2)
        half = sizes_wh * (anchor_scale * stride / 2)  # (9, 2)
        levels.append(torch.cat((center - half, center + half), dim=-1).reshape(-1, 4))
    return torch.cat(levels)
