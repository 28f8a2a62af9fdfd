"""Raw tensors of an instance head that mean known masks."""

from __future__ import annotations

import torch
from torch import Tensor

from sembox_ros.ops.grids import POSITION_WEIGHTS, Grids, create_grids

CANVAS_HW = (128, 256)
SHAPES = ((4, 8), (3, 6), (2, 4), (2, 4), (1, 2))
GRIDS: Grids = create_grids(SHAPES, CANVAS_HW)
CLASSES = 8
SURE, NO = 6.0, -9.0


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Tensor:
    """(32, 64) logits that fall by 4 for each place's distance beyond the edges, given in pixels of the canvas."""
    x, y = (torch.arange(64) + 0.5) * 4, (torch.arange(32) + 0.5) * 4
    across = torch.minimum(x - x0, x1 - x)
    down = torch.minimum(y - y0, y1 - y)
    return torch.minimum(across[None, :], down[:, None])


def raw_tensors(objects: list[tuple[Tensor, int, int, float]]) -> tuple[Tensor, Tensor, Tensor]:
    """Category logits (G, K), kernels (G, E) and features (E, 32, 64) of (mask logits, cell, class, category logit)."""
    cells = len(GRIDS.centers_xy)
    features = torch.stack([mask for mask, *_ in objects]) if objects else torch.zeros(1, 32, 64)
    categories = torch.full((cells, CLASSES), NO)
    kernels = torch.zeros(cells, len(features) + POSITION_WEIGHTS)
    for index, (_, cell, class_id, logit) in enumerate(objects):
        categories[cell, class_id] = logit
        kernels[cell, index] = 1.0
    return categories, kernels, features
