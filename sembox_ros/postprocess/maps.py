"""From a network's maps to values for every pixel of one image: how each map is resized, depth, and what moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sembox_ros.ops.placement import Placement
from sembox_ros.ops.resize import AxisPlan, plan_axis

# Natural logarithms of metres, 0.1 mm and 22 km: a network without training must not give zero or infinity, which
# REP 118 has other meanings for.
LOG_DEPTH_RANGE = (-9.0, 10.0)


def plan_map(
    values: Tensor, placement: Placement, *, sizes_hw: Sequence[tuple[int, int]] = (), extent: str = 'canvas'
) -> tuple[AxisPlan, AxisPlan]:
    """How the rows and the columns of a map become those of the image.

    Args:
        values: (C, h, w) on any device.
        placement: where the image lies on the canvas.
        sizes_hw: what the map is resized to, one after the other, as the network's `semantic_sizes` says; the last
            one, or (h, w) where there is none, is the size of the canvas, or any size where the image is covered.
        extent: what the map covers, 'canvas' or 'image'.
    """
    source_hw = (values.shape[1], values.shape[2])
    window_hw = placement.scaled_hw if extent == 'canvas' else (source_hw, *sizes_hw)[-1]
    rows, columns = (
        plan_axis(source_hw[i], tuple(s[i] for s in sizes_hw), window_hw[i], placement.image_hw[i], values.device)
        for i in range(2)
    )
    return rows, columns


def decode_depth(
    log_depth: Tensor,
    placement: Placement,
    *,
    sizes_hw: Sequence[tuple[int, int]] = (),
    extent: str = 'canvas',
) -> np.ndarray:
    """Depth of one image at its own size.

    Networks learn from whole images on the canvas, so the scale of the placement does not matter: what counts is which
    part of the camera's view an object takes.

    Args:
        log_depth: (1, h, w) natural logarithm of metres, on any device; resized linearly before it is raised.
        placement: see `plan_map`, as the others.
        sizes_hw: what the map is resized to.
        extent: what the map covers.

    Returns:
        (image height, image width) float32 metres along the optical axis, always positive and finite.
    """
    resized = _resize(log_depth, placement, sizes_hw, extent)
    metres: np.ndarray = resized.nan_to_num_(LOG_DEPTH_RANGE[1]).clamp_(*LOG_DEPTH_RANGE).exp_().cpu().numpy()
    return metres


def decode_motion(
    motion_logits: Tensor,
    placement: Placement,
    *,
    sizes_hw: Sequence[tuple[int, int]] = (),
    extent: str = 'canvas',
) -> np.ndarray:
    """What moves in the world in one image, at its own size.

    Args:
        motion_logits: (1, h, w) before the sigmoid, on any device.
        placement: see `plan_map`, as the others.
        sizes_hw: what the map is resized to.
        extent: what the map covers.

    Returns:
        (image height, image width) bool, true where that is more probable than not; false where the logit is NaN.
    """
    moves: np.ndarray = (_resize(motion_logits, placement, sizes_hw, extent) > 0).cpu().numpy()
    return moves


def _resize(values: Tensor, placement: Placement, sizes_hw: Sequence[tuple[int, int]], extent: str) -> Tensor:
    """(1, h, w) to (H, W) float32."""
    rows, columns = plan_map(values, placement, sizes_hw=sizes_hw, extent=extent)
    return torch.linalg.multi_dot((rows.matrix, values[0].float(), columns.matrix.T))
