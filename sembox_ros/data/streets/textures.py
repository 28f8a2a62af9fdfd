"""Textures painted from noise: facades, walls, fences, leaves and clouds. All rgb, 20 px per metre unless told."""

from __future__ import annotations

import cv2
import numpy as np

PX_PER_M = 20


class Texture:
    """An RGBA image with smaller copies, shrunk in each direction on its own (far panels are seen at a slant)."""

    def __init__(self, rgba: np.ndarray) -> None:
        """Wrap (h, w, 4) uint8; where any alpha is below 255, pixels with alpha < 128 are holes."""
        self.rgba = np.ascontiguousarray(rgba)
        self.has_holes = bool((rgba[..., 3] < 255).any())
        self._levels: dict[tuple[int, int], np.ndarray] = {(0, 0): self.rgba}

    def sized(self, width_px: float, height_px: float) -> np.ndarray:
        """Return the copy (h, w, 4) uint8 that is just not smaller than the size at which it will be seen."""
        high, wide = self.rgba.shape[:2]
        level_x = int(np.clip(np.log2(wide / max(width_px, 1.0)), 0, np.log2(wide)))
        level_y = int(np.clip(np.log2(high / max(height_px, 1.0)), 0, np.log2(high)))
        if (level_x, level_y) not in self._levels:
            size = (max(wide >> level_x, 1), max(high >> level_y, 1))
            self._levels[level_x, level_y] = cv2.resize(self.rgba, size, interpolation=cv2.INTER_AREA)
        return self._levels[level_x, level_y]


def noise(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 4) -> np.ndarray:
    """Cloudy noise (height, width) float32, about -1..1, with `cells` bumps along the longer side at its coarsest."""
    total = np.zeros((height, width), np.float32)
    weight, longer = 1.0, max(height, width)
    for _ in range(octaves):
        grid = (max(2, round(cells * height / longer)), max(2, round(cells * width / longer)))
        coarse = rng.uniform(-1, 1, grid).astype(np.float32)
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, cells = weight * 0.55, min(cells * 2.1, longer)
    return total / 1.3


def _with_alpha(rgb: np.ndarray, alpha: np.ndarray | None = None) -> Texture:
    rgba = cv2.cvtColor(np.clip(rgb, 0, 255).astype(np.uint8), cv2.COLOR_RGB2RGBA)
    if alpha is not None:
        rgba[..., 3] = alpha
    return Texture(rgba)


