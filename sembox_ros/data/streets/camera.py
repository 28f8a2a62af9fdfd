"""Where the camera is, what it projects to, and how the sun and the air colour what it sees.

World axes: x right, y up, z forward along the road, metres, ground at y = 0. Camera axes: x right, y down,
z forward. A yaw turns +z towards +x. The camera never rolls, so every image row is one ground depth, and pitch is a
shift of the principal point (a fair approximation for the fractions of a degree that a car nods).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NEAR_M = 0.4


def rotate(vectors: np.ndarray, yaw: float) -> np.ndarray:
    """Turn vectors (n, 3) about the vertical axis by `yaw` radians, +z towards +x."""
    sin, cos = math.sin(yaw), math.cos(yaw)
    out = np.empty_like(vectors)
    out[:, 0] = cos * vectors[:, 0] + sin * vectors[:, 2]
    out[:, 1] = vectors[:, 1]
    out[:, 2] = cos * vectors[:, 2] - sin * vectors[:, 0]
    return out


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above flat ground.

    Attributes:
        size_hw: image height and width, pixels.
        focal_px: focal length, pixels.
        cx: principal point column, pixels.
        horizon_px: row of the horizon, pixels.
        x: world x, metres.
        height: metres above the ground.
        z: world z, metres.
        yaw: radians, positive to the right.
    """

    size_hw: tuple[int, int]
    focal_px: float
    cx: float
    horizon_px: float
    x: float
    height: float
    z: float
    yaw: float

    def place(self, points: np.ndarray, x: float, z: float, yaw: float) -> np.ndarray:
        """Move points (n, 3) of an object standing at (x, z) and turned by `yaw` into camera axes (n, 3)."""
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        dx, dz = x - self.x, z - self.z
        out = self.turn(points, yaw)
        out[:, 0] += cos * dx - sin * dz
        out[:, 1] += self.height
        out[:, 2] += sin * dx + cos * dz
        return out

    def turn(self, vectors: np.ndarray, yaw: float) -> np.ndarray:
        """Rotate directions (n, 3) of an object turned by `yaw` into camera axes (n, 3)."""
        out = rotate(vectors, yaw - self.yaw)
        out[:, 1] *= -1.0
        return out

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) float64 of camera-axes points (n, 3) in front of the camera."""
        out = points[:, :2] * (self.focal_px / points[:, 2:])
        out += (self.cx, self.horizon_px)
        return out

    def may_see(self, x: float, z: float, radius: float) -> bool:
        """Whether a ball of that radius around (x, z) may reach into the image (its height is not considered)."""
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        across, ahead = cos * (x - self.x) - sin * (z - self.z), sin * (x - self.x) + cos * (z - self.z)
        return ahead + radius > NEAR_M and abs(across) - 1.5 * radius < ahead * (self.size_hw[1] / 2) / self.focal_px


def clip_near(points: np.ndarray) -> np.ndarray:
    """Return the part of a camera-axes polygon (n, 3) beyond the near plane; (0, 3) when nothing is left."""
    kept: list[np.ndarray] = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        if start[2] >= NEAR_M:
            kept.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            kept.append(start + (end - start) * ((NEAR_M - start[2]) / (end[2] - start[2])))
    return np.array(kept).reshape(-1, 3)


@dataclass(frozen=True)
class Light:
    """Sun, sky light and haze of one scene.

    Attributes:
        to_sun: (3,) unit vector towards the sun, world axes.
        sun_rgb: (3,) gain of direct light.
        sky_rgb: (3,) gain of ambient light from straight above; vertical faces get less of it.
        haze_rgb: (3,) 0..255 colour of the air.
        haze_m: distance at which the air hides 63 % of a surface, metres.
        shadow: 0..1 darkness of cast shadows.
    """

    to_sun: np.ndarray
    sun_rgb: np.ndarray
    sky_rgb: np.ndarray
    haze_rgb: np.ndarray
    haze_m: float
    shadow: float

    def gains(self, normals: np.ndarray) -> np.ndarray:
        """Light gain (n, 3) of surfaces with unit world normals (n, 3)."""
        direct = np.clip(normals @ self.to_sun, 0.0, 1.0)[:, None]
        ambient = (0.8 + 0.2 * normals[:, 1])[:, None]
        return direct * self.sun_rgb + ambient * self.sky_rgb

    def haze_at(self, depth_m: np.ndarray | float) -> np.ndarray:
        """Share 0..1 of the air's colour at a depth in metres."""
        return 1.0 - np.exp(-np.asarray(depth_m) / self.haze_m)

    @classmethod
    def create(cls, rng: np.random.Generator) -> Light:
        """Create a random time of day and weather."""
        overcast = bool(rng.random() < 0.3)
        elevation, azimuth = rng.uniform(0.6, 1.2), rng.uniform(0.0, 2.0 * math.pi)
        to_sun = np.array(
            (math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth))
        )
        warmth = rng.uniform(-0.06, 0.1) * (0.4 if overcast else 1.0)
        tint = np.array((1.0 + warmth, 1.0, 1.0 - warmth))
        sun, sky = (0.25, 0.9) if overcast else (rng.uniform(0.6, 0.8), rng.uniform(0.58, 0.72))
        haze = np.array((rng.uniform(186, 212), rng.uniform(200, 218), rng.uniform(212, 232)))
        return cls(
            to_sun=to_sun,
            sun_rgb=sun * tint,
            sky_rgb=sky * np.array((0.97, 1.0, 1.04)),
            haze_rgb=np.full(3, haze.mean()) if overcast else haze * tint,
            haze_m=float(rng.uniform(180.0, 420.0)),
            shadow=0.16 if overcast else float(rng.uniform(0.36, 0.52)),
        )
