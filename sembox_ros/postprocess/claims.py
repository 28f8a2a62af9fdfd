"""Instances of a network that has none: every box takes the pixels of its class inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sembox_ros.labels import SceneLabels
from sembox_ros.types import Detections, check_array


def claim_pixels(
    semantic: np.ndarray,
    detections: Detections,
    labels: SceneLabels,
    *,
    min_score: float = 0.0,
    margin: float = 0.1,
    min_share: float = 0.5,
    min_fill: float = 0.15,
    min_area: int = 16,
    score_power: float = 2.0,
) -> np.ndarray:
    """Which pixels of the mask belong to which box.

    A box claims the pixels of its thing class inside it. A pixel inside several boxes of one class goes to the one
    whose centre is nearest, in halves of the box's sides and divided by a power of its score: the surer box wins, and
    a small box in front of a large one keeps its middle. Boxes may be too tight, so beyond its edges a box claims what
    no box of its class holds inside.

    Only pixels in boxes are looked at, and distances are computed only where boxes of one class overlap.

    Args:
        semantic: (H, W) uint8 ids of the semantic label set.
        detections: boxes in pixels of the image; those whose class the mask does not know claim nothing.
        labels: link the classes of both.
        min_score: boxes below it claim nothing.
        margin: how far beyond its edges a box claims, as a share of half its sides.
        min_share: a box that gets less than this share of what it claims, and leaves the rest to better boxes, gets
            nothing: it is a second box of their object, or was drawn around several.
        min_fill: a box that gets less than this share of its own area gets nothing: the mask says that it is mistaken.
        min_area: a box that gets fewer pixels gets none.
        score_power: how much the score counts against the distance.

    Returns:
        (H, W) uint16, `detections.ids`; 0 where nobody claims.

    Raises:
        InputError: the mask is no (H, W) uint8 array.
    """
    check_array('semantic', semantic, (None, None), np.uint8)
    instances = np.zeros(semantic.shape, np.uint16)
    claims: dict[int, list[_Claim]] = {}
    rows = zip(detections.ids, detections.class_ids, detections.scores, detections.boxes_xyxy, strict=True)
    for number, class_id, score, box_xyxy in rows:
        thing = labels.thing_links.get(int(class_id))
        if thing is not None and score >= min_score:
            weight = max(float(score), 1e-3) ** (2 * score_power)  # of squared distances
            claim = _create_claim(int(number), box_xyxy, instances.shape, margin=margin, weight=weight)
            rivals = claims.setdefault(thing, [])
            mine = semantic[claim.area] == thing
            won = _contest(claim, rivals, instances, mine)
            enough = max(min_area, min_share * np.count_nonzero(mine), min_fill * mine.size)
            if np.count_nonzero(won) >= enough:
                # Without branches, which at the edges of masks take twice as long.
                instances[claim.area] *= ~won
                instances[claim.area] += np.multiply(won, claim.number, dtype=np.uint16)
                rivals.append(claim)
    for claim in (claim for rivals in claims.values() for claim in rivals):
        region = instances[claim.area]
        owned = region == claim.number
        if np.count_nonzero(owned) < min_area:  # others took the rest
            region[owned] = 0
    return instances


class _Claim(NamedTuple):
    """A box, grown by the margin, on the grid of pixels.

    Attributes:
        number: the detection's id.
        area: the rows and the columns of pixels whose middle lies in the grown box.
        y: (height of the area,) float32 squared distance of each row from the centre, in halves of the box's height,
            over the weight; summed with `x` it is the pixel's distance.
        x: (width of the area,) the same for columns.
        inside_y: (height of the area,) bool, whether the row lies in the box itself.
        inside_x: (width of the area,) the same for columns.
    """

    number: int
    area: tuple[slice, slice]
    y: np.ndarray
    x: np.ndarray
    inside_y: np.ndarray
    inside_x: np.ndarray

    def places(self, area: tuple[slice, slice]) -> tuple[slice, slice]:
        """Where a part of the claim's area lies in it."""
        rows, columns = (slice(a.start - own.start, a.stop - own.start) for a, own in zip(area, self.area, strict=True))
        return rows, columns

    def within(self, area: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For the pixels in a part of the claim's area: y as a column, x, and whether inside the box."""
        rows, columns = self.places(area)
        return self.y[rows, None], self.x[columns], self.inside_y[rows, None] & self.inside_x[columns]


def _create_claim(
    number: int, box_xyxy: np.ndarray, size_hw: tuple[int, ...], *, margin: float, weight: float
) -> _Claim:
    axes = []
    for low, high, size in zip(box_xyxy[1::-1].tolist(), box_xyxy[:1:-1].tolist(), size_hw, strict=True):
        half, center = max((high - low) / 2, 1e-6), (high + low) / 2
        # Pixel i has its middle at i + 0.5.
        start = min(max(math.ceil(center - half * (1 + margin) - 0.5), 0), size)
        stop = min(max(math.floor(center + half * (1 + margin) + 0.5), start), size)
        offset = (np.arange(start, stop, dtype=np.float32) + np.float32(0.5 - center)) / np.float32(half)
        axes.append((slice(start, stop), offset * offset / np.float32(weight), np.abs(offset) <= 1))
    (rows, y, inside_y), (columns, x, inside_x) = axes
    return _Claim(number, (rows, columns), y, x, inside_y, inside_x)


def _contest(claim: _Claim, rivals: Sequence[_Claim], instances: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """What the claim gets of its class's pixels `mine`: those nobody has, and those nearer to it than to who has them.

    Returns:
        (height of the claim's area, width) bool.
    """
    won: np.ndarray = mine & (instances[claim.area] == 0)
    for rival in rivals:
        shared = _intersect(claim.area, rival.area)
        if shared is None:
            continue
        y, x, inside = claim.within(shared)
        rival_y, rival_x, rival_inside = rival.within(shared)
        nearer = y - rival_y < rival_x - x  # y + x < rival_y + rival_x without their sums
        nearer = (inside > rival_inside) | ((inside == rival_inside) & nearer)
        rows, columns = claim.places(shared)
        won[rows, columns] |= nearer & (instances[shared] == rival.number)
    return won


def _intersect(first: tuple[slice, slice], second: tuple[slice, slice]) -> tuple[slice, slice] | None:
    """The pixels of both areas, or None."""
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None
