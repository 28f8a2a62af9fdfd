"""Rendered drives through procedural streets, with pixel-exact labels.

Layout, objects and light come from the seed; see `world` for what there is, `canvas` for how it is drawn.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from sembox_ros.data.streets.camera import Camera, Light, clip_near, rotate
from sembox_ros.data.streets.canvas import Canvas, owner_of
from sembox_ros.data.streets.classes import UNLABELED
from sembox_ros.data.streets.geometry import GeometryBuffer, Pose
from sembox_ros.data.streets.ground import Ground, Sky
from sembox_ros.data.streets.items import Item
from sembox_ros.data.streets.kinds import KINDS
from sembox_ros.data.streets.layout import Road, create_layout
from sembox_ros.data.streets.roadside import Materials
from sembox_ros.data.streets.shapes import Mesh
from sembox_ros.data.streets.world import BEHIND_M, Crowd
from sembox_ros.errors import ConfigError

MIN_SIDE_PX = 32
TINY_SHARE = 1e-4  # 52 of 512 x 1024 pixels
_SHADOW_RANGE_M = 65.0
_NOD = 0.0022  # how far the car nods, radians
_NOISES = 1 << 32  # more than frames of any drive: that before the first takes the last


@dataclass(frozen=True)
class StreetFrame:
    """One rendered camera image and its exact labels.

    Attributes:
        image: (H, W, 3) uint8 rgb.
        semantic: (H, W) uint8 Cityscapes-19 train ids, 255 = unlabeled.
        instance: (H, W) int32, 0 = stuff or none, otherwise a track id that is stable over the sequence.
        boxes_xyxy: (N, 4) float32 tight boxes of the visible pixels of each thing, pixels; x1 and y1 are one past the
            last column and row.
        class_ids: (N,) int64 semantic ids of those things.
        track_ids: (N,) int64 their ids in `instance`, ascending.
        is_crowd: (N,) bool; True where less than `TINY_SHARE` of the image shows the thing. Annotators do not tell such
            specks apart either; neither training nor grading should ask for them.
        stamp_ns: nanoseconds since the first frame.
        ego: (H, W) bool, the camera's own bonnet; unlabeled in `semantic`.
        camera: where it is in the world, and how it projects.
        depth: (H, W) float32, as the next two None unless asked for; see `geometry.Geometry`.
        flow: (H, W, 2) float32.
        motion: (H, W) uint8.
    """

    image: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    track_ids: np.ndarray
    is_crowd: np.ndarray
    stamp_ns: int
    ego: np.ndarray
    camera: Camera
    depth: np.ndarray | None = None
    flow: np.ndarray | None = None
    motion: np.ndarray | None = None


def render_sequence(
    *, frames: int, size_hw: tuple[int, int], seed: int, rate_hz: float = 10.0, geometry: bool = False
) -> Iterator[StreetFrame]:
    """Drive down a street; the same arguments give identical arrays.

    A longer sequence of the same seed, size and rate begins with the shorter one.

    Args:
        frames: how many frames, at least 1.
        size_hw: image height and width, pixels, each at least 32.
        seed: which street, 0 or more.
        rate_hz: frames per second.
        geometry: also give depth, flow and motion, the first frame's since 1 / rate_hz seconds before; images and
            labels are the same.

    Returns:
        An iterator over the frames, rendered one by one.

    Raises:
        ConfigError: an argument is out of range.
    """
    if not _is_int(frames) or frames < 1:
        raise ConfigError(f'frames: expected an integer of at least 1, got {frames!r}')
    if not isinstance(rate_hz, (int, float, np.number)) or isinstance(rate_hz, bool) or not 0 < rate_hz < math.inf:
        raise ConfigError(f'rate_hz: expected a finite number above 0, got {rate_hz!r}')
    street = _Street(_checked_size(size_hw), _checked_seed(seed))
    return (street.render(index, float(rate_hz), geometry=geometry) for index in range(frames))


def render_street(*, size_hw: tuple[int, int], seed: int, geometry: bool = False) -> StreetFrame:
    """One still: the first frame of the sequence of that seed.

    Args:
        size_hw: image height and width, pixels, each at least 32.
        seed: which street, 0 or more.
        geometry: also give depth, flow and motion.

    Raises:
        ConfigError: an argument is out of range.
    """
    return next(render_sequence(frames=1, size_hw=size_hw, seed=seed, geometry=geometry))


def render_pair(*, size_hw: tuple[int, int], seed: int, rate_hz: float = 10.0) -> tuple[StreetFrame, np.ndarray]:
    """`render_street` with geometry, and the image (H, W, 3) uint8 that the camera took 1 / rate_hz seconds before.

    Raises:
        ConfigError: an argument is out of range.
    """
    street = _Street(_checked_size(size_hw), _checked_seed(seed))
    return street.render(0, rate_hz, geometry=True), street.render(-1, rate_hz, geometry=False).image


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _checked_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    fits = isinstance(size_hw, (tuple, list)) and len(size_hw) == 2 and all(_is_int(v) for v in size_hw)
    if not fits or min(size_hw) < MIN_SIDE_PX:
        raise ConfigError(f'size_hw: expected (height, width), integers of at least {MIN_SIDE_PX} px, got {size_hw!r}')
    return int(size_hw[0]), int(size_hw[1])


def _checked_seed(seed: int) -> int:
    if not _is_int(seed) or seed < 0:
        raise ConfigError(f'seed: expected an integer of at least 0, got {seed!r}')
    return int(seed)


def find_boxes(semantic: np.ndarray, instance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tight boxes (N, 4) float32 xyxy, class ids (N,) int64 and track ids (N,) int64 of an instance map (H, W)."""
    ys, xs = np.nonzero(instance)
    ids = instance[ys, xs]
    count = int(ids.max()) + 1 if len(ids) else 1
    low, high = np.full((2, count), np.iinfo(np.int64).max), np.zeros((2, count), np.int64)
    for axis, places in enumerate((xs, ys)):
        np.minimum.at(low[axis], ids, places)
        np.maximum.at(high[axis], ids, places + 1)
    classes = np.zeros(count, np.int64)
    classes[ids] = semantic[ys, xs]
    track_ids = np.flatnonzero(high[0]).astype(np.int64)
    boxes_xyxy = np.concatenate((low, high))[:, track_ids].T.astype(np.float32)
    return np.ascontiguousarray(boxes_xyxy), classes[track_ids], track_ids


