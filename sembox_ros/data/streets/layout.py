"""The cross-section of a street: strips of ground from left to right, lanes, and where things may stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PERIOD_M = 96.0  # the ground pattern and the zebra crossings repeat along the road


@dataclass(frozen=True)
class Road:
    """A gently winding centre line."""

    swing_m: float
    wave_m: float
    phase: float

    def centers(self, z: np.ndarray) -> np.ndarray:
        """World x of the centre line at many z (any shape), metres."""
        return self.swing_m * np.sin(z * z.dtype.type(2 * math.pi / self.wave_m) + z.dtype.type(self.phase))

    def center(self, z: float) -> float:
        """World x of the centre line at one z, metres; far faster than `centers` for one."""
        return self.swing_m * math.sin(z * (2 * math.pi / self.wave_m) + self.phase)

    def heading(self, z: float, length: float = 2.0) -> float:
        """Heading of the chord of that length around z, radians."""
        return math.atan2(self.center(z + length / 2) - self.center(z - length / 2), length)


@dataclass(frozen=True)
class Strip:
    """Ground of one surface between two lateral places, metres right of the centre line."""

    left: float
    right: float
    surface: str


@dataclass(frozen=True)
class Side:
    """One side of the street; all places are distances from the centre line, metres.

    Attributes:
        lanes: middles of the driving lanes, inner first.
        bike: middle of the bicycle lane, or None.
        parking: middle of the row of parked cars, or None.
        curb: edge of the road.
        walk: inner and outer edge of the sidewalk.
        front: where walls, hedges and house fronts stand.
    """

    lanes: tuple[float, ...]
    bike: float | None
    parking: float | None
    curb: float
    walk: tuple[float, float]
    front: float


@dataclass(frozen=True)
class Layout:
    """A whole cross-section.

    Attributes:
        strips: ground, left to right, without gaps.
        left: the oncoming side.
        right: the side that the camera drives on.
        tram: middle of a tram track (left of the centre line), or None.
        zebra_z: place of the zebra crossing within `PERIOD_M`, or None.
        lines: lateral places of lane lines, and the length of their dashes (0 = solid).
    """

    strips: tuple[Strip, ...]
    left: Side
    right: Side
    tram: float | None
    zebra_z: float | None
    lines: tuple[tuple[float, float], ...]


def _create_side(
    rng: np.random.Generator, sign: int, start: float, strips: list[Strip], lines: list[tuple[float, float]]
) -> Side:
    """Lay strips outward from `start`; `sign` is -1 for the left side."""
    at = start

    def lay(width: float, surface: str) -> float:
        nonlocal at
        edges = sorted((sign * at, sign * (at + width)))
        strips.append(Strip(edges[0], edges[1], surface))
        at += width
        return at - width / 2

    count = int(rng.choice((1, 2), p=(0.72, 0.28)))
    lane_m = float(rng.uniform(3.0, 3.5))
    lanes = []
    for index in range(count):
        if index:
            lines.append((sign * at, 3.0))
        lanes.append(lay(lane_m, 'asphalt'))
    bike = parking = None
    if rng.random() < 0.45:
        lines.append((sign * at, 0.0))
        bike = lay(1.6, 'bike')
    if rng.random() < 0.62:
        parking = lay(2.3, str(rng.choice(('asphalt', 'setts'))))
    else:
        lay(0.4, 'gutter')
    curb = at
    lay(0.2, 'curb')
    if rng.random() < 0.35:
        lay(float(rng.uniform(1.0, 2.5)), 'grass')
    walk_start = at
    lay(float(rng.uniform(2.2, 4.2)), 'slabs')
    walk = (walk_start, at)
    if rng.random() < 0.45:
        lay(float(rng.uniform(1.0, 4.0)), str(rng.choice(('grass', 'dirt'))))
    front = at + 0.15
    lay(60.0 - at, 'grass' if rng.random() < 0.8 else 'dirt')
    return Side(tuple(lanes), bike, parking, curb, walk, front)


def create_layout(rng: np.random.Generator) -> Layout:
    """Create a random cross-section."""
    strips: list[Strip] = []
    lines: list[tuple[float, float]] = []
    tram = 1.7 if rng.random() < 0.14 else None
    start = 0.0
    if tram is not None:
        start = 3.4
        strips.append(Strip(-3.4, 0.0, 'rails'))
        lines.append((-3.4, 0.0))
    lines.append((0.0, float(rng.choice((3.0, 6.0, 0.0)))))
    left = _create_side(rng, -1, start, strips, lines)
    right = _create_side(rng, 1, 0.0, strips, lines)
    zebra = float(rng.uniform(20.0, 60.0)) if rng.random() < 0.7 else None
    return Layout(
        strips=tuple(sorted(strips, key=lambda s: s.left)),
        left=left,
        right=right,
        tram=None if tram is None else -tram,
        zebra_z=zebra,
        lines=tuple(lines),
    )
