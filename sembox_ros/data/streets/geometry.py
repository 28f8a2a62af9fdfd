"""Depth, optical flow and motion of one frame: for every pixel, where the same point was one frame before.

The canvas says which object's surface a pixel shows and how far away it is. Every object is rigid from frame to frame
but for the limbs of people, which are strokes: a pixel of one keeps its place along and beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sembox_ros.data.streets.camera import NEAR_M, Camera
from sembox_ros.data.streets.shapes import Mesh
from sembox_ros.labels import IGNORE_ID

Window = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Geometry:
    """What is known about the surface that each pixel shows.

    Attributes:
        depth: (H, W) float32 metres along the optical axis; 0 for the sky and the bonnet.
        flow: (H, W, 2) float32 dx, dy in pixels: where the point was one frame before, minus where it is. 0 for the
            bonnet, and for what was behind the camera.
        motion: (H, W) uint8, 1 = its object changes its place in the world, 0 = does not, 255 = unlabeled.
    """

    depth: np.ndarray
    flow: np.ndarray
    motion: np.ndarray


class Pose(NamedTuple):
    """Where an object stands: its mesh, which may be animated, world place in metres and heading in radians."""

    mesh: Mesh
    x: float
    z: float
    yaw: float


class Line(NamedTuple):
    """A stroke in the image, n points.

    Attributes:
        pixels: (n,) complex128, column + row * i.
        inverse_depth: (n,) 1 / metres.
        before: (n,) complex128, where the points would be if the object stood here in its posture of one frame before.
    """

    pixels: np.ndarray
    inverse_depth: np.ndarray
    before: np.ndarray


class GeometryBuffer:
    """Collects the surfaces of one frame as they are drawn; the last one written to a pixel counts.

    Args:
        camera: of this frame.
        before: of the frame before, at the same height.
    """

    def __init__(self, camera: Camera, before: Camera) -> None:
        self._camera, self._before = camera, before
        self._inverse_depth = np.zeros(camera.size_hw, np.float32)  # 0: ground or sky
        self._owner = np.zeros(camera.size_hw, np.int32)  # index into the two lists below
        self._posture = np.zeros(camera.size_hw, np.complex64)  # pixels from here to the same point in `Line.before`
        self._moves = [self._move(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)]  # of the ground and whatever stands still
        self._is_moving = [False]
        self._mesh_before: Mesh | None = None

    def enter(self, now: Pose, before: Pose) -> None:
        """What is written from now on belongs to this object."""
        turn, turn_before = now.yaw, before.yaw
        if now.mesh.faces_camera:
            turn, turn_before = self._camera.yaw, self._before.yaw
        self._moves.append(self._move(now.x, now.z, turn, before.x, before.z, turn_before))
        self._is_moving.append((now.x, now.z) != (before.x, before.z))
        self._mesh_before = before.mesh

    def _move(
        self, x: float, z: float, yaw: float, x_before: float, z_before: float, yaw_before: float
    ) -> tuple[float, float, float, float]:
        """From the camera's axes to those of the camera before: cosine and sine of the turn, then the shift in x, z."""
        origin = np.zeros((1, 3))
        here = self._camera.place(origin, x, z, yaw)[0]
        there = self._before.place(origin, x_before, z_before, yaw_before)[0]
        turn = (yaw_before - self._before.yaw) - (yaw - self._camera.yaw)
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        return cos, sin, there[0] - cos * here[0] - sin * here[2], there[2] - cos * here[2] + sin * here[0]

    def strokes_before(self, mesh: Mesh) -> np.ndarray:
        """Points (P, 3) of the strokes of the object's mesh one frame before, in the mesh's axes.

        They are those of now where the mesh has changed its parts, as somebody does who begins to cross the road.
        """
        now = mesh.packed_strokes
        if self._mesh_before is None or self._mesh_before is mesh or not self._mesh_before.strokes:
            return now.points
        before = self._mesh_before.packed_strokes
        same = before.orders == now.orders and np.array_equal(before.counts, now.counts)
        return before.points if same else now.points

    def write(self, window: Window, keep: np.ndarray, inverse: np.ndarray | np.float32) -> None:
        """Note the pixels `keep` (h, w) of a window as the object's, at inverse depths (h, w) or one for all."""
        np.copyto(self._inverse_depth[window], inverse, where=keep)
        np.copyto(self._owner[window], np.int32(len(self._moves) - 1), where=keep)
        np.copyto(self._posture[window], np.complex64(0), where=keep)

    def write_stroke(self, window: Window, keep: np.ndarray, line: Line) -> None:
        """What was just written is a stroke: each pixel belongs to the point of the line that is nearest to it."""
        rows, columns = np.nonzero(keep)
        places = (columns + window[1].start) + 1j * (rows + window[0].start)
        edges, edges_before = np.diff(line.pixels), np.diff(line.before)
        lengths = np.maximum(np.abs(edges), 1e-9)
        along = ((places[:, None] - line.pixels[:-1]) * np.conj(edges)).real / lengths**2
        along = np.clip(along, 0.0, 1.0)  # (pixels, edges)
        beside = places[:, None] - (line.pixels[:-1] + along * edges)
        nearest = np.abs(beside).argmin(axis=1)
        picked = (np.arange(len(places)), nearest)
        along, beside = along[picked], beside[picked]
        first, last = line.inverse_depth[nearest], line.inverse_depth[nearest + 1]
        turn = edges_before / np.maximum(np.abs(edges_before), 1e-9) * np.conj(edges / lengths)
        before = line.before[nearest] + along * edges_before[nearest] + beside * turn[nearest]
        self._inverse_depth[window][keep] = first + along * (last - first)
        self._posture[window][keep] = before - places

    def measure(self, semantic: np.ndarray, ego: np.ndarray, sky_flow: Sequence[float]) -> Geometry:
        """What all that was written amounts to.

        Args:
            semantic: (H, W) uint8 class ids, 255 = unlabeled.
            ego: (H, W) bool, the bonnet.
            sky_flow: dx, dy of the sky, pixels.
        """
        camera, before = self._camera, self._before
        high, wide = camera.size_hw
        rows, columns = np.arange(high, dtype=np.float32)[:, None], np.arange(wide, dtype=np.float32)
        ground = np.maximum(rows - np.float32(camera.horizon_px), 0) / np.float32(camera.focal_px * camera.height)
        inverse = np.where(self._inverse_depth > 0, self._inverse_depth, ground)
        inverse[ego] = 0
        is_solid = inverse > 0
        depth = np.divide(1, inverse, out=np.zeros_like(inverse), where=is_solid)
        across = (columns + self._posture.real - np.float32(camera.cx)) * depth / np.float32(camera.focal_px)
        down = (rows + self._posture.imag - np.float32(camera.horizon_px)) * depth / np.float32(camera.focal_px)
        cos, sin, shift_x, shift_z = np.array(self._moves, np.float32).T[:, self._owner]
        across_before, depth_before = cos * across + sin * depth + shift_x, cos * depth - sin * across + shift_z
        was_ahead = is_solid & (depth_before > NEAR_M)
        scale = np.divide(
            np.float32(before.focal_px), depth_before, out=np.zeros_like(depth), where=was_ahead
        )  # pixels per metre
        flow = np.stack(
            (
                scale * across_before + np.float32(before.cx) - columns,
                scale * down + np.float32(before.horizon_px) - rows,
            ),
            axis=-1,
        )
        flow[~was_ahead] = 0
        flow[~is_solid & ~ego] = sky_flow
        motion = np.array(self._is_moving, np.uint8)[self._owner]
        motion[semantic == IGNORE_ID] = IGNORE_ID
        return Geometry(depth, flow, motion)
