"""Houses, walls, fences, greenery, posts, signs and lights beside the road.

A frontage (house, wall, fence, hedge) has its street side at object x = 0 and its body on the side `item.side`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sembox_ros.data.streets.classes import (
    BUILDING,
    FENCE,
    POLE,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    UNLABELED,
    VEGETATION,
    WALL,
)
from sembox_ros.data.streets.items import Item, Rgb
from sembox_ros.data.streets.shapes import Mesh, shaded
from sembox_ros.data.streets.textures import Texture, facade, fence, free_wall, hedge, side_wall, tree

BUILDING_DEPTH_M = 11.0


@dataclass(frozen=True)
class Materials:
    """The textures that one street is made of; facades carry their width and height in metres."""

    facades: tuple[tuple[Texture, float, float], ...]
    side_walls: tuple[Texture, ...]
    walls: tuple[Texture, ...]
    fences: tuple[Texture, ...]
    trees: tuple[Texture, ...]
    hedges: tuple[Texture, ...]

    @classmethod
    def create(cls, rng: np.random.Generator) -> Materials:
        """Paint a set of textures."""
        return cls(
            facades=tuple(facade(rng) for _ in range(9)),
            side_walls=tuple(side_wall(rng) for _ in range(3)),
            walls=tuple(free_wall(rng) for _ in range(2)),
            fences=tuple(fence(rng) for _ in range(2)),
            trees=tuple(tree(rng) for _ in range(5)),
            hedges=tuple(hedge(rng) for _ in range(2)),
        )


def build_building(item: Item, materials: Materials) -> Mesh:
    """Build a house: street front, gable ends, and a flat or a pitched roof."""
    texture, _, _ = materials.facades[item.style % len(materials.facades)]
    gable = materials.side_walls[item.style % len(materials.side_walls)]
    half, high, deep = item.length / 2, item.height, item.side * BUILDING_DEPTH_M
    mesh = Mesh(center=(deep / 2, high / 2, 0.0))
    tint = tuple(c / 255.0 for c in item.rgb)
    mesh.panel((0, 0, -half), (0, 0, item.length), (0, high, 0), texture, BUILDING, (tint[0], tint[1], tint[2]))
    side_tint = tuple(c / 255.0 for c in item.accent)
    # Only the near gable: the camera looks along the road, and never back at the far one.
    mesh.panel((0, 0, -half), (deep, 0, 0), (0, high, 0), gable, BUILDING, (side_tint[0], side_tint[1], side_tint[2]))
    if item.style % 3:
        ridge, roof = high + 3.4, ((122, 72, 56), (84, 82, 86), (104, 88, 76))[item.style % 3]
        eave = -item.side * 0.35
        slope = [(eave, high - 0.1, -half), (eave, high - 0.1, half), (deep / 2, ridge, half), (deep / 2, ridge, -half)]
        mesh.face(slope, roof, BUILDING)
        end = [(0, high, -half), (deep, high, -half), (deep / 2, ridge, -half)]
        mesh.face(end, shaded(item.accent, 0.62), BUILDING)
    corners = [(x, y, z) for x in (0.0, deep) for y in (0.0, high) for z in (-half, half)]
    mesh.casters.append(np.array(corners, np.float64))
    return mesh


def _screen(item: Item, texture: Texture, class_id: int, thickness: float) -> Mesh:
    """Build an upright panel along the road with an end face, for walls, fences and hedges."""
    half, out = item.length / 2, item.side * thickness
    tint = (item.rgb[0] / 255.0, item.rgb[1] / 255.0, item.rgb[2] / 255.0)
    mesh = Mesh(center=(out / 2, item.height / 2, 0.0))
    if thickness:
        mesh.panel((0, 0, -half), (out, 0, 0), (0, item.height, 0), texture, class_id, tint)
    mesh.panel((0, 0, -half), (0, 0, item.length), (0, item.height, 0), texture, class_id, tint)
    corners = [(x, y, z) for x in (0.0, out) for y in (0.0, item.height) for z in (-half, half)]
    mesh.casters.append(np.array(corners, np.float64))
    return mesh


def build_wall(item: Item, materials: Materials) -> Mesh:
    """Build a free-standing wall."""
    return _screen(item, materials.walls[item.style % len(materials.walls)], WALL, 0.3)


def build_fence(item: Item, materials: Materials) -> Mesh:
    """Build a fence."""
    return _screen(item, materials.fences[item.style % len(materials.fences)], FENCE, 0.0)


def build_hedge(item: Item, materials: Materials) -> Mesh:
    """Build a hedge."""
    return _screen(item, materials.hedges[item.style % len(materials.hedges)], VEGETATION, 0.9)


def build_tree(item: Item, materials: Materials) -> Mesh:
    """Build a tree; its trunk counts as vegetation, as in Cityscapes."""
    texture = materials.trees[item.style % len(materials.trees)]
    wide, high = item.width, item.height
    mesh = Mesh(faces_camera=True)
    flip = -1.0 if item.style % 2 else 1.0
    tint = (item.rgb[0] / 205.0, item.rgb[1] / 205.0, item.rgb[2] / 205.0)  # leaves catch light from all sides
    mesh.panel((-flip * wide / 2, 0, 0), (flip * wide, 0, 0), (0, high, 0), texture, VEGETATION, tint)
    ring = [(0.36 * wide * math.cos(a), y * high, 0.36 * wide * math.sin(a))
            for a in np.linspace(0, 2 * math.pi, 11)[:-1] for y in (0.45, 0.75)]  # fmt: skip
    mesh.casters.append(np.array(ring))
    mesh.cast_box(0.15, 0.5 * high, 0.15)
    return mesh


def _post(mesh: Mesh, x: float, high: float, width: float, rgb: Rgb) -> None:
    """Add a round post as a lit and a shaded half, towards the camera."""
    half = width / 2
    mesh.rect(x - half, x + half, 0.0, high, 0.0, rgb, POLE)
    mesh.rect(x + 0.1 * half, x + half, 0.0, high, 0.0, shaded(rgb, 0.72), POLE)


def build_lamp(item: Item) -> Mesh:
    """Build a street lamp; its arm reaches over the road."""
    mesh = Mesh(two_sided=True)
    _post(mesh, 0.0, item.height, 0.17, item.rgb)
    reach = -item.side * (1.8 if item.style % 2 else 0.7)
    top = item.height + 0.3
    mesh.stroke([(0, top - 0.35, 0), (0.6 * reach, top, 0), (reach, top, 0)], 0.1, item.rgb, POLE)
    mesh.stroke([(0.75 * reach, top - 0.04, 0), (1.15 * reach, top - 0.06, 0)], 0.17, (212, 210, 200), POLE)
    mesh.cast_box(0.09, item.height, 0.09)
    return mesh


def build_bollard(item: Item) -> Mesh:
    """Build a low post."""
    mesh = Mesh(two_sided=True)
    _post(mesh, 0.0, item.height, 0.16, item.rgb)
    band = item.height * 0.8
    mesh.rect(-0.08, 0.08, band, band + 0.1, 0.0, (222, 218, 208), POLE)
    mesh.cast_box(0.08, item.height, 0.08)
    return mesh


def build_sign(item: Item) -> Mesh:
    """Build a traffic sign on a post, or its blank back where it is for oncoming traffic."""
    mesh = Mesh(two_sided=True)
    high, size = item.height, item.width
    _post(mesh, 0.0, high + size * 0.4, 0.08, (138, 140, 142))
    y, z = high, -0.06
    variant = item.style % 6
    fade = 0.55 + 0.45 * (item.style // 18 % 8) / 7  # dirt and age: bright paint must not give a sign away
    white, red, blue = (shaded(rgb, fade) for rgb in ((232, 232, 228), (186, 30, 36), (32, 84, 160)))
    if abs(item.yaw) > 1.0:
        mesh.disc((0, y, z), size * 0.5, (134, 136, 138), TRAFFIC_SIGN, 'z')
    elif variant in (0, 1):
        flip = 1 if variant == 0 else -1
        for share, rgb in ((0.58, red), (0.36, white)):
            reach = share * size
            corners = [(reach * math.sin(a), y + flip * reach * math.cos(a), z) for a in (0, 2.094, 4.189)]
            mesh.face(corners, rgb, TRAFFIC_SIGN)
    elif variant == 2:
        for share, rgb in ((0.5, red), (0.37, white)):
            mesh.disc((0, y, z), share * size, rgb, TRAFFIC_SIGN, 'z', sides=14)
        mesh.rect(-0.12 * size, 0.12 * size, y - 0.18 * size, y + 0.18 * size, z, (40, 40, 40), TRAFFIC_SIGN)
    elif variant == 3:
        mesh.disc((0, y, z), 0.5 * size, blue, TRAFFIC_SIGN, 'z', sides=14)
        mesh.stroke([(0, y - 0.25 * size, z), (0, y + 0.25 * size, z)], 0.12 * size, white, TRAFFIC_SIGN)
    else:
        half = (0.5 if variant == 4 else 1.1) * size
        rgb = (blue, shaded((240, 196, 40), fade), shaded((44, 110, 70), fade))[item.style // 6 % 3]
        for grow, color in ((1.0, white), (0.9, rgb)):
            x, tall = half * grow, 0.5 * size * (grow - 0.04)
            mesh.rect(-x, x, y - tall, y + tall, z, color, TRAFFIC_SIGN)
        mesh.stroke([(-0.6 * half, y, z), (0.6 * half, y, z)], 0.13 * size, white, TRAFFIC_SIGN)
    mesh.cast_box(0.3 * size, high + 0.3 * size, 0.05, base=high - 0.3 * size)
    return mesh


def build_light(item: Item) -> Mesh:
    """Build a traffic light on a post, with a second one over the road on tall posts."""
    mesh = Mesh(two_sided=True)
    tall = item.style % 2 == 0
    high = 5.6 if tall else 3.3
    reach = -item.side * 2.6
    _post(mesh, 0.0, high, 0.15, (92, 96, 98))
    heads = [(0.0, 2.45)]
    if tall:
        mesh.stroke([(0, high - 0.1, 0), (reach, high - 0.1, 0)], 0.12, (92, 96, 98), POLE)
        heads.append((reach, high - 0.75))
    lit = item.style // 2 % 3
    away = abs(item.yaw) > 1.0
    for x, y in heads:
        mesh.rect(x - 0.17, x + 0.17, y, y + 0.95, -0.12, (34, 36, 36), TRAFFIC_LIGHT)
        colors = ((250, 52, 40), (252, 176, 40), (60, 232, 130))
        for index in range(0 if away else 3):
            rgb = colors[index] if index == lit else shaded(colors[index], 0.22)
            mesh.disc((x, y + 0.78 - 0.3 * index, -0.16), 0.115, rgb, TRAFFIC_LIGHT, 'z', glow=index == lit, sides=10)
    mesh.cast_box(0.1, high, 0.1)
    return mesh


def build_bin(item: Item) -> Mesh:
    """Build a litter bin or a cabinet: real, but none of the 19 classes, so unlabeled."""
    mesh = Mesh(center=(0.0, item.height / 2, 0.0))
    half = item.width / 2
    mesh.box((-half, 0, -half), (half, item.height, half), item.rgb, UNLABELED)
    mesh.rect(-half, half, item.height * 0.86, item.height, -half - 0.01, shaded(item.rgb, 0.6), UNLABELED)
    mesh.cast_box(half, item.height, half)
    return mesh
