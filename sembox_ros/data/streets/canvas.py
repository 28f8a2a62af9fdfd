"""A depth-buffered canvas: colour, owner (class and instance) and inverse depth are written by the same mask.

That is what makes the label masks pixel exact: nothing is anti-aliased, and every write goes through `_write`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from sembox_ros.data.streets.camera import NEAR_M, Camera, Light, clip_near, rotate
from sembox_ros.data.streets.geometry import GeometryBuffer, Line, Window
from sembox_ros.data.streets.shapes import Mesh, Panel

Found = tuple[Window, np.ndarray, np.ndarray | np.float32]  # window, mask and inverse depth of what is to be written

_SHIFT = 4  # fractional bits of polygon corners, so that slow motion does not jump from pixel to pixel
_SMALLEST_PX = 1.8  # smaller details are left out, unless they are long
_THINNEST_PX = 0.25  # thinner strokes are left out
_FLAT_RATIO = 1.001  # polygons whose depths differ by less have one depth
_LAYER_BIAS = 1.002  # a later part of about the same depth wins: decals on a body, limbs on a torso


def owner_of(class_id: int, track_id: int) -> int:
    """Class and track in one int32, the inverse of `Canvas.labels`."""
    return (track_id << 8) | class_id


class _Part(NamedTuple):
    """A polygon or a stroke, projected and lit, ready to be rasterised."""

    order: int  # parts of one mesh are painted in this order
    outline: np.ndarray  # (n, 2) pixels
    window: Window
    depths: tuple[float, float]  # nearest and farthest, metres
    plane: np.ndarray | None  # (3,) see `Canvas._planes`; None for strokes, which have one depth
    thickness: int  # of a stroke, pixels; 0 for polygons
    color: np.ndarray  # (4,) uint8
    class_id: int
    line: Line | None = None  # of strokes, if the canvas has a geometry


def _trim(window: Window, keep: np.ndarray, inverse: np.ndarray | np.float32) -> Found:
    """Cut down to the rows and columns that `keep` reaches: half hidden panels are then cheap to texture."""
    rows, columns = np.flatnonzero(keep.any(axis=1)), np.flatnonzero(keep.any(axis=0))
    part = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    top, left = window[0].start, window[1].start
    inner = (slice(top + part[0].start, top + part[0].stop), slice(left + part[1].start, left + part[1].stop))
    return inner, keep[part], inverse[part] if isinstance(inverse, np.ndarray) else inverse


class Canvas:
    """The buffers of one frame and what can be drawn on them.

    Attributes:
        color: (H, W, 4) uint8 rgb and padding, so that a pixel is one 32-bit word to write.
        owner: (H, W) int32, see `owner_of`.
        geometry: if given, is told of every surface; whoever draws an object must let it `enter` there first.
    """

    def __init__(self, camera: Camera, light: Light, geometry: GeometryBuffer | None = None) -> None:
        high, wide = camera.size_hw
        self.camera = camera
        self.light = light
        self.geometry = geometry
        self.color = np.full((high, wide, 4), 255, np.uint8)
        self._words = self.color.view(np.uint32)[..., 0]
        self.owner = np.full((high, wide), owner_of(255, 0), np.int32)
        self._inverse_depth = np.zeros((high, wide), np.float32)
        self._columns = np.arange(wide, dtype=np.float32)
        self._rows = np.arange(high, dtype=np.float32)[:, None]

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Semantic (H, W) uint8 and instance (H, W) int32."""
        return (self.owner & 255).astype(np.uint8), self.owner >> 8

    def draw(self, mesh: Mesh, x: float, z: float, yaw: float, track_id: int) -> None:
        """Draw a mesh that stands at (x, z) metres, turned by `yaw`, as that track (0 for stuff)."""
        turn = self.camera.yaw if mesh.faces_camera else yaw
        if self._is_hidden(mesh, x, z, turn):
            return
        for panel in mesh.panels:
            self._draw_panel(panel, x, z, turn, track_id)
        parts = self._face_parts(mesh, x, z, turn) if mesh.faces else []
        if mesh.strokes:
            parts = sorted(parts + self._stroke_parts(mesh, x, z, turn), key=lambda part: part.order)
        for part in parts:
            found = self._mask_of(part)
            if found is not None:
                self._write(*found, part.color, owner_of(part.class_id, track_id))
                if self.geometry is not None and part.line is not None:
                    self.geometry.write_stroke(*found[:2], part.line)

    def _is_hidden(self, mesh: Mesh, x: float, z: float, yaw: float) -> bool:
        """Whether the whole mesh is behind the camera, beside the image, or behind what is already drawn."""
        corners = self.camera.place(mesh.corners, x, z, yaw)
        nearest = float(corners[:, 2].min())
        if nearest < NEAR_M:
            return float(corners[:, 2].max()) < NEAR_M
        pixels = self.camera.project(corners)
        window = self._window(pixels.min(axis=0), pixels.max(axis=0), 1.0)
        return window is None or float(self._inverse_depth[window].min()) > _LAYER_BIAS / nearest

    def _face_parts(self, mesh: Mesh, x: float, z: float, yaw: float) -> list[_Part]:
        """Return the faces of a mesh that look at the camera, in their order."""
        packed, camera = mesh.packed, self.camera
        points = camera.place(packed.vertices, x, z, yaw)
        normals = camera.turn(packed.normals, yaw)
        offsets = np.sum(normals * points[packed.starts], axis=1)  # plane: normal . p = offset; < 0 faces the camera
        visible = np.abs(offsets) > 1e-5 if mesh.two_sided else offsets < -1e-5
        nearest = np.minimum.reduceat(points[:, 2], packed.starts)
        farthest = np.maximum.reduceat(points[:, 2], packed.starts)
        visible &= farthest > NEAR_M
        pixels = camera.project(points * (1, 1, 0) + np.maximum(points[:, 2:], NEAR_M) * (0, 0, 1))
        low, high = np.minimum.reduceat(pixels, packed.starts), np.maximum.reduceat(pixels, packed.starts)
        clipped = nearest < NEAR_M
        inside = (high > -1).all(axis=1) & (low < (camera.size_hw[1], camera.size_hw[0])).all(axis=1)
        wide, tall = (high - low).T
        shows = (wide * tall > _SMALLEST_PX**2) | (np.maximum(wide, tall) > 3 * _SMALLEST_PX)
        picked = np.flatnonzero(visible & (clipped | (inside & shows)))
        if not len(picked):
            return []
        colors = self._face_colors(mesh, picked, offsets, np.maximum(points[packed.starts, 2], NEAR_M), yaw)
        planes = self._planes(normals[picked], offsets[picked])
        parts = []
        for index, color, plane in zip(picked.tolist(), colors, planes, strict=True):
            span, depths = packed.spans[index], (nearest[index], farthest[index])
            outline = pixels[span]
            if clipped[index]:
                outline, depths = camera.project(clip_near(points[span])), (NEAR_M, farthest[index])
                low[index], high[index] = outline.min(axis=0), outline.max(axis=0)
            window = self._window(low[index], high[index], 0.5)
            if window is not None:
                order, class_id = packed.orders[index], packed.class_ids[index]
                parts.append(_Part(order, outline, window, depths, plane, 0, color, class_id))
        return parts

    def _face_colors(
        self, mesh: Mesh, picked: np.ndarray, offsets: np.ndarray, depth: np.ndarray, yaw: float
    ) -> np.ndarray:
        """Lit and hazy colours (n, 4) uint8 of the picked faces (n,) of a mesh."""
        packed = mesh.packed
        toward = np.where(offsets[picked] > 0, -1.0, 1.0)[:, None]
        lit = self.light.gains(rotate(packed.normals[picked] * toward, yaw))
        gains = np.where(packed.glow[picked, None], 1.0, lit)
        haze = self.light.haze_at(depth[picked])[:, None]
        out = np.full((len(picked), 4), 255, np.uint8)
        out[:, :3] = np.minimum(packed.rgb[picked] * gains * (1.0 - haze) + self.light.haze_rgb * haze, 255.0)
        return out

    def _planes(self, normals: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Inverse depth of planes (N, 3) as a * column + b * row + c, (N, 3) float32."""
        camera = self.camera
        scaled = normals / offsets[:, None]
        scaled[:, :2] /= camera.focal_px
        scaled[:, 2] -= scaled[:, 0] * camera.cx + scaled[:, 1] * camera.horizon_px
        return scaled.astype(np.float32)

    def _mask_of(self, part: _Part) -> Found | None:
        """Rasterise a polygon or a stroke.

        Returns:
            Window, (h, w) mask of the pixels that win, and their inverse depth, (h, w) or one for all; or None.
        """
        window, depths, plane = part.window, part.depths, part.plane
        rows, columns = window
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        fixed = np.rint((part.outline - (columns.start, rows.start)) * (1 << _SHIFT)).astype(np.int32)
        if part.thickness:
            cv2.polylines(mask, [fixed], False, 1, part.thickness, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(mask, [fixed], 1, cv2.LINE_8, _SHIFT)
        near, far = np.float32(1.0 / depths[0]), np.float32(1.0 / depths[1])
        inverse = far
        if plane is not None and depths[1] > _FLAT_RATIO * depths[0]:
            inverse = plane[0] * self._columns[columns] + (plane[1] * self._rows[rows] + plane[2])
            # A polygon seen edge-on covers pixels beyond its true outline, where its plane would leave the object.
            np.maximum(inverse, far, out=inverse)
            np.minimum(inverse, near, out=inverse)
        keep = self._inverse_depth[window] <= inverse * np.float32(_LAYER_BIAS)
        keep &= mask.view(bool)
        return (window, keep, inverse) if keep.any() else None

    def _window(self, low: np.ndarray, high: np.ndarray, margin: float) -> Window | None:
        """Return the part of the image between two corners (x, y), or None when there is none."""
        rows, columns = self.camera.size_hw
        (left, top), (right, bottom) = low.tolist(), high.tolist()
        x0, y0 = max(math.floor(left - margin), 0), max(math.floor(top - margin), 0)
        x1, y1 = min(math.ceil(right + margin) + 1, columns), min(math.ceil(bottom + margin) + 1, rows)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def _write(
        self, window: Window, keep: np.ndarray, inverse: np.ndarray | np.float32, color: np.ndarray, owner: int
    ) -> None:
        """Change colour, owner and depth, which happens only here; `color` is (4,) or (h, w, 4) uint8."""
        np.copyto(self._inverse_depth[window], inverse, where=keep)
        np.copyto(self.owner[window], np.int32(owner), where=keep)
        np.copyto(self._words[window], color.view(np.uint32)[..., 0], where=keep)
        if self.geometry is not None:
            self.geometry.write(window, keep, inverse)

    def _stroke_parts(self, mesh: Mesh, x: float, z: float, yaw: float) -> list[_Part]:
        """Polylines of a mesh, as thick as their width at the mean depth of each."""
        packed, camera, light = mesh.packed_strokes, self.camera, self.light
        points = camera.place(packed.points, x, z, yaw)
        depth = np.maximum(points[:, 2:], NEAR_M)
        pixels = camera.project(np.concatenate((points[:, :2], depth), axis=1))
        mean = np.add.reduceat(depth[:, 0], packed.starts) / packed.counts
        exact = packed.widths * camera.focal_px / mean
        shows = (exact >= _THINNEST_PX) & (np.minimum.reduceat(points[:, 2], packed.starts) > NEAR_M)
        low, high = np.minimum.reduceat(pixels, packed.starts), np.maximum.reduceat(pixels, packed.starts)
        haze = light.haze_at(mean)[:, None]
        colors = np.full((len(mean), 4), 255, np.uint8)
        lit = packed.rgb * (light.sky_rgb + 0.5 * light.sun_rgb)
        colors[:, :3] = np.minimum(lit * (1.0 - haze) + light.haze_rgb * haze, 255.0)
        lines = self._lines(mesh, pixels, depth[:, 0], x, z, yaw)
        parts = []
        for index in np.flatnonzero(shows).tolist():
            thickness = max(1, round(exact[index]))
            window = self._window(low[index], high[index], thickness / 2 + 1)
            if window is not None:
                order, class_id, depths = packed.orders[index], packed.class_ids[index], (mean[index], mean[index])
                span = packed.spans[index]
                line = None if lines is None else Line(*(values[span] for values in lines))
                parts.append(_Part(order, pixels[span], window, depths, None, thickness, colors[index], class_id, line))
        return parts

    def _lines(self, mesh: Mesh, pixels: np.ndarray, depth: np.ndarray, x: float, z: float, yaw: float) -> Line | None:
        """All strokes of a mesh in one, of points that lie at those pixels (P, 2) and depths (P,)."""
        if self.geometry is None:
            return None
        before = self.camera.place(self.geometry.strokes_before(mesh), x, z, yaw)
        before[:, 2] = np.maximum(before[:, 2], NEAR_M)
        there = self.camera.project(before)
        return Line(pixels[:, 0] + 1j * pixels[:, 1], 1 / depth, there[:, 0] + 1j * there[:, 1])

    def _draw_panel(self, panel: Panel, x: float, z: float, yaw: float, track_id: int) -> None:
        camera = self.camera
        across, up, normal = camera.turn(panel.vectors, yaw)
        origin = camera.place(panel.origin[None], x, z, yaw)[0]
        corners = origin + np.stack((np.zeros(3), across, across + up, up))
        offset = float(normal @ origin)
        if corners[:, 2].max() < NEAR_M or abs(offset) < 1e-4:
            return
        visible = corners if corners[:, 2].min() >= NEAR_M else clip_near(corners)
        depths = (float(visible[:, 2].min()), float(visible[:, 2].max()))
        plane = self._planes(normal[None], np.array((offset,)))[0]
        outline = camera.project(visible)
        window = self._window(outline.min(axis=0), outline.max(axis=0), 0.5)
        if window is None:
            return
        found = self._mask_of(_Part(0, outline, window, depths, plane, 0, panel.tint, panel.class_id))
        if found is None:
            return
        window, keep, inverse = _trim(*found)
        colors = self._warp(panel, window, corners, across, up)
        if panel.texture.has_holes:
            keep &= colors[..., 3] >= 128
        toward = rotate((panel.vectors[2] if offset < 0 else -panel.vectors[2])[None], yaw)
        gain = self.light.gains(toward)[0] * panel.tint
        haze = float(self.light.haze_at(math.sqrt(depths[0] * depths[1])))
        matrix = np.zeros((4, 5))
        matrix[(0, 1, 2), (0, 1, 2)] = gain * (1.0 - haze)
        matrix[:3, 4] = self.light.haze_rgb * haze
        self._write(window, keep, inverse, cv2.transform(colors, matrix), owner_of(panel.class_id, track_id))

    def _warp(
        self, panel: Panel, window: tuple[slice, slice], corners: np.ndarray, across: np.ndarray, up: np.ndarray
    ) -> np.ndarray:
        """Return the panel's texture (h, w, 4) uint8 as the camera sees it in that window."""
        camera, (rows, columns) = self.camera, window
        if corners[:, 2].min() > NEAR_M:
            pixels = camera.project(corners)
            wide = max(np.linalg.norm(pixels[1] - pixels[0]), np.linalg.norm(pixels[2] - pixels[3]))
            texture = panel.texture.sized(float(wide), float(np.ptp(pixels[:, 1])))
        else:
            texture = panel.texture.rgba
        step_x, step_y = across / texture.shape[1], -up / texture.shape[0]
        focal, cx, cy = camera.focal_px, camera.cx - columns.start, camera.horizon_px - rows.start
        lens = np.array(((focal, 0.0, cx), (0.0, focal, cy), (0.0, 0.0, 1.0)))
        homography = lens @ np.stack((step_x, step_y, corners[3] + 0.5 * step_x + 0.5 * step_y), axis=1)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        return cv2.warpPerspective(texture, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
