"""What stands or moves in the world: where it is at a time, and how it is told apart from the next one."""

from __future__ import annotations

import math
from dataclasses import dataclass

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Item:
    """One object, in road axes: `x` metres right of the centre line, `z` metres along the road.

    Attributes:
        kind: key of `kinds.KINDS`.
        x: lateral place of the origin (its middle on the ground), metres.
        z: place along the road at time 0, metres.
        yaw: heading relative to the road, radians.
        width: metres across.
        height: metres.
        length: metres along the heading.
        rgb: main colour, 0..255.
        accent: second colour, 0..255.
        style: a number from which the kind draws its variants.
        side: -1 left of the road, +1 right of it.
        speed: metres per second along the road.
        cross_speed: metres per second across the road, between `cross_start` and `cross_start + cross_for` seconds.
        track_id: stable id of a thing, 0 for stuff.
        serial: told apart from every other item of the street by this, and numbered in order of appearance.
    """

    kind: str
    x: float
    z: float
    yaw: float = 0.0
    width: float = 1.0
    height: float = 1.0
    length: float = 1.0
    rgb: Rgb = (128.0, 128.0, 128.0)
    accent: Rgb = (60.0, 60.0, 60.0)
    style: int = 0
    side: int = 1
    speed: float = 0.0
    cross_speed: float = 0.0
    cross_start: float = 0.0
    cross_for: float = 0.0
    track_id: int = 0
    serial: int = 0

    def place_at(self, time_s: float) -> tuple[float, float]:
        """Lateral place and place along the road, metres."""
        x = self.x + self.cross_speed * min(max(time_s - self.cross_start, 0.0), self.cross_for)
        z = self.z + self.speed * time_s
        if self.speed:
            phase = 0.7 * self.style
            z += 0.5 * math.sin(0.6 * time_s + phase)
            x += 0.12 * math.sin(0.4 * time_s + 2.0 * phase)
        return x, z

    def walks_across(self, time_s: float) -> bool:
        """Whether it is on its way across the road just now."""
        return self.cross_speed != 0.0 and 0.0 <= time_s - self.cross_start <= self.cross_for