@dataclass(frozen=True)
class Standing:
    """An item where it is in one frame: world place in metres, heading in radians.

    `seen` is false for what is beside the image and only casts its shadow into it.
    """

    item: Item
    mesh: Mesh
    x: float
    z: float
    yaw: float
    seen: bool


def cast_shadows(canvas: Canvas, standing: list[Standing]) -> np.ndarray:
    """Share of light (H, W) uint8 that objects take from the ground."""
    camera, light = canvas.camera, canvas.light
    high, wide = camera.size_hw
    mask = np.zeros((high, wide), np.uint8)
    sun = rotate(light.to_sun[None], -camera.yaw)[0] * (1.0, -1.0, 1.0) / light.to_sun[1]
    solid, contact = [], []
    for at in standing:
        if at.z - camera.z > _SHADOW_RANGE_M:
            continue
        for caster in at.mesh.casters:
            points = camera.place(caster, at.x, at.z, camera.yaw if at.mesh.faces_camera else at.yaw)
            above = camera.height - points[:, 1:2]
            solid.append(points - sun * above)
            if KINDS[at.item.kind].is_thing:
                contact.append(points * (1, 0, 1) + (0, camera.height, 0))
    for group, value in ((solid, light.shadow), (contact, max(light.shadow, 0.5))):
        for points in group:
            hull = cv2.convexHull(points[:, [0, 2]].astype(np.float32))[:, 0].astype(np.float64)
            outline = clip_near(np.stack((hull[:, 0], np.full(len(hull), camera.height), hull[:, 1]), axis=1))
            if len(outline) >= 3:
                pixels = np.clip(camera.project(outline), -20000, 20000)
                cv2.fillPoly(mask, [np.rint(pixels * 16).astype(np.int32)], round(255 * value), cv2.LINE_8, 4)
    sigma = max(0.5, 0.0022 * wide)
    first = max(int(camera.horizon_px), 0)
    mask[first:] = cv2.GaussianBlur(mask[first:], (0, 0), sigma) if first < high else 0
    return mask


