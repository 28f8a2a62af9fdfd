"""Meshes: flat faces, thick strokes and textured panels, each with its class, in an object's own axes.

Object axes: x right, y up, z forward in the direction of travel, metres, origin on the ground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from sembox_ros.data.streets.textures import Texture

Rgb = tuple[float, float, float]
Points = Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Panel:
    """A textured parallelogram: `origin` is its lower left corner, `vectors` its edges across and up and its normal."""

    origin: np.ndarray  # (3,)
    vectors: np.ndarray  # (3, 3)
    texture: Texture
    tint: np.ndarray
    class_id: int


@dataclass(frozen=True)
class PackedFaces:
    """All faces of a mesh as arrays: V vertices of N faces, face i starting at `starts[i]`."""

    vertices: np.ndarray  # (V, 3) float64
    starts: np.ndarray  # (N,) int64
    normals: np.ndarray  # (N, 3) unit, pointing away from the mesh's centre
    rgb: np.ndarray  # (N, 3)
    glow: np.ndarray  # (N,) bool: shines by itself, so light and shade do not matter
    class_ids: tuple[int, ...]
    orders: tuple[int, ...]  # place of each among all parts of the mesh
    spans: tuple[slice, ...]  # the vertices of each face


@dataclass(frozen=True)
class PackedStrokes:
    """All strokes of a mesh as arrays: P points of M polylines of round cross-section, `widths` metres thick."""

    points: np.ndarray  # (P, 3) float64
    starts: np.ndarray  # (M,) int64
    counts: np.ndarray  # (M,) int64
    widths: np.ndarray  # (M,)
    rgb: np.ndarray  # (M, 3)
    class_ids: tuple[int, ...]
    orders: tuple[int, ...]  # place of each among all parts of the mesh
    spans: tuple[slice, ...]


_CORNERS = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])  # of a box: lowest or highest x, y, z


@dataclass
class Mesh:
    """What one object looks like. Later parts lie over earlier ones where their depths are about equal.

    Attributes:
        center: a point inside the object; faces are visible from the side that looks away from it.
        two_sided: faces are visible from both sides (flat objects).
        faces_camera: the object is a cut-out that always turns towards the camera.
        casters: point sets (n, 3) whose convex hull casts a shadow on the ground.
    """

    center: tuple[float, float, float] = (0.0, 0.8, 0.0)
    two_sided: bool = False
    faces_camera: bool = False
    faces: list[tuple[int, np.ndarray, Rgb, int, bool]] = field(default_factory=list)
    strokes: list[tuple[int, np.ndarray, Rgb, int, float]] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    casters: list[np.ndarray] = field(default_factory=list)

    def _next(self) -> int:
        return len(self.faces) + len(self.strokes)

    def face(self, points: Points | np.ndarray, rgb: Rgb, class_id: int, glow: bool = False) -> None:
        """Add a flat polygon (n, 3); its first three points must not lie on one line."""
        self.faces.append((self._next(), np.asarray(points, np.float64), rgb, class_id, glow))

    def stroke(self, points: Points, width: float, rgb: Rgb, class_id: int) -> None:
        """Add a polyline of `width` metres."""
        self.strokes.append((self._next(), np.asarray(points, np.float64), rgb, class_id, width))

    def panel(
        self, origin: Sequence[float], across: Sequence[float], up: Sequence[float], texture: Texture, class_id: int,
        tint: Rgb = (1.0, 1.0, 1.0),
    ) -> None:  # fmt: skip
        """Add a textured parallelogram."""
        corner, edge, rise = (np.asarray(v, np.float64) for v in (origin, across, up))
        (ax, ay, az), (bx, by, bz) = edge.tolist(), rise.tolist()  # np.cross is slow on few rows
        normal = np.array((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))
        vectors = np.stack((edge, rise, normal / np.linalg.norm(normal)))
        self.panels.append(Panel(corner, vectors, texture, np.asarray(tint, np.float64), class_id))

    def box(self, low: Sequence[float], high: Sequence[float], rgb: Rgb, class_id: int) -> None:
        """Add the five visible sides of an axis-parallel box between two corners (x, y, z)."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        self.face([(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)], rgb, class_id)
        self.face([(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)], rgb, class_id)
        self.face([(x0, y0, z0), (x0, y0, z1), (x0, y1, z1), (x0, y1, z0)], rgb, class_id)
        self.face([(x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)], rgb, class_id)
        self.face([(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)], rgb, class_id)

    def rect(self, x0: float, x1: float, y0: float, y1: float, z: float, rgb: Rgb, class_id: int,
             glow: bool = False) -> None:  # fmt: skip
        """Add an upright rectangle across the direction of travel."""
        self.face([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], rgb, class_id, glow)

    def disc(self, center: Sequence[float], radius: float, rgb: Rgb, class_id: int, axis: str, glow: bool = False,
             sides: int = 12) -> None:  # fmt: skip
        """Add a disc whose normal is the 'x' or the 'z' axis."""
        cx, cy, cz = center
        ring = [(radius * cos, radius * sin) for cos, sin in _circle(sides)]
        if axis == 'x':
            self.face([(cx, cy + v, cz + u) for u, v in ring], rgb, class_id, glow)
        else:
            self.face([(cx + u, cy + v, cz) for u, v in ring], rgb, class_id, glow)

    def cast_box(self, half_width: float, height: float, half_length: float, base: float = 0.0) -> None:
        """Let a box above the origin cast a shadow."""
        corners = [(x, y, z) for x in (-half_width, half_width) for y in (base, height)
                   for z in (-half_length, half_length)]  # fmt: skip
        self.casters.append(np.array(corners))

    @cached_property
    def corners(self) -> np.ndarray:
        """Corners (8, 3) of a box around everything; add nothing after the first use."""
        parts = [points for _, points, *_ in self.faces]
        parts += [edge for _, points, _, _, width in self.strokes for edge in (points - width / 2, points + width / 2)]
        for panel in self.panels:
            across, up, _ = panel.vectors
            parts.append(panel.origin + np.stack((0 * up, across, across + up, up)))
        points = np.concatenate(parts)
        box = np.stack((points.min(axis=0), points.max(axis=0)))
        return box[_CORNERS, (0, 1, 2)]

    @cached_property
    def packed_strokes(self) -> PackedStrokes:
        """The strokes as arrays; add nothing after the first use."""
        orders, points, colors, class_ids, widths = zip(*self.strokes, strict=True)
        counts = np.array([len(line) for line in points])
        starts, spans = _spans(counts)
        return PackedStrokes(
            points=np.concatenate(points),
            starts=starts,
            counts=counts,
            widths=np.array(widths),
            rgb=np.array(colors, np.float64),
            class_ids=class_ids,
            orders=orders,
            spans=spans,
        )

    @cached_property
    def packed(self) -> PackedFaces:
        """The faces as arrays; add nothing after the first use."""
        orders, points, colors, class_ids, glow = zip(*self.faces, strict=True)
        starts, spans = _spans(np.array([len(outline) for outline in points]))
        vertices = np.concatenate(points)
        first = vertices[starts]
        a, b = vertices[starts + 1] - first, vertices[starts + 2] - first
        normals = a[:, (1, 2, 0)] * b[:, (2, 0, 1)] - a[:, (2, 0, 1)] * b[:, (1, 2, 0)]  # np.cross is slow on few rows
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        outward = np.sum(normals * (first - np.asarray(self.center)), axis=1)
        normals[outward < 0] *= -1.0
        return PackedFaces(
            vertices=vertices,
            starts=starts,
            normals=normals,
            rgb=np.array(colors, np.float64),
            glow=np.array(glow),
            class_ids=class_ids,
            orders=orders,
            spans=spans,
        )


