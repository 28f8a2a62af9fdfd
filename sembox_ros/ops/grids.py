"""Grids of the instance head: which cell stands for what, and what its kernel makes of the mask features.

SOLOv2 (Wang et al. 2020) lays a grid over the image for each pyramid level; the object whose centre falls into a cell
is that cell's. Two things differ from the paper. A grid may have more columns than rows, as wide images need. And a
kernel also sees where a pixel lies relative to its cell, as in CondInst (Tian et al. 2020, section 3.1), and the square
of that: absolute coordinates alone take very long to learn to tell one object from its equals elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Least and largest size of a level's objects, square root of the box's area over that of the canvas: SOLOv2's
# ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)) at its 1333 x 800 pixels.
SCALE_RANGES = ((0.0, 0.093), (0.046, 0.186), (0.093, 0.372), (0.186, 0.744), (0.372, float('inf')))
REACHES = (0.093, 0.186, 0.372, 0.744, 1.488)  # unit of length of each level's kernels

POSITION_WEIGHTS = 5  # the last values of a kernel: of dx, dy, dx^2, dy^2, and a constant
MASK_STRIDE = 4  # of the mask features


class Grids(NamedTuple):
    """The cells of all levels, in the order of the instance head's outputs.

    Attributes:
        centers_xy: (G, 2) float32 in pixels of the canvas.
        reach: (G,) float32 unit of length of the cell's level, in pixels of the canvas.
        shapes: rows and columns of each level's grid; G is the sum of their products.
        canvas_hw: size of the canvas.
    """

    centers_xy: Tensor
    reach: Tensor
    shapes: tuple[tuple[int, int], ...]
    canvas_hw: tuple[int, int]


def grid_shapes(rows: Sequence[int], aspect: float) -> tuple[tuple[int, int], ...]:
    """Rows and columns of each level's grid."""
    return tuple((count, max(1, round(count * aspect))) for count in rows)


def create_grids(
    shapes: Sequence[tuple[int, int]], canvas_hw: tuple[int, int], device: torch.device | str = 'cpu'
) -> Grids:
    """The grids of a canvas; inside a level row by row.

    Args:
        shapes: rows and columns of each level's grid, from fine to coarse.
        canvas_hw: height and width of the network's input.
        device: where the result is made.
    """
    height, width = canvas_hw
    centers, reaches = [], []
    for (rows, columns), reach in zip(shapes, REACHES, strict=True):
        y = (torch.arange(rows, device=device) + 0.5) * (height / rows)
        x = (torch.arange(columns, device=device) + 0.5) * (width / columns)
        centers.append(torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1).reshape(-1, 2))
        reaches.append(torch.full((rows * columns,), reach * (height * width) ** 0.5, device=device))
    return Grids(torch.cat(centers), torch.cat(reaches), tuple(shapes), canvas_hw)


def evaluate_kernels(kernels: Tensor, cells: Tensor, features: Tensor, grids: Grids) -> Tensor:
    """Mask logits of some cells: the dynamic 1x1 convolution (SOLOv2, section 3.1), and the position's part.

    Args:
        kernels: (N, E + `POSITION_WEIGHTS`) of these cells.
        cells: (N,) int64 their places among all G.
        features: (E, h, w) of one image; they cover the canvas.
        grids: of the canvas.

    Returns:
        (N, h, w) float32 logits.
    """
    count, height, width = features.shape
    weights, position = kernels[:, :count].float(), kernels[:, count:].float()
    centers, reach = grids.centers_xy[cells], grids.reach[cells, None]
    canvas_h, canvas_w = grids.canvas_hw
    x = (torch.arange(width, device=features.device) + 0.5) * (canvas_w / width)
    y = (torch.arange(height, device=features.device) + 0.5) * (canvas_h / height)
    dx, dy = (x - centers[:, :1]) / reach, (y - centers[:, 1:]) / reach  # (N, w), (N, h)
    along = position[:, 0, None] * dx + position[:, 2, None] * dx.square()
    down = position[:, 1, None] * dy + position[:, 3, None] * dy.square() + position[:, 4, None]
    logits = (weights @ features.float().flatten(1)).view(-1, height, width)
    return logits + along[:, None, :] + down[:, :, None]