class _Street:
    """One street, its camera and its sensor."""

    def __init__(self, size_hw: tuple[int, int], seed: int) -> None:
        # One generator for each part, so that the same seed is the same street at every image size.
        rng, paint, view, optics = (np.random.default_rng((seed, 0x5EED, part)) for part in range(4))
        self._size_hw, self._seed = size_hw, seed
        high, wide = size_hw
        self._focal_px = wide * float(rng.uniform(0.82, 1.05))
        self._horizon_px = high * float(rng.uniform(0.42, 0.5))
        self._eye_m = float(rng.uniform(1.3, 1.75))
        self._hood = float(rng.uniform(0.05, 0.1)) if rng.random() < 0.25 else 0.0
        self._speed = float(rng.uniform(6.0, 11.0))
        self._phases = rng.uniform(0, 2 * math.pi, 3)
        self._light = Light.create(rng)
        swing, wave, phase = rng.uniform((0.0, 260.0, 0.0), (5.0, 400.0, 2 * math.pi)).tolist()
        self._road = Road(swing, wave, phase)
        layout = create_layout(rng)
        self._lane = layout.right.lanes[int(rng.integers(len(layout.right.lanes)))]
        self._materials = Materials.create(rng)
        self._streams = Crowd(rng, layout, self._materials, self._lane, self._speed).streams(seed)
        self._ground = Ground(paint, layout, self._road, coarse=int(np.clip(1024 // wide, 1, 4)))
        lowest_px = self._horizon_px + self._focal_px * _NOD
        self._sky = Sky(view, self._light, size_hw, self._focal_px, lowest_px)
        self._sensor = _Sensor(optics, size_hw)
        self._meshes: dict[int, Mesh] = {}
        self._serials = self._tracks = 0

    def _number(self, item: Item) -> Item:
        self._serials += 1
        self._tracks += KINDS[item.kind].is_thing
        track_id = self._tracks if KINDS[item.kind].is_thing else 0
        return dataclasses.replace(item, serial=self._serials, track_id=track_id)

    def _camera_at(self, time_s: float) -> Camera:
        z, (p0, p1, p2) = self._speed * time_s, self._phases
        return Camera(
            size_hw=self._size_hw,
            focal_px=self._focal_px,
            cx=(self._size_hw[1] - 1) / 2,
            horizon_px=self._horizon_px + self._focal_px * _NOD * math.sin(2.3 * time_s + p2),
            x=self._road.center(z) + self._lane + 0.15 * math.sin(0.5 * time_s + p0),
            height=self._eye_m,
            z=z,
            yaw=self._road.heading(z + 8.0) + 0.014 * math.sin(0.45 * time_s + p1),
        )

    def _pose(self, item: Item, time_s: float) -> tuple[float, float, float]:
        """World x and z in metres, and heading in radians, of an item."""
        across, z = item.place_at(time_s)
        return self._road.center(z) + across, z, self._road.heading(z, max(item.length, 2.0)) + item.yaw

    def _mesh_of(self, item: Item, time_s: float) -> Mesh:
        kind = KINDS[item.kind]
        if kind.is_animated:
            return kind.build(item, self._materials, time_s)
        if item.serial not in self._meshes:
            self._meshes[item.serial] = kind.build(item, self._materials, time_s)
        return self._meshes[item.serial]

    def _standing(self, camera: Camera, time_s: float) -> list[Standing]:
        """Items that may be seen or cast shadows, nearest first."""
        items = [item for stream in self._streams for item in stream.around(camera.z, time_s, self._number)]
        for gone in self._meshes.keys() - {item.serial for item in items}:
            del self._meshes[gone]
        found = []
        for item in items:
            x, z, yaw = self._pose(item, time_s)
            kind = KINDS[item.kind]
            if not -BEHIND_M < z - camera.z < kind.range_m:
                continue
            reach = max(item.width, item.length, item.height)
            seen = camera.may_see(x, z, reach)
            if not seen and (kind.is_animated or not camera.may_see(x, z, reach + 2.0 * item.height)):
                continue
            found.append(Standing(item, self._mesh_of(item, time_s), x, z, yaw, seen))
        return sorted(found, key=lambda s: (s.z, s.item.serial))

    def render(self, index: int, rate_hz: float, *, geometry: bool) -> StreetFrame:
        """Render the frame of that index."""
        time_s, before_s = index / rate_hz, (index - 1) / rate_hz
        camera, before = self._camera_at(time_s), self._camera_at(before_s)
        buffer = GeometryBuffer(camera, before) if geometry else None
        canvas = Canvas(camera, self._light, buffer)
        standing = self._standing(camera, time_s)
        self._sky.draw(canvas)
        self._ground.draw(canvas, self._light, cast_shadows(canvas, standing))
        for at in standing:  # nearest first: what is hidden behind it is skipped early
            if at.seen:
                if buffer is not None:
                    mesh_before = self._mesh_of(at.item, before_s)
                    pose_before = Pose(mesh_before, *self._pose(at.item, before_s))
                    buffer.enter(Pose(at.mesh, at.x, at.z, at.yaw), pose_before)
                canvas.draw(at.mesh, at.x, at.z, at.yaw, at.item.track_id)
        ego = self._draw_hood(canvas)
        semantic, instance = canvas.labels()
        boxes_xyxy, class_ids, track_ids = find_boxes(semantic, instance)
        scene = cv2.cvtColor(canvas.color, cv2.COLOR_RGBA2RGB)
        frame = StreetFrame(
            image=self._sensor.expose(scene, np.random.default_rng((self._seed, 0xF11, index % _NOISES))),
            semantic=semantic,
            instance=instance,
            boxes_xyxy=boxes_xyxy,
            class_ids=class_ids,
            track_ids=track_ids,
            is_crowd=np.bincount(instance.ravel(), minlength=1)[track_ids] < TINY_SHARE * instance.size,
            stamp_ns=round(index * 1e9 / rate_hz),
            ego=ego,
            camera=camera,
        )
        if buffer is None:
            return frame
        known = buffer.measure(semantic, ego, self._sky.flow(camera, before))
        return dataclasses.replace(frame, depth=known.depth, flow=known.flow, motion=known.motion)

    def _draw_hood(self, canvas: Canvas) -> np.ndarray:
        """Draw the camera's own bonnet at the lower edge, unlabeled as in Cityscapes; where it is, (H, W) bool."""
        high, wide = self._size_hw
        ego = np.zeros((high, wide), bool)
        if not self._hood:
            return ego
        first = int(high * (1 - 2 * self._hood))
        for share, gain in ((1.0, 0.36), (0.55, 0.46)):
            mask = np.zeros((high - first, wide), np.uint8)
            axes = (round(wide * (0.52 + 0.1 * share)), max(2, round(high * self._hood * 2 * share)))
            cv2.ellipse(mask, (wide // 2, round(high * (1 + self._hood)) - first), axes, 0, 180, 360, 1, -1)
            canvas.color[first:][mask > 0] = (*np.clip(self._light.haze_rgb * gain, 0, 255).astype(np.uint8), 255)
            canvas.owner[first:][mask > 0] = owner_of(UNLABELED, 0)
            ego[first:] |= mask > 0
        return ego


class _Sensor:
    """Lens and sensor: slight blur, vignette, contrast, and noise."""

    def __init__(self, rng: np.random.Generator, size_hw: tuple[int, int]) -> None:
        high, wide = size_hw
        self._sigma = float(rng.uniform(0.45, 0.75)) * max(wide / 1024, 0.7)
        rows, columns = np.linspace(-1, 1, high)[:, None], np.linspace(-1, 1, wide)[None, :]
        fall = 255 * (1 - float(rng.uniform(0.04, 0.16)) * (rows**2 + columns**2) / 2)
        self._vignette = cv2.merge((fall.astype(np.uint8),) * 3)
        tone = np.arange(256) / 255.0
        bent = tone + float(rng.uniform(-0.04, 0.12)) * np.sin(2 * math.pi * (tone - 0.5)) / 2
        gammas, gains = rng.normal(1.0, 0.02, 3), rng.uniform(0.94, 1.04) * rng.normal(1.0, 0.015, 3)
        curves = [255 * gain * np.clip(bent, 0, 1) ** gamma for gamma, gain in zip(gammas, gains, strict=True)]
        self._curve = np.clip(np.stack(curves, axis=-1), 0, 255).astype(np.uint8)[None]
        self._level = float(rng.uniform(1.0, 3.0))
        self._grain = rng.normal(0, self._level, (high + 64, wide + 64, 3)).astype(np.int16)

    def expose(self, color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image (H, W, 3) uint8 of a drawn scene (H, W, 3) uint8."""
        image = cv2.GaussianBlur(color, (0, 0), self._sigma)
        image = cv2.multiply(image, self._vignette, scale=1.0 / 255.0)
        image = cv2.LUT(image, self._curve)
        top, left = (int(v) for v in rng.integers(0, 64, 2))
        grain = self._grain[top : top + color.shape[0], left : left + color.shape[1]]
        return cv2.add(image, grain, dtype=cv2.CV_8U)