def _masonry(rng: np.random.Generator, image: np.ndarray, height_m: float, width_m: float) -> None:
    """Draw brick or stone joints over the image (h, w, 3) float32, in place."""
    rows, step = image.shape[0], max(2, round(height_m * PX_PER_M))
    brick = max(3, round(width_m * PX_PER_M))
    for index, top in enumerate(range(0, rows, step)):
        image[top] *= 0.86
        gains = rng.uniform(0.9, 1.08, image.shape[1] // brick + 2).repeat(brick)
        shift = (index % 2) * brick // 2
        image[top : top + step] *= gains[shift : shift + image.shape[1], None]
        image[top : top + step, shift::brick] *= 0.88


# Some are as green as leaves and some as pale as the sky, so that a colour alone does not tell a house.
FACADE_COLORS = (
    (176, 96, 74), (196, 172, 138), (150, 148, 144), (206, 178, 112), (218, 214, 204), (160, 180, 200),
    (170, 128, 110), (106, 120, 76), (188, 150, 150), (132, 152, 92), (98, 84, 78), (224, 198, 170),
)  # fmt: skip


def _window(rng: np.random.Generator, image: np.ndarray, box: tuple[int, int, int, int], frame: np.ndarray) -> None:
    """One window with frame, sky reflection, curtain and sill, drawn in place; box is x0 y0 x1 y1."""
    x0, y0, x1, y1 = box
    cv2.rectangle(image, (x0 - 1, y0 - 1), (x1 + 1, y1 + 1), frame.tolist(), -1)
    ramp = np.linspace(rng.uniform(1.1, 1.9), 0.75, y1 - y0, dtype=np.float32)[:, None, None]
    glass = np.array((46, 56, 66), np.float32) * rng.uniform(0.7, 1.4)
    image[y0:y1, x0:x1] = glass * ramp
    mood = rng.random()
    if mood < 0.25:
        image[y0 : y0 + (y1 - y0) * int(rng.integers(2, 9)) // 10, x0:x1] = rng.uniform(120, 205)
    elif mood < 0.32:
        image[y0:y1, x0:x1] = (214, 184, 120)
    image[y0:y1, (x0 + x1) // 2] = frame
    image[min(y1 + 1, image.shape[0] - 1), max(x0 - 2, 0) : x1 + 3] = np.minimum(frame * 1.15, 235)


def facade(rng: np.random.Generator) -> tuple[Texture, float, float]:
    """Paint a house front; returns its texture, width and height in metres."""
    floors, floor_m = int(rng.integers(2, 7)), rng.uniform(2.9, 3.5)
    columns, bay_m = int(rng.integers(3, 7)), rng.uniform(1.9, 3.0)
    ground_m, top_m = rng.uniform(3.4, 4.2), rng.uniform(0.5, 1.1)
    width_m, height_m = columns * bay_m + 0.8, ground_m + (floors - 1) * floor_m + top_m
    wide, high = round(width_m * PX_PER_M), round(height_m * PX_PER_M)
    wall = np.array(FACADE_COLORS[rng.integers(len(FACADE_COLORS))], np.float32) * rng.uniform(0.8, 1.08)
    image = np.full((high, wide, 3), wall, np.float32)
    if rng.random() < 0.4:
        _masonry(rng, image, 0.15, 0.4)
    image *= 1.0 + 0.07 * noise(rng, high, wide, 5)[..., None]
    frame = np.array((225, 222, 214), np.float32) * rng.uniform(0.25, 1.0)
    window_w, window_h = bay_m * rng.uniform(0.38, 0.8), floor_m * rng.uniform(0.45, 0.66)
    for floor in range(1, floors):
        sill = high - round((ground_m + (floor - 1) * floor_m + 0.9) * PX_PER_M)
        if rng.random() < 0.5:
            image[sill + round(0.85 * PX_PER_M) : sill + round(0.98 * PX_PER_M)] *= 0.8
        for column in range(columns):
            left = round((0.4 + (column + 0.5) * bay_m - window_w / 2) * PX_PER_M)
            box = (left, max(sill - round(window_h * PX_PER_M), 2), left + round(window_w * PX_PER_M), sill)
            _window(rng, image, box, frame)
    _ground_floor(rng, image, columns, bay_m, ground_m, frame)
    edge = round(top_m * PX_PER_M * 0.5)
    image[:edge] = np.minimum(wall * rng.uniform(0.6, 1.2), 240)
    image[edge : edge + 2] *= 0.6
    image[-8:] *= 0.72
    return _with_alpha(image), width_m, height_m


def _ground_floor(
    rng: np.random.Generator, image: np.ndarray, columns: int, bay_m: float, ground_m: float, frame: np.ndarray
) -> None:
    """Shop windows with a sign band, or doors and windows, drawn in place into the lowest floor."""
    high, px = image.shape[0], PX_PER_M
    shop = rng.random() < 0.45
    if shop:
        band = high - round((ground_m - 0.25) * px)
        image[band : band + round(0.6 * px)] = rng.uniform(30, 220, 3)
        for _ in range(int(rng.integers(2, 6))):
            left = int(rng.integers(4, max(5, image.shape[1] - 30)))
            image[band + 4 : band + 9, left : left + int(rng.integers(8, 26))] = rng.uniform(140, 250)
    door = int(rng.integers(columns))
    for column in range(columns):
        middle = (0.4 + (column + 0.5) * bay_m) * px
        if column == door:
            top, opening = high - round(2.25 * px), slice(round(middle - 0.5 * px), round(middle + 0.5 * px))
            image[top:, opening] = rng.uniform(30, 120, 3)
            image[top, opening] = frame
            continue
        half, low, tall = (bay_m * 0.42, 0.5, 2.2) if shop else (bay_m * 0.25, 1.0, 1.5)
        sill = high - round(low * px)
        box = (round(middle - half * px), sill - round(tall * px), round(middle + half * px), sill)
        _window(rng, image, box, frame)


def side_wall(rng: np.random.Generator) -> Texture:
    """Paint a nearly blank gable wall."""
    image = np.full((200, 200, 3), rng.uniform(150, 235), np.float32)
    if rng.random() < 0.5:
        _masonry(rng, image, 0.2, 0.4)
    image *= 1.0 + 0.1 * noise(rng, 200, 200, 4)[..., None]
    for _ in range(int(rng.integers(0, 5))):
        left, top = (int(v) for v in rng.integers(20, 150, 2))
        _window(rng, image, (left, top, left + 20, top + 28), np.full(3, 200, np.float32))
    return _with_alpha(image)


def free_wall(rng: np.random.Generator) -> Texture:
    """Paint a free-standing wall of brick, stone or concrete, sometimes sprayed on."""
    image = np.full((44, 320, 3), (170, 164, 154), np.float32) * rng.uniform(0.7, 1.1)
    image *= np.array(((1, 1, 1), (1.1, 0.8, 0.68), (1.05, 0.98, 0.86))[rng.integers(3)], np.float32)
    if rng.random() < 0.7:
        _masonry(rng, image, rng.uniform(0.15, 0.4), rng.uniform(0.35, 0.8))
    else:
        image[:, ::64] *= 0.7
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(2, 6))):
            points = np.cumsum(rng.integers(-14, 15, (7, 2)), axis=0) + np.array((rng.integers(20, 280), 24))
            cv2.polylines(image, [points.astype(np.int32)], False, rng.uniform(20, 230, 3).tolist(), 2)
    image *= 1.0 + 0.14 * noise(rng, 44, 320, 12)[..., None]
    image[:4] = np.minimum(image[:4] * 1.2, 235)
    return _with_alpha(image)


def fence(rng: np.random.Generator) -> Texture:
    """Planks, pickets or a railing; more filled than open, so that far copies do not vanish."""
    high, wide = 32, 320
    image = np.full((high, wide, 3), 1.0, np.float32) * np.array(
        ((150, 112, 78), (205, 202, 196), (70, 84, 78), (112, 118, 122))[rng.integers(4)], np.float32
    )
    step = int(rng.integers(5, 10))
    bar = max(2, round(step * rng.uniform(0.55, 0.85)))
    holes = (np.arange(wide) % step >= bar)[None, :] & np.ones((high, 1), bool)
    rails = np.zeros((high, 1), bool)
    rails[[3, 4, 5, 24, 25, 26]] = True
    holes &= ~rails
    gains = rng.uniform(0.82, 1.1, wide // step + 1).repeat(step)[:wide]
    image *= gains[None, :, None]
    image[:, ::step] *= 0.75
    image *= 1.0 + 0.1 * noise(rng, high, wide, 20)[..., None]
    top = (np.arange(high) < 2)[:, None] & (np.arange(wide) % (2 * step) < step)[None, :]
    return _with_alpha(image, np.where(holes | top, 0, 255))


def _leaf_colors(rng: np.random.Generator) -> np.ndarray:
    palette = ((96, 128, 58), (118, 144, 62), (74, 108, 66), (146, 150, 68), (176, 122, 64), (124, 130, 108))
    return np.array(palette[rng.choice(6, p=(0.22, 0.2, 0.2, 0.1, 0.14, 0.14))], np.float32) * rng.uniform(0.6, 1.15)


def tree(rng: np.random.Generator) -> Texture:
    """Paint a tree in front of nothing: trunk and crown, 160 x 224 px, meant for about 5 x 7 m."""
    high, wide = 224, 160
    rows, columns = np.mgrid[0:high:2, 0:wide:2].astype(np.float32)  # blobs are smooth: half size will do
    alpha, light = np.full_like(rows, -9.0), np.zeros_like(rows)
    crown_w, crown_h = rng.uniform(38, 52), rng.uniform(46, 62)
    for _ in range(int(rng.integers(14, 24))):
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * 0.8
        cx, cy = 80 + np.cos(angle) * reach * crown_w, 88 + np.sin(angle) * reach * crown_h
        radius = rng.uniform(16, 28)
        blob = 1.0 - ((columns - cx) ** 2 + (rows - cy) ** 2) / radius**2
        light = np.where(blob > alpha, (cy - rows) / radius * 0.5 + (80 - cy) / 160 + 0.1, light)
        alpha = np.maximum(alpha, blob)
    alpha, light = cv2.resize(alpha, (wide, high)), cv2.resize(light, (wide, high))
    rows, columns = np.arange(high, dtype=np.float32)[:, None], np.arange(wide, dtype=np.float32)
    speckle = noise(rng, high, wide, 26, 3)
    leaves = alpha + 0.28 * np.clip(speckle, -1, 0.6) > 0.1
    image = np.full((high, wide, 3), (84, 70, 56), np.float32) * rng.uniform(0.6, 1.2)
    image *= (1.0 + 0.3 * np.sin(columns * 1.3 + speckle * 2))[..., None]
    trunk = np.abs(columns - 80 - 3 * np.sin(rows / 30)) < 4 + 3 * np.clip((rows - 190) / 34, 0, 1)
    gain = np.clip(0.9 + 0.5 * light + 0.32 * noise(rng, high, wide, 60, 2), 0.3, 1.7)
    image[leaves] = (_leaf_colors(rng) * gain[..., None])[leaves]
    return _with_alpha(image, np.where(leaves | (trunk & (rows > 90)), 255, 0))


def hedge(rng: np.random.Generator) -> Texture:
    """Paint a clipped or wild hedge with an uneven top, 256 x 64 px."""
    high, wide = 64, 256
    leaves = (
        _leaf_colors(rng)
        * np.clip(1.15 - np.linspace(0, 0.6, high)[:, None] + 0.4 * noise(rng, high, wide, 70, 3), 0.25, 1.7)[..., None]
    )
    top = 6 + rng.uniform(1, 6) * noise(rng, 1, wide, 14, 3).ravel()
    return _with_alpha(leaves, np.where(np.arange(high)[:, None] < top[None, :], 0, 255))
