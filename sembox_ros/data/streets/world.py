"""Who stands and who moves where: an endless street, made piece by piece from the seed as it comes into sight.

Everything belongs to a `Stream`: pieces of fixed length in a frame that moves along the road at one speed (0 for what
stands). Each piece is made from its own random numbers, so neither the number of frames nor the frame rate changes
it, and road users of one stream never run into each other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import numpy as np

from sembox_ros.data.streets.items import Item, Rgb
from sembox_ros.data.streets.layout import PERIOD_M, Layout, Side
from sembox_ros.data.streets.roadside import BUILDING_DEPTH_M, Materials

PIECE_M = PERIOD_M / 3
SIGHT_M = 300.0
BEHIND_M = 24.0
EGO_GAP_M = 9.0  # free road in front of and behind the camera's own car

_SCREENS = (('wall', 1.4, 2.6), ('fence', 0.9, 1.7), ('hedge', 0.9, 2.2))  # kind, lowest and highest, metres

Make = Callable[[np.random.Generator, float], list[Item]]

CAR_COLORS: tuple[Rgb, ...] = (
    (212, 212, 212), (36, 38, 42), (120, 124, 130), (168, 172, 176), (150, 28, 32), (36, 62, 122), (60, 76, 66),
    (196, 184, 160), (84, 104, 132), (228, 226, 220), (204, 152, 40), (92, 58, 46),
)  # fmt: skip
CLOTHES: tuple[Rgb, ...] = (
    (44, 48, 62), (150, 44, 48), (196, 190, 178), (58, 92, 128), (34, 34, 36), (96, 108, 78), (204, 162, 66),
    (120, 82, 110), (222, 222, 222), (132, 110, 88), (70, 130, 126),
)  # fmt: skip


def _pick(rng: np.random.Generator, colors: tuple[Rgb, ...]) -> Rgb:
    red, green, blue = np.clip(np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.85, 1.12), 0, 255)
    return (float(red), float(green), float(blue))


def _style(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 16))


def create_vehicle(rng: np.random.Generator, kind: str, x: float, z: float, yaw: float, speed: float) -> list[Item]:
    """Create a vehicle of that kind, and its rider where it has one."""
    u = rng.uniform
    sizes: dict[str, tuple[float, float, float]] = {
        'car': (u(1.7, 1.88), u(1.42, 1.6), u(4.0, 4.8)),
        'truck': (u(2.2, 2.5), u(2.9, 3.7), u(6.5, 9.5)),
        'bus': (2.5, u(3.0, 3.3), u(10.5, 12.0)),
        'tram': (2.4, u(3.3, 3.6), u(24.0, 32.0)),
        'motorcycle': (0.8, 1.2, 2.1),
        'bicycle': (0.6, 1.1, 1.7),
    }
    width, high, long = sizes[kind]
    style = _style(rng)
    if kind == 'car' and style % 4 >= 2:
        high *= 1.12 + 0.14 * (style % 4 == 3)
    accent: Rgb = (224.0, 224.0, 220.0) if kind == 'truck' and rng.random() < 0.5 else _pick(rng, CAR_COLORS)
    vehicle = Item(kind, x, z, yaw, width, high, long, _pick(rng, CAR_COLORS), accent, style, speed=speed)
    if kind not in ('motorcycle', 'bicycle') or speed == 0.0:
        return [vehicle]
    rider = dataclasses.replace(
        vehicle, kind='rider', height=float(u(1.6, 1.85)), rgb=_pick(rng, CLOTHES), accent=_pick(rng, CLOTHES),
        side=-1 if kind == 'motorcycle' else 1,
    )  # fmt: skip
    return [vehicle, rider]


def create_person(rng: np.random.Generator, x: float, z: float, yaw: float, speed: float = 0.0) -> Item:
    """Create a pedestrian."""
    tall = float(rng.uniform(1.15, 1.4) if rng.random() < 0.1 else rng.uniform(1.58, 1.9))
    return Item('person', x, z, yaw, 0.5, tall, 0.4, _pick(rng, CLOTHES), _pick(rng, CLOTHES), _style(rng), speed=speed)


class Stream:
    """Pieces of `piece_m` metres in a frame that moves at `speed` metres per second."""

    def __init__(self, seed: int, number: int, piece_m: float, speed: float, make: Make) -> None:
        """Name the random numbers by (`seed`, `number`); `make(rng, start_z)` fills a piece."""
        self._seed, self._number, self._piece_m, self._speed, self._make = seed, number, piece_m, speed, make
        self._pieces: dict[int, list[Item]] = {}

    def around(self, z: float, time_s: float, number: Callable[[Item], Item]) -> list[Item]:
        """All items near z at that time; `number` gives those that come into being their ids."""
        first = math.floor((z - BEHIND_M - self._speed * time_s) / self._piece_m)
        last = math.floor((z + SIGHT_M - self._speed * time_s) / self._piece_m)
        for gone in [index for index in self._pieces if index < first - 2 or index > last + 2]:
            del self._pieces[gone]
        for index in range(first, last + 1):
            if index not in self._pieces:
                rng = np.random.default_rng((self._seed, self._number, index + (1 << 20)))
                made = self._make(rng, index * self._piece_m)
                self._pieces[index] = [number(item) for item in made]
        return [item for index in range(first, last + 1) for item in self._pieces[index]]


class Crowd:
    """Fills the pieces of one street: its sides, lanes, sidewalks and crossings."""

    def __init__(
        self, rng: np.random.Generator, layout: Layout, materials: Materials, ego_lane: float, ego_speed: float
    ) -> None:
        """Draw how dense and of what kind the street is."""
        self._layout, self._materials = layout, materials
        self._ego_lane, self._ego_speed = ego_lane, ego_speed
        weights = ((0.86, 0.08, 0.06), (0.35, 0.45, 0.2), (0.12, 0.5, 0.38))  # built up, gardens, outskirts
        self._frontage = weights[rng.choice(3, p=(0.4, 0.35, 0.25))]
        self._traffic, self._parked = float(rng.uniform(0.25, 0.85)), float(rng.uniform(0.3, 0.9))
        self._walkers, self._greenery = float(rng.uniform(0.15, 1.0)), float(rng.uniform(0.1, 0.9))
        self._lamp_rgb = _pick(rng, ((126, 128, 130), (70, 84, 78), (48, 50, 54), (168, 168, 164)))
        self._tree_rgb = _pick(rng, ((235, 235, 235), (220, 235, 200), (240, 225, 190)))
        self._flat = bool(rng.random() < 0.5)

    def streams(self, seed: int) -> list[Stream]:
        """Everything that stands, then every lane and sidewalk in its own stream."""
        layout = self._layout
        out: list[Stream] = []

        def add(piece_m: float, speed: float, make: Make) -> None:
            out.append(Stream(seed, len(out), piece_m, speed, make))

        for sign, side in ((-1, layout.left), (1, layout.right)):
            for make in (self._make_front, self._make_walk, self._make_parked):
                add(PIECE_M, 0.0, partial(make, sign=sign, side=side))
            for index, lane in enumerate(side.lanes):
                ego = sign > 0 and lane == self._ego_lane
                speed = sign * self._ego_speed * (1.0 if ego else 1.05 + 0.13 * index * sign)
                add(22.0, speed, partial(self._make_lane, x=sign * lane, speed=speed, ego=ego))
            bike = side.curb - 0.5 if side.bike is None and side.parking is None else side.bike
            if bike is not None:
                add(18.0, sign * 4.6, partial(self._make_bikes, x=sign * bike, speed=sign * 4.6))
            for way in (-1, 1):
                x = sign * (side.walk[0] + (side.walk[1] - side.walk[0]) * (0.45 + 0.25 * way * sign))
                add(14.0, way * 1.35, partial(self._make_walkers, x=x, speed=way * 1.35))
        if layout.zebra_z is not None:
            add(PERIOD_M, 0.0, self._make_crossing)
        if layout.tram is not None:
            add(85.0, -9.0, self._make_tram)
        return out

    def _make_front(self, rng: np.random.Generator, start: float, sign: int, side: Side) -> list[Item]:
        """House fronts, or gardens and parks behind walls, fences and hedges, without gaps."""
        lots: list[tuple[str, int, float]] = []
        while sum(lot[2] for lot in lots) < PIECE_M - 4.0:
            style = _style(rng)
            use = ('house', 'garden', 'park')[rng.choice(3, p=self._frontage)]
            lots.append((use, style, self._materials.facades[style % len(self._materials.facades)][1]))
        scale, at, items = PIECE_M / sum(lot[2] for lot in lots), start, []
        for use, style, width in lots:
            long = width * scale
            items.extend(self._make_lot(rng, use, style, long, at + long / 2, sign, side))
            at += long
        return items

    def _make_lot(
        self, rng: np.random.Generator, use: str, style: int, long: float, z: float, sign: int, side: Side
    ) -> list[Item]:
        high = self._materials.facades[style % len(self._materials.facades)][2]
        tint = tuple(float(v) for v in rng.uniform(205, 255) * np.clip(rng.normal(1.0, 0.03, 3), 0.9, 1.0))
        gable = tuple(float(v) for v in rng.uniform(170, 235) * np.array((1.0, 0.97, 0.92)))
        house = Item('building', sign * side.front, z, 0.0, BUILDING_DEPTH_M, high, long * 1.004,
                     (tint[0], tint[1], tint[2]), (gable[0], gable[1], gable[2]), style, side=sign)  # fmt: skip
        if self._flat:
            house = dataclasses.replace(house, style=style - style % 3)
        if use == 'house':
            return [house]
        items = []
        kind, lowest, highest = _SCREENS[rng.integers(len(_SCREENS))]
        screen = dataclasses.replace(house, kind=kind, height=float(rng.uniform(lowest, highest)), style=_style(rng))
        if rng.random() < 0.9:
            items.append(screen)
        if use == 'garden':
            back = float(rng.uniform(4.0, 8.0))
            items.append(dataclasses.replace(house, x=sign * (side.front + back), length=long * rng.uniform(0.6, 0.85)))
        for _ in range(int(rng.integers(1, 3 if use == 'garden' else 5))):
            near, far = (1.5, 3.5) if use == 'garden' else (1.5, 14.0)
            x = sign * (side.front + float(rng.uniform(near, far)))
            items.append(self._tree(rng, x, z + float(rng.uniform(-0.45, 0.45)) * long))
        return items

    def _tree(self, rng: np.random.Generator, x: float, z: float) -> Item:
        high = float(rng.uniform(4.5, 9.5))
        gain = float(rng.uniform(0.8, 1.06))
        red, green, blue = (min(c * gain, 255.0) for c in self._tree_rgb)
        wide = high * float(rng.uniform(0.62, 0.8))
        return Item('tree', x, z, 0.0, wide, high, 1.0, (red, green, blue), style=_style(rng))

    def _near_zebra(self, z: float, margin: float) -> bool:
        zebra = self._layout.zebra_z
        return zebra is not None and -margin < z % PERIOD_M - zebra < 3.6 + margin

    def _make_walk(self, rng: np.random.Generator, start: float, sign: int, side: Side) -> list[Item]:
        """Lamps, trees, signs, bins, bollards, standing people, and parked two-wheelers on the sidewalk."""
        edge, facing = side.curb + 0.55, 0.0 if sign > 0 else math.pi
        items = [Item('lamp', sign * edge, start + 3.0, 0.0, 0.2, 6.4, 0.2, self._lamp_rgb, style=0, side=sign)]
        grows = self._greenery > 0.35
        for slot in np.arange(8.0, PIECE_M - 2.0, 6.0):
            z, draw = start + float(slot) + float(rng.uniform(-1, 1)), rng.random()
            if self._near_zebra(z, 3.0):
                continue
            if grows and draw < 0.55 * self._greenery:
                items.append(self._tree(rng, sign * (edge + 0.3), z))
            elif draw < 0.62:
                size, high = float(rng.uniform(0.6, 0.85)), float(rng.uniform(2.1, 2.6))
                items.append(Item('sign', sign * edge, z, facing, size, high, 0.1, style=_style(rng), side=sign))
            elif draw < 0.7:
                high = float(rng.uniform(0.8, 1.2))
                items.append(Item('bin', sign * (edge + 0.3), z, 0.0, 0.55, high, 0.5, _pick(rng, CAR_COLORS)))
            elif draw < 0.78:
                for step in (0.0, 1.5, 3.0):
                    items.append(Item('bollard', sign * edge, z + step, 0.0, 0.16, 0.95, 0.16, self._lamp_rgb))
            elif draw < 0.87:
                for step in range(int(rng.integers(1, 5))):
                    yaw = float(rng.normal(math.pi / 2, 0.25))
                    items.extend(create_vehicle(rng, 'bicycle', sign * (edge + 0.5), z + 0.8 * step, yaw, 0.0))
            elif draw < 0.92:
                yaw = float(rng.normal(0.9, 0.4))
                items.extend(create_vehicle(rng, 'motorcycle', sign * (edge + 0.7), z, yaw, 0.0))
        for _ in range(int(rng.poisson(1.2 * self._walkers))):
            x = sign * float(rng.uniform(side.walk[0] + 0.7, side.walk[1] - 0.2))
            z = start + float(rng.uniform(0, PIECE_M))
            items.append(create_person(rng, x, z, float(rng.choice((0.0, math.pi)))))
        return items

    def _make_parked(self, rng: np.random.Generator, start: float, sign: int, side: Side) -> list[Item]:
        items: list[Item] = []
        if side.parking is None:
            return items
        for slot in np.arange(2.8, PIECE_M, 5.8):
            z = start + float(slot)
            if rng.random() > self._parked or self._near_zebra(z, 4.5):
                continue
            x = sign * (side.parking + float(rng.uniform(-0.1, 0.12)))
            yaw = (0.0 if sign > 0 else math.pi) + float(rng.normal(0, 0.015))
            items.extend(create_vehicle(rng, 'car', x, z + float(rng.uniform(-0.3, 0.3)), yaw, 0.0))
        return items

    def _make_lane(self, rng: np.random.Generator, start: float, x: float, speed: float, ego: bool) -> list[Item]:
        if rng.random() > self._traffic:
            return []
        kind = str(rng.choice(('car', 'truck', 'bus', 'motorcycle'), p=(0.68, 0.13, 0.09, 0.1)))
        yaw = 0.0 if speed > 0 else math.pi
        made = create_vehicle(rng, kind, x + float(rng.normal(0, 0.12)), start, yaw, speed)
        half = made[0].length / 2
        z = start + float(rng.uniform(half + 1.0, 21.0 - half))
        if ego and abs(z) - half < EGO_GAP_M:
            return []
        return [dataclasses.replace(item, z=z) for item in made]

    def _make_bikes(self, rng: np.random.Generator, start: float, x: float, speed: float) -> list[Item]:
        if rng.random() > 0.3:
            return []
        yaw = 0.0 if speed > 0 else math.pi
        return create_vehicle(rng, 'bicycle', x, start + float(rng.uniform(2, 16)), yaw, speed)

    def _make_walkers(self, rng: np.random.Generator, start: float, x: float, speed: float) -> list[Item]:
        yaw = 0.0 if speed > 0 else math.pi
        return [create_person(rng, x + float(rng.uniform(-0.35, 0.35)), start + float(rng.uniform(0, 14)), yaw, speed)
                for _ in range(int(rng.poisson(0.45 * self._walkers)))]  # fmt: skip

    def _make_tram(self, rng: np.random.Generator, start: float) -> list[Item]:
        if rng.random() > 0.7 or self._layout.tram is None:
            return []
        return create_vehicle(rng, 'tram', self._layout.tram, start + float(rng.uniform(18, 66)), math.pi, -9.0)

    def _make_crossing(self, rng: np.random.Generator, start: float) -> list[Item]:
        """Lights at the zebra crossing, and people who are over it just before the camera comes."""
        if self._layout.zebra_z is None:
            return []
        zebra, left, right = start + self._layout.zebra_z, self._layout.left.curb + 0.8, self._layout.right.curb + 0.8
        items = []
        if rng.random() < 0.75:
            style = _style(rng)
            items.append(Item('light', right - 0.35, zebra - 0.6, 0.0, style=style, side=1))
            items.append(Item('light', -left + 0.35, zebra + 4.2, math.pi, style=style, side=-1))
        for _ in range(int(rng.poisson(2.0 * self._walkers))):
            way = int(rng.choice((-1, 1)))
            pace = float(rng.uniform(1.15, 1.6))
            takes = (left + right) / pace
            arrives = (zebra - 6.0) / self._ego_speed
            person = create_person(rng, -left if way > 0 else right, zebra + float(rng.uniform(0.3, 3.3)), 0.0)
            items.append(dataclasses.replace(person, cross_speed=way * pace, cross_for=takes,
                                             cross_start=arrives - takes - float(rng.uniform(0.3, 4.0))))  # fmt: skip
        return items