@cache
def _circle(sides: int) -> tuple[tuple[float, float], ...]:
    """Cosine and sine of that many directions."""
    return tuple((math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, sides + 1)[:-1])


def _spans(counts: np.ndarray) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Where runs of those lengths (N,) start (N,) int64, and each run as a slice."""
    ends = np.cumsum(counts)
    starts = ends - counts
    return starts, tuple(slice(a, b) for a, b in zip(starts.tolist(), ends.tolist(), strict=True))


def patch(quad: Points, u0: float, u1: float, v0: float, v1: float, lift: float = 0.0) -> np.ndarray:
    """Return the part (4, 3) of a quad between shares u (first to second corner) and v (first to fourth corner).

    `lift` moves it, in metres along x and z, away from the axis of the object, so that it lies on top.
    """
    a, b, c, d = np.asarray(quad, np.float64)
    u, v = np.array(((u0,), (u1,), (u1,), (u0,))), np.array(((v0,), (v0,), (v1,), (v1,)))
    out = a + (b - a) * u + (d - a) * v + (a - b + c - d) * u * v
    if lift:
        out[:, 0] += np.sign(out[:, 0]) * lift
    return out


def shaded(rgb: Rgb, gain: float) -> Rgb:
    """Return a colour made darker or lighter."""
    return (min(rgb[0] * gain, 255.0), min(rgb[1] * gain, 255.0), min(rgb[2] * gain, 255.0))
