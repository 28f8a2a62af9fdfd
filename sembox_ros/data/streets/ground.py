"""The ground and the sky: everything behind the objects.

The ground is one picture in road axes (lateral x along-road), repeated along the road, of which each image row
picks a copy that is shrunk along the road as its distance demands.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from sembox_ros.data.streets.camera import Camera, Light
from sembox_ros.data.streets.canvas import Canvas, owner_of
from sembox_ros.data.streets.classes import BUILDING, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION
from sembox_ros.data.streets.layout import PERIOD_M, Layout, Road
from sembox_ros.data.streets.textures import noise

HALF_M = 26.0  # lateral half width of the ground picture; beyond it the picture is mirrored
FAR_M = 900.0

SURFACES: dict[str, int] = {
    'asphalt': ROAD,
    'bike': ROAD,
    'setts': ROAD,
    'gutter': ROAD,
    'rails': ROAD,
    'curb': SIDEWALK,
    'slabs': SIDEWALK,
    'grass': TERRAIN,
    'dirt': TERRAIN,
}


def _surface_color(rng: np.random.Generator, surface: str, asphalt: np.ndarray) -> np.ndarray:
    """Return a plausible colour; ranges of different surfaces overlap on purpose."""
    if surface in ('asphalt', 'rails'):
        return asphalt
    if surface == 'bike':
        return np.array((150, 84, 72)) * rng.uniform(0.7, 1.0) if rng.random() < 0.4 else asphalt * 1.04
    base = {'setts': (118, 114, 110), 'gutter': (120, 118, 114), 'curb': (168, 166, 160), 'slabs': (150, 146, 138),
            'grass': (106, 116, 68), 'dirt': (146, 124, 94)}[surface]  # fmt: skip
    color = np.array(base) * rng.uniform(0.8, 1.12) * rng.uniform(0.95, 1.05, 3)
    # Dry grass meets trodden earth and worn slabs meet asphalt: the colour alone must not tell the surface.
    drab, share = {'grass': ((134, 122, 98), 0.9), 'dirt': ((140, 130, 116), 0.9), 'slabs': ((112, 110, 108), 0.9),
                   'curb': ((120, 118, 116), 0.9)}.get(surface, ((0, 0, 0), 0.0))  # fmt: skip
    return color + (np.array(drab) * rng.uniform(0.75, 1.1) - color) * rng.uniform(0.0, share)


class Ground:
    """The painted ground of one street."""

    def __init__(self, rng: np.random.Generator, layout: Layout, road: Road, coarse: int) -> None:
        """Paint it; `coarse` (1, 2, ...) makes texels larger for small images."""
        self._road = road
        self._texel = (0.04 * coarse, 0.08 * coarse)  # lateral, along
        wide, high = round(2 * HALF_M / self._texel[0]), round(PERIOD_M / self._texel[1])
        picture = self._paint(rng, layout, high, wide)
        self._levels = []
        for shrink, narrow in ((1, 1), (3, 1), (10, 1), (30, 2), (100, 4)):
            size = (wide // narrow, max(high // shrink, 4))
            level = picture if shrink == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            self._levels.append(np.concatenate((level, level[:1])))  # wraps around along the road
        places = (np.arange(wide) + 0.5) * self._texel[0] - HALF_M
        edges = np.array([strip.left for strip in layout.strips[1:]])
        classes = np.array([SURFACES[strip.surface] for strip in layout.strips], np.int32)
        self._owners = owner_of(0, 0) + classes[np.searchsorted(edges, places, side='right')]

    def _paint(self, rng: np.random.Generator, layout: Layout, high: int, wide: int) -> np.ndarray:
        """Paint the picture (high, wide, 3) uint8 in surface colours, without light."""
        asphalt = rng.uniform(84, 132) * np.array((1.0, rng.uniform(0.98, 1.01), rng.uniform(0.96, 1.05)))
        picture = np.zeros((high, wide, 3), np.float32)
        step_x, step_z = self._texel
        grain = noise(rng, high, wide, wide / 6, 2)
        patches = noise(rng, high, wide, 9, 3)
        speck = rng.standard_normal((high, wide), np.float32)
        for strip in layout.strips:
            x0, x1 = (int(np.clip(round((x + HALF_M) / step_x), 0, wide)) for x in (strip.left, strip.right))
            if x0 >= x1:
                continue
            part = picture[:, x0:x1]
            color = _surface_color(rng, strip.surface, asphalt).astype(np.float32)
            rough = 0.2 if SURFACES[strip.surface] == TERRAIN else 0.06
            uneven = rough * (grain[:, x0:x1] + 0.8 * speck[:, x0:x1]) + (0.4 * rough + 0.025) * patches[:, x0:x1]
            uneven += 1.0
            part[:] = cv2.merge([uneven * channel for channel in color])  # far faster than broadcasting over channels
            if strip.surface in ('slabs', 'setts'):
                joint = 1.0 if strip.surface == 'slabs' else 0.35
                part[:: max(2, round(joint / step_z))] *= 0.84
                part[:, :: max(2, round(joint * 0.7 / step_x))] *= 0.86
            if strip.surface in ('curb', 'gutter'):
                part[:: max(2, round(1.0 / step_z))] *= 0.85
            if strip.surface == 'rails':
                for offset in (0.9, 2.35):
                    left = round(offset / step_x)
                    part[:, left : left + max(1, round(0.12 / step_x))] = (168, 166, 164)
                    part[:, left + max(1, round(0.12 / step_x))] *= 0.5
        self._paint_marks(rng, picture, layout, asphalt)
        return np.clip(picture, 0, 255, out=picture).astype(np.uint8)

    def _paint_marks(self, rng: np.random.Generator, picture: np.ndarray, layout: Layout, asphalt: np.ndarray) -> None:
        """Lane lines, zebra crossing, repairs, manhole covers and tyre tracks, drawn in place."""
        step_x, step_z = self._texel
        high = len(picture)

        def column(place: float) -> int:
            return round((place + HALF_M) / step_x)

        left, right = -layout.left.curb, layout.right.curb
        for _ in range(int(rng.integers(2, 9))):
            first, top = column(float(rng.uniform(left, right - 2))), int(rng.integers(0, high - 10))
            tall, broad = round(rng.uniform(1, 9) / step_z), round(rng.uniform(0.6, 2.0) / step_x)
            picture[top : top + tall, first : first + broad] *= rng.uniform(0.8, 1.12)
        for _ in range(int(rng.integers(2, 7))):
            center = (column(float(rng.uniform(left + 1, right - 1))), int(rng.integers(10, high - 10)))
            axes = (max(1, round(0.34 / step_x)), max(1, round(0.34 / step_z)))
            cv2.ellipse(picture, center, axes, 0, 0, 360, (asphalt * 0.58).tolist(), -1)
        for lane in (*(-x for x in layout.left.lanes), *layout.right.lanes):
            for track in (lane - 0.75, lane + 0.75):
                picture[:, column(track - 0.2) : column(track + 0.2)] *= 0.95
        white = np.array((226, 224, 216), np.float32) * rng.uniform(0.84, 1.02)
        worn = np.clip(0.86 + 0.3 * noise(rng, high, 8, 40)[:, :1, None], 0.35, 1.0)
        along = (np.arange(high) + 0.5) * step_z
        for x, dash in layout.lines:
            shown = np.ones(high, bool) if dash == 0 else along % (2.0 * dash) < dash
            shown = (shown[:, None, None] * worn).astype(np.float32)
            part = picture[:, column(x - 0.07) : max(column(x + 0.07), column(x - 0.07) + 1)]
            part += (white - part) * shown
        if layout.zebra_z is not None:
            rows = slice(round(layout.zebra_z / step_z), round((layout.zebra_z + 3.6) / step_z))
            for stripe in np.arange(left + 0.3, right - 0.5, 1.0).tolist():
                part = picture[rows, column(stripe) : column(stripe + 0.5)]
                part += (white - part) * worn[rows]
            stop = slice(round((layout.zebra_z - 1.6) / step_z), round((layout.zebra_z - 1.2) / step_z))
            picture[stop, column(0.1) : column(right - 0.4)] = white

    def draw(self, canvas: Canvas, light: Light, shadow: np.ndarray) -> None:
        """Fill the part below the horizon; `shadow` (H, W) uint8 is the share of light taken away."""
        camera = canvas.camera
        high, wide = camera.size_hw
        first = max(int(np.floor(camera.horizon_px)) + 1, 0)
        if first >= high:
            return
        rows = np.arange(first, high)
        depth = np.minimum(camera.focal_px * camera.height / (rows - camera.horizon_px), FAR_M).astype(np.float32)
        place, along = self._locate(camera, depth)
        map_x = (place + np.float32(HALF_M)) * np.float32(1.0 / self._texel[0])
        index = np.clip(map_x, 0, len(self._owners) - 1).astype(np.int32)
        canvas.owner[first:] = self._owners[index]
        along -= np.float32(PERIOD_M) * np.floor(along * np.float32(1.0 / PERIOD_M))
        color = np.empty((high - first, wide, 3), np.uint8)
        footprint = depth * depth / (camera.focal_px * camera.height) / self._texel[1]  # texels along per row
        choice = np.digitize(footprint, (1.8, 5.0, 17.0, 55.0))
        for level in np.unique(choice):
            picked = np.flatnonzero(choice == level)
            span = slice(int(picked[0]), int(picked[-1]) + 1)  # depth falls along the rows, so levels are contiguous
            picture = self._levels[level]
            narrow = np.float32(picture.shape[1] / len(self._owners))
            x_texel = map_x[span] * narrow - np.float32(0.5)
            z_texel = along[span] * np.float32((len(picture) - 1) / PERIOD_M) - np.float32(0.5)
            mode = cv2.BORDER_REFLECT
            color[span] = cv2.remap(picture, x_texel, np.maximum(z_texel, 0), cv2.INTER_LINEAR, borderMode=mode)
        self._shade(color, light, depth, shadow[first:])
        cv2.cvtColor(color, cv2.COLOR_RGB2RGBA, dst=canvas.color[first:])

    def _locate(self, camera: Camera, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lateral and along-road place (rows, W) float32, metres, of every ground pixel at those depths (rows,)."""
        across = ((np.arange(camera.size_hw[1]) - camera.cx) / camera.focal_px).astype(np.float32)[None, :]
        sin, cos = np.float32(np.sin(camera.yaw)), np.float32(np.cos(camera.yaw))
        ahead = depth.astype(np.float64) * np.cos(camera.yaw) + camera.z  # z in the middle column
        sideways = depth[:, None] * across
        # The road bends so little across one row that its tangent will do.
        step = 1.0
        center = self._road.centers(ahead)
        slope = ((self._road.centers(ahead + step) - self._road.centers(ahead - step)) / (2 * step)).astype(np.float32)
        base = (camera.x + depth * np.sin(camera.yaw) - center).astype(np.float32)
        place = sideways * (cos + slope * sin)[:, None]
        place += base[:, None]
        along = sideways * -sin
        along += ahead.astype(np.float32)[:, None]
        return place, along

    @staticmethod
    def _shade(color: np.ndarray, light: Light, depth: np.ndarray, shadow: np.ndarray) -> None:
        """Apply sun, shadow and haze to the lit ground (rows, W, 3) uint8, in place."""
        gain = light.gains(np.array(((0.0, 1.0, 0.0),)))[0]
        haze = light.haze_at(depth).astype(np.float32)[:, None, None]
        cv2.multiply(color, cv2.merge((255 - shadow,) * 3), dst=color, scale=1.0 / 255.0)
        out = color * ((1.0 - haze) * gain.astype(np.float32))  # (rows, W, 3), factors (rows, 1, 3)
        out += haze * light.haze_rgb.astype(np.float32)
        np.minimum(out, 255.0, out=out)
        color[:] = out


