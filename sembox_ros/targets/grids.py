"""Which grid cell learns which object."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sembox_ros.errors import InputError
from sembox_ros.ops.grids import SCALE_RANGES, Grids
from sembox_ros.targets.anchors import IGNORED, NEGATIVE


class GridTargets(NamedTuple):
    """What each cell of one image should give.

    Attributes:
        class_ids: (G,) int64, id of the detection label set, `NEGATIVE` (-1) or `IGNORED` (-2).
        rows: (G,) int64 which object's mask its kernel learns; -1 where `class_ids` is negative.
    """

    class_ids: Tensor
    rows: Tensor


@torch.no_grad()
def assign_cells(
    grids: Grids,
    instances: Tensor,
    boxes_xyxy: Tensor,
    class_ids: Tensor,
    is_crowd: Tensor,
    *,
    center_share: float = 0.2,
    min_pixels: int = 10,
) -> GridTargets:
    """The targets of one image (SOLOv2, Wang et al. 2020, as SOLO, 2019, section 3.3.1, defines them).

    An object belongs to the levels whose range of sizes has its own (the square root of its box's area); there the cell
    under its centre of mass learns it, and those of the eight around that cell which the middle `center_share` of its
    box reaches. Of two objects that want one cell the smaller gets it. Cells in a crowd, or that an object with too few
    pixels would get, learn nothing.

    Args:
        grids: of the canvas.
        instances: (H, W) int32 of the canvas, k on the pixels of row k - 1, 0 elsewhere.
        boxes_xyxy: (N, 4) float32 in pixels of the canvas.
        class_ids: (N,) int64 ids of the detection label set.
        is_crowd: (N,) bool.
        center_share: of the box's sides.
        min_pixels: an object with fewer on the canvas is not asked for.

    Raises:
        InputError: shapes do not fit each other.
    """
    height, width = grids.canvas_hw
    if tuple(instances.shape) != (height, width):
        raise InputError(f'instances: expected the size {(height, width)} of the canvas, got {tuple(instances.shape)}')
    assigned = torch.full((len(grids.reach),), NEGATIVE, dtype=torch.int64, device=instances.device)
    owners = torch.full_like(assigned, -1)
    count = len(boxes_xyxy)
    if not count:
        return GridTargets(assigned, owners)
    areas, centers = _moments(instances, count)
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    sizes = (sides[:, 0] * sides[:, 1]).clamp(min=0).sqrt() / (height * width) ** 0.5
    asked = ~is_crowd & (areas > 0)
    order = [row for row in areas.argsort(descending=True).tolist() if asked[row]]
    facts = torch.cat((centers, sides * (center_share / 2), sizes[:, None], areas[:, None].float()), dim=1).tolist()
    offset = 0
    for (rows, columns), (least, most) in zip(grids.shapes, SCALE_RANGES, strict=True):
        level = slice(offset, offset + rows * columns)
        ids, mine = assigned[level].view(rows, columns), owners[level].view(rows, columns)
        for row in order:
            x, y, half_x, half_y, size, pixels = facts[row]
            if least <= size < most:
                window = (_around(y, half_y, rows, height), _around(x, half_x, columns, width))
                ids[window] = class_ids[row] if pixels >= min_pixels else IGNORED
                mine[window] = row if pixels >= min_pixels else -1
        offset += rows * columns
    crowds = is_crowd.nonzero()[:, 0] + 1
    if len(crowds):
        x, y = grids.centers_xy.long().unbind(dim=1)
        assigned[(assigned == NEGATIVE) & torch.isin(instances[y, x], crowds.to(instances.dtype))] = IGNORED
    return GridTargets(assigned, owners)


def _moments(instances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Number of pixels (N,) and centre of mass (N, 2) of each object in pixels; the centre is NaN without pixels."""
    y, x = instances.nonzero(as_tuple=True)
    owner = instances[y, x].long() - 1
    areas = torch.bincount(owner, minlength=count)
    sums = [torch.bincount(owner, weights=place + 0.5, minlength=count) for place in (x.double(), y.double())]
    return areas, (torch.stack(sums, dim=1) / areas[:, None]).float()


def _around(center: float, half: float, cells: int, length: int) -> slice:
    """The cells along one axis that a centre's surroundings reach: its own and at most one on either side."""
    middle = min(cells - 1, int(center / length * cells))
    first = max(0, middle - 1, int((center - half) / length * cells))
    last = min(cells - 1, middle + 1, int((center + half) / length * cells))
    return slice(min(first, middle), max(last, middle) + 1)