class Sky:
    """Sky and a far skyline on a strip wider than the image, which slides as the camera turns."""

    def __init__(
        self, rng: np.random.Generator, light: Light, size_hw: tuple[int, int], focal_px: float, lowest_px: float
    ) -> None:
        """Paint it for one image size, as far up as the image reaches when the horizon is at row `lowest_px`."""
        high, wide = size_hw
        self._margin = round(0.25 * focal_px)
        whole = high + round(0.1 * focal_px)  # rows above the horizon
        self._up = min(max(math.floor(lowest_px) + 2, 1), whole)  # those that can be seen; only they are painted
        span = wide + 2 * self._margin
        height = np.linspace(1.0, 0.0, whole, dtype=np.float32)[whole - self._up :, None]
        cover = rng.uniform(-0.5, 0.6)
        zenith = np.array((92, 136, 190)) * rng.uniform(0.85, 1.1) * (1.0 if light.shadow > 0.2 else 0.0)
        if light.shadow <= 0.2:
            zenith, cover = np.full(3, rng.uniform(165, 205)), rng.uniform(0.2, 0.8)
        clouds = cv2.resize(noise(rng, whole // 3 + 1, span // 3 + 1, 7, 5), (span, whole))[whole - self._up :]
        dense = np.clip((clouds + cover) * 1.4, 0, 1) * np.clip(height * 3.0, 0.1, 1.0)
        bright = np.clip(236 + 26 * clouds, 190, 252)
        clear = np.minimum(height * 2.2, 1.0) ** 0.7
        self._picture = np.full((self._up, span, 4), 255, np.uint8)
        for channel, (haze, blue, gain) in enumerate(zip(light.haze_rgb, zenith, (1.0, 1.0, 1.01), strict=True)):
            shade = haze + (blue - haze) * clear  # (rows, 1)
            self._picture[..., channel] = np.clip(shade + (bright * gain - shade) * dense * 0.8, 0, 255)
        self._owner = np.full((self._up, span), owner_of(SKY, 0), np.int32)
        self._paint_skyline(rng, light, focal_px)

    def _paint_skyline(self, rng: np.random.Generator, light: Light, focal_px: float) -> None:
        """Far trees and houses; they hide where the street's own houses come into sight."""
        span = self._picture.shape[1]
        woods = (0.034 + 0.012 * noise(rng, 1, span, 30, 4).ravel()) * focal_px
        blocks = np.zeros(span)
        at = 0
        while at < span:
            width = max(2, round(rng.uniform(0.02, 0.07) * focal_px))
            blocks[at : at + width] = rng.uniform(0.0, 0.062) * focal_px * (rng.random() < 0.6)
            at += width
        haze = float(light.haze_at(330.0))
        first = max(self._up - math.ceil(max(woods.max(), blocks.max())) - 1, 0)
        away = np.arange(self._up - first, 0, -1)[:, None]
        for tops, rgb, class_id in ((blocks, (140, 134, 130), BUILDING), (woods, (84, 100, 66), VEGETATION)):
            shown = away <= tops[None, :]
            color = np.array(rgb) * (1 - haze) * 0.9 + light.haze_rgb * haze
            self._picture[first:][shown] = (*np.clip(color, 0, 255).astype(np.uint8), 255)
            self._owner[first:][shown] = owner_of(class_id, 0)

    def draw(self, canvas: Canvas) -> None:
        """Fill the part above the horizon."""
        last, left = self._place(canvas.camera)
        window = (slice(self._up - last, self._up), slice(left, left + canvas.camera.size_hw[1]))
        canvas.color[:last] = self._picture[window]
        canvas.owner[:last] = self._owner[window]

    def flow(self, camera: Camera, before: Camera) -> tuple[int, int]:
        """How far away its points were in the image of the camera before, dx, dy in pixels."""
        (last, left), (last_before, left_before) = self._place(camera), self._place(before)
        return left - left_before, last_before - last

    def _place(self, camera: Camera) -> tuple[int, int]:
        """How many rows of the image it fills, and its first column that is seen."""
        last = min(max(int(np.floor(camera.horizon_px)) + 1, 0), camera.size_hw[0], self._up)
        slide = round(np.tan(camera.yaw) * camera.focal_px)
        return last, int(np.clip(self._margin + slide, 0, 2 * self._margin))
