"""Cars, trucks, buses, trams, motorcycles and bicycles as painted boxes and profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sembox_ros.data.streets.classes import BICYCLE, BUS, CAR, MOTORCYCLE, TRAIN, TRUCK
from sembox_ros.data.streets.items import Item, Rgb
from sembox_ros.data.streets.shapes import Mesh, patch, shaded

GLASS: Rgb = (44.0, 52.0, 60.0)
GLASS_SKY: Rgb = (96.0, 112.0, 126.0)
TYRE: Rgb = (30.0, 30.0, 32.0)
RUBBER: Rgb = (44.0, 44.0, 46.0)
TAIL: Rgb = (168.0, 22.0, 24.0)
LAMP: Rgb = (236.0, 236.0, 222.0)


def _prism(
    mesh: Mesh, profile: Sequence[tuple[float, float]], half_width: float, rgb: Rgb, class_id: int, hidden: int = -1
) -> None:
    """Extrude a closed profile of (z, y) points across -half_width..half_width.

    The face after point number `hidden` is left out: covered faces glitter along their edges when seen at a slant.
    """
    for index, ((z0, y0), (z1, y1)) in enumerate(zip(profile, [*profile[1:], profile[0]], strict=True)):
        if index == hidden:
            continue
        quad = [(-half_width, y0, z0), (half_width, y0, z0), (half_width, y1, z1), (-half_width, y1, z1)]
        mesh.face(quad, rgb, class_id)
    for x in (-half_width, half_width):
        mesh.face([(x, y, z) for z, y in profile], rgb, class_id)


def _wheels(mesh: Mesh, half_width: float, radius: float, axles: Sequence[float], rim: Rgb, class_id: int) -> None:
    """Wheels with arches on both sides, and the tyre treads that show below the body."""
    for z in axles:
        for x in (-half_width, half_width):
            out = math.copysign(0.012, x)
            mesh.disc((x + 0.5 * out, radius * 1.05, z), radius * 1.16, (24, 24, 26), class_id, 'x')
            mesh.disc((x + out, radius, z), radius, TYRE, class_id, 'x', sides=14)
            mesh.disc((x + 1.5 * out, radius, z), radius * 0.62, rim, class_id, 'x', sides=10)
            mesh.disc((x + 2 * out, radius, z), radius * 0.2, shaded(rim, 0.5), class_id, 'x', sides=6)
            inner = x - math.copysign(0.2, x)
            for out_by, low in ((0.85, 0.45), (0.35, 0.06)):
                for end in (z - radius * out_by, z + radius * out_by):
                    tread = [(inner, low * radius, end), (x, low * radius, end), (x, radius, end), (inner, radius, end)]
                    mesh.face(tread, TYRE, class_id)


def _plate(mesh: Mesh, x0: float, x1: float, y0: float, y1: float, z: float, rgb: Rgb, class_id: int,
           glow: bool = False) -> None:  # fmt: skip
    """Add a rectangle on a front or a rear face at depth z (negative z is the rear)."""
    z += math.copysign(0.015, z)
    mesh.rect(x0, x1, y0, y1, z, rgb, class_id, glow)


def _pair(mesh: Mesh, x0: float, x1: float, y0: float, y1: float, z: float, rgb: Rgb, class_id: int,
          glow: bool = False) -> None:  # fmt: skip
    """Add the same rectangle left and right."""
    _plate(mesh, x0, x1, y0, y1, z, rgb, class_id, glow)
    _plate(mesh, -x1, -x0, y0, y1, z, rgb, class_id, glow)


# Cabin corner places as shares of the length, rear to front: base rear, top rear, top front, base front; hood height.
_CAR_SHAPES = (
    (0.17, 0.27, 0.58, 0.74, 0.62),  # saloon
    (0.03, 0.10, 0.56, 0.74, 0.63),  # hatchback
    (0.02, 0.06, 0.60, 0.76, 0.66),  # estate, off-road
    (0.01, 0.03, 0.68, 0.86, 0.60),  # van
)


def build_car(item: Item) -> Mesh:
    """Build a car: lower body, tapered cabin with glass, wheels, lamps and plates."""
    rear_base, rear_top, front_top, front_base, belt = _CAR_SHAPES[item.style % len(_CAR_SHAPES)]
    half, high, long = item.width / 2, item.height, item.length
    back, front = -long / 2, long / 2
    y_belt, y_hood = belt * high, belt * high * 0.93
    mesh = Mesh(center=(0.0, high * 0.45, 0.0))
    body = item.rgb
    profile = [(back + 0.06, 0.26), (back, 0.5), (back + min(0.05, rear_base * long), y_belt),
               (back + rear_base * long, y_belt), (back + front_base * long, y_belt),
               (front - 0.12, y_hood * 0.86), (front, 0.52), (front - 0.05, 0.26)]  # fmt: skip
    _prism(mesh, profile, half, body, CAR, hidden=3)  # under the cabin
    for x in (-half, half):  # dark sill
        sill = [(x, 0.2, back + 0.3), (x, 0.2, front - 0.3), (x, 0.32, front - 0.2), (x, 0.32, back + 0.2)]
        mesh.face(sill, RUBBER, CAR)
    _cabin(mesh, item, (rear_base, rear_top, front_top, front_base), y_belt)
    rim = shaded((150, 152, 156), 0.6 + 0.1 * (item.style % 5))
    _wheels(mesh, half, 0.31 + 0.01 * (item.style % 3), (back + 0.19 * long, front - 0.19 * long), rim, CAR)
    lamp_y = y_belt - 0.06
    _pair(mesh, half - 0.36, half - 0.03, lamp_y - 0.2, lamp_y, back - 0.01, TAIL, CAR, item.style % 4 == 0)
    _plate(mesh, -half * 0.94, half * 0.94, 0.24, 0.42, back, RUBBER, CAR)
    _plate(mesh, -0.26, 0.26, 0.5, 0.61, back, (226, 224, 212), CAR)
    _plate(mesh, -half * 0.8, half * 0.8, 0.14, 0.26, back + 0.1, (22, 22, 24), CAR)
    _pair(mesh, half - 0.44, half - 0.05, 0.55, 0.7, front, LAMP, CAR, item.style % 3 == 0)
    _plate(mesh, -0.5, 0.5, 0.44, 0.62, front, (34, 34, 36), CAR)
    _plate(mesh, -0.26, 0.26, 0.38, 0.49, front + 0.01, (226, 224, 212), CAR)
    _plate(mesh, -half * 0.9, half * 0.9, 0.22, 0.34, front, RUBBER, CAR)
    for x in (-half - 0.1, half + 0.1):  # mirrors
        mesh.box((x - 0.09, y_belt, 0.16 * long), (x + 0.09, y_belt + 0.14, 0.16 * long + 0.12), body, CAR)
    mesh.cast_box(half, high * 0.95, long * 0.42)
    return mesh


def _cabin(mesh: Mesh, item: Item, shares: tuple[float, float, float, float], y_belt: float) -> None:
    """Roof, pillars and glass of a car, tapered towards the roof."""
    half, high, back = item.width / 2, item.height, -item.length / 2
    z0, z1, z2, z3 = (back + share * item.length for share in shares)
    base, top = half, half * 0.78
    roof = [(-top, high, z1), (top, high, z1), (top, high, z2), (-top, high, z2)]
    rear = [(-base, y_belt, z0), (base, y_belt, z0), (top, high, z1), (-top, high, z1)]
    wind = [(-base, y_belt, z3), (base, y_belt, z3), (top, high, z2), (-top, high, z2)]
    for quad in (roof, rear, wind):
        mesh.face(quad, item.rgb, CAR)
    for quad in (rear, wind):
        nudge = np.array((0.0, 0.008, -0.012 if quad is rear else 0.012))
        mesh.face(patch(quad, 0.07, 0.93, 0.1, 0.9) + nudge, GLASS, CAR)
        mesh.face(patch(quad, 0.07, 0.93, 0.52, 0.9) + 1.5 * nudge, GLASS_SKY, CAR)
    panel_van = item.style % 8 == 3
    for x in (-1, 1):
        side = [(x * base, y_belt, z0), (x * base, y_belt, z3), (x * top, high, z2), (x * top, high, z1)]
        mesh.face(side, item.rgb, CAR)
        spans = ((0.62, 0.94),) if panel_van else ((0.08, 0.46), (0.5, 0.92))
        for start, end in spans:
            mesh.face(patch(side, start, end, 0.1, 0.88, 0.012), GLASS, CAR)
            mesh.face(patch(side, start, end, 0.58, 0.88, 0.018), GLASS_SKY, CAR)


def build_truck(item: Item) -> Mesh:
    """Build a lorry: cab, cargo body with rear doors, chassis and wheels."""
    half, high, long = item.width / 2, item.height, item.length
    back, front = -long / 2, long / 2
    cab = front - 2.0
    mesh = Mesh(center=(0.0, high * 0.5, 0.0))
    mesh.box((-half * 0.8, 0.5, back + 0.1), (half * 0.8, 1.05, cab), (50, 50, 52), TRUCK)
    cargo = item.accent
    mesh.box((-half, 1.0, back), (half, high, cab - 0.25), cargo, TRUCK)
    for x in (-half - 0.012, half + 0.012):
        low, up = (1.5, 1.5 + 0.35 * high) if item.style % 2 else (1.2, 1.42)
        stripe = [(x, low, back + 0.5), (x, low, cab - 0.8), (x, up, cab - 0.8), (x, up, back + 0.5)]
        mesh.face(stripe, shaded(item.rgb, 0.9), TRUCK)
    _plate(mesh, -half * 0.96, half * 0.96, 1.06, high - 0.08, back, shaded(cargo, 0.9), TRUCK)
    for x in (-0.02, -half * 0.5, half * 0.5):
        _plate(mesh, x, x + 0.04, 1.1, high - 0.15, back - 0.02, shaded(cargo, 0.55), TRUCK)
    _plate(mesh, -half, half, 0.86, 1.04, back - 0.01, (60, 58, 58), TRUCK)
    _pair(mesh, half - 0.42, half - 0.06, 0.88, 1.02, back - 0.02, TAIL, TRUCK)
    _plate(mesh, -half * 0.9, half * 0.9, 0.46, 0.58, back, (150, 146, 140), TRUCK)
    cab_high = min(high * 0.92, 2.75)
    mesh.box((-half * 0.97, 0.5, cab), (half * 0.97, cab_high, front), item.rgb, TRUCK)
    _plate(mesh, -half * 0.88, half * 0.88, cab_high * 0.56, cab_high * 0.9, front, GLASS, TRUCK)
    _plate(mesh, -half * 0.88, half * 0.88, cab_high * 0.74, cab_high * 0.9, front + 0.01, GLASS_SKY, TRUCK)
    _plate(mesh, -half * 0.7, half * 0.7, 0.95, 1.3, front, (40, 40, 42), TRUCK)
    _pair(mesh, half * 0.55, half * 0.9, 0.68, 0.86, front, LAMP, TRUCK, item.style % 2 == 0)
    for x in (-1, 1):
        edge = x * (half * 0.97 + 0.012)
        rear, fore = cab + 0.5, front - 0.15
        mesh.face([(edge, 1.45, rear), (edge, 1.45, fore), (edge, 2.3, fore - 0.15), (edge, 2.3, rear)], GLASS, TRUCK)
    axles = (back + 1.2, back + 2.3, front - 1.0) if long > 8.0 else (back + 1.4, front - 1.0)
    _wheels(mesh, half, 0.5, axles, (140, 140, 142), TRUCK)
    mesh.cast_box(half, high, long / 2)
    return mesh


def _coach_side(mesh: Mesh, item: Item, class_id: int, sill: float, head: float, door_every: float) -> None:
    """Window band with posts, doors and a stripe along both sides of a bus or a tram."""
    half, long = item.width / 2, item.length
    bays = max(3, round(long / 1.6))
    for x in (-1, 1):
        edge = x * half
        side = [(edge, 0.0, -long / 2), (edge, 0.0, long / 2), (edge, 1.0, long / 2), (edge, 1.0, -long / 2)]
        mesh.face(patch(side, 0.02, 0.98, sill, head, 0.012), GLASS, class_id)
        mesh.face(patch(side, 0.02, 0.98, sill + 0.6 * (head - sill), head, 0.014), GLASS_SKY, class_id)
        mesh.face(patch(side, 0.01, 0.99, 0.5, 0.5 + 0.3 * (sill - 0.5), 0.012), item.accent, class_id)
        for bay in range(1, bays):
            share = bay / bays
            mesh.face(patch(side, share - 0.035 / bays, share + 0.035 / bays, sill, head, 0.02), item.rgb, class_id)
        for door in np.arange(1.6, long - 1.0, door_every) if x > 0 or class_id == TRAIN else ():
            u0, u1 = 1.0 - (door + 1.2) / long, 1.0 - door / long
            mesh.face(patch(side, u0, u1, 0.4, head, 0.022), shaded(item.accent, 0.8), class_id)
            for left, right in ((0.06, 0.46), (0.54, 0.94)):
                span = u1 - u0
                mesh.face(patch(side, u0 + left * span, u0 + right * span, 0.6, head - 0.1, 0.026), GLASS, class_id)


def build_bus(item: Item) -> Mesh:
    """Build a city bus or a coach."""
    half, high, long = item.width / 2, item.height, item.length
    mesh = Mesh(center=(0.0, high * 0.5, 0.0))
    mesh.box((-half, 0.32, -long / 2), (half, high, long / 2), item.rgb, BUS)
    mesh.box((-half * 0.9, high, -long * 0.35), (half * 0.9, high + 0.2, long * 0.3), shaded(item.rgb, 0.85), BUS)
    _coach_side(mesh, item, BUS, 1.2, high - 0.55, 4.4)
    for end in (-long / 2, long / 2):
        low = 1.55 if end < 0 else 1.05
        _plate(mesh, -half * 0.86, half * 0.86, low, high - 0.6, end, GLASS, BUS)
        _plate(mesh, -half * 0.86, half * 0.86, high * 0.62, high - 0.6, end * 1.002, GLASS_SKY, BUS)
        _plate(mesh, -half * 0.6, half * 0.6, high - 0.5, high - 0.2, end, (26, 26, 26), BUS)
        _plate(mesh, -half * 0.45, half * 0.2, high - 0.44, high - 0.27, end * 1.002, (240, 168, 48), BUS, True)
        _plate(mesh, -half, half, 0.3, 0.55, end, shaded(item.accent, 0.7), BUS)
    _pair(mesh, half - 0.3, half - 0.08, 0.75, 1.35, -long / 2, TAIL, BUS)
    _plate(mesh, -half * 0.6, half * 0.6, 0.75, 1.3, -long / 2, shaded(item.rgb, 0.6), BUS)
    _pair(mesh, half - 0.5, half - 0.1, 0.62, 0.82, long / 2, LAMP, BUS, True)
    _wheels(mesh, half, 0.47, (-long / 2 + 2.9, long / 2 - 2.6), (140, 140, 144), BUS)
    mesh.cast_box(half, high, long / 2)
    return mesh


def build_tram(item: Item) -> Mesh:
    """Build a tram of several cars (the class 'train')."""
    half, high, long = item.width / 2, item.height, item.length
    mesh = Mesh(center=(0.0, high * 0.5, 0.0))
    nose = [(-long / 2 + 0.3, 0.18), (-long / 2, 1.0), (-long / 2 + 0.7, high), (long / 2 - 0.7, high), (long / 2, 1.0),
            (long / 2 - 0.3, 0.18)]  # fmt: skip
    _prism(mesh, nose, half, item.rgb, TRAIN)
    _coach_side(mesh, item, TRAIN, 1.15, high - 0.6, 7.0)
    for sign in (-1, 1):
        end, lean = sign * long / 2, sign * 0.7
        side, top = half * 0.9, end - lean
        quad = [(-side, 1.1, end), (side, 1.1, end), (side, high, top), (-side, high, top)]
        nudge = np.array((0.0, 0.0, sign * 0.02))
        mesh.face(patch(quad, 0.0, 1.0, 0.1, 0.78) + nudge, GLASS, TRAIN)
        mesh.face(patch(quad, 0.0, 1.0, 0.5, 0.78) + 1.5 * nudge, GLASS_SKY, TRAIN)
        mesh.face(patch(quad, 0.2, 0.8, 0.83, 0.95) + nudge, (240, 168, 48), TRAIN, True)
        _pair(mesh, half * 0.5, half * 0.85, 0.78, 0.98, end, TAIL if sign < 0 else LAMP, TRAIN, True)
    for joint in (-long / 6, long / 6):
        for x in (-half, half):
            band = [(x, 0.2, joint - 0.3), (x, 0.2, joint + 0.3), (x, high, joint + 0.3), (x, high, joint - 0.3)]
            mesh.face(patch(band, 0.0, 1.0, 0.0, 1.0, 0.03), (48, 48, 50), TRAIN)
    mesh.stroke([(0, high, 0.0), (0, high + 0.7, 1.0), (0, high + 1.3, 0.0)], 0.06, (60, 60, 62), TRAIN)
    mesh.cast_box(half, high, long / 2)
    return mesh


def _ring(mesh: Mesh, z: float, radius: float, width: float, rgb: Rgb, class_id: int) -> None:
    turns = np.linspace(0, 2 * math.pi, 19)
    mesh.stroke([(0.0, radius + radius * math.sin(a), z + radius * math.cos(a)) for a in turns], width, rgb, class_id)


def build_bicycle(item: Item) -> Mesh:
    """Build a bicycle: wheels and frame seen from the side, tyres and handlebar seen from behind."""
    mesh = Mesh(two_sided=True)
    rgb, r = item.rgb, 0.34
    for z in (-0.52, 0.52):
        _ring(mesh, z, r, 0.045, TYRE, BICYCLE)
        mesh.rect(-0.03, 0.03, 0.0, 2 * r, z, TYRE, BICYCLE)
        mesh.stroke([(0, r, z - 0.3), (0, r, z + 0.3)], 0.012, (120, 120, 120), BICYCLE)
        mesh.stroke([(0, 0.04, z), (0, 2 * r - 0.04, z)], 0.012, (120, 120, 120), BICYCLE)
    crank, seat, head = (0.0, 0.3, -0.05), (0.0, 0.82, -0.2), (0.0, 0.82, 0.38)
    frame = [(0.0, r, -0.52), crank, head, seat, crank]
    mesh.stroke(frame, 0.05, rgb, BICYCLE)
    mesh.stroke([(0.0, r, -0.52), seat, (0.0, 0.95, -0.23)], 0.04, rgb, BICYCLE)
    mesh.stroke([(0.0, r, 0.52), head, (0.0, 1.02, 0.34)], 0.045, rgb, BICYCLE)
    mesh.stroke([(-0.28, 1.02, 0.3), (0.28, 1.02, 0.3)], 0.05, (40, 40, 42), BICYCLE)
    mesh.stroke([(-0.07, 0.97, -0.28), (0.07, 0.97, -0.28), (0.0, 0.97, -0.02)], 0.07, (36, 34, 34), BICYCLE)
    mesh.stroke([(0, 0.62, -0.62), (0, 0.7, -0.3)], 0.05, (50, 50, 52), BICYCLE)
    mesh.disc((0, 0.66, -0.68), 0.04, TAIL, BICYCLE, 'z', glow=True, sides=6)
    if item.style % 3 == 0:
        mesh.box((-0.18, 0.74, 0.42), (0.18, 0.98, 0.66), (124, 98, 66), BICYCLE)
    mesh.cast_box(0.08, 0.7, 0.85)
    return mesh


def build_motorcycle(item: Item) -> Mesh:
    """Build a motorcycle or a scooter."""
    mesh = Mesh(two_sided=True)
    rgb, r = item.rgb, 0.3
    for z in (-0.66, 0.68):
        _ring(mesh, z, r, 0.12, TYRE, MOTORCYCLE)
        mesh.rect(-0.08, 0.08, 0.0, 2 * r, z, TYRE, MOTORCYCLE)
        mesh.disc((0, r, z), r * 0.55, (130, 130, 134), MOTORCYCLE, 'x', sides=10)
    mesh.box((-0.16, 0.3, -0.35), (0.16, 0.62, 0.36), (62, 62, 66), MOTORCYCLE)
    mesh.box((-0.14, 0.6, -0.05), (0.14, 0.9, 0.42), rgb, MOTORCYCLE)
    mesh.box((-0.13, 0.66, -0.85), (0.13, 0.82, -0.05), (38, 36, 36), MOTORCYCLE)
    mesh.box((-0.12, 0.5, -0.95), (0.12, 0.68, -0.5), rgb, MOTORCYCLE)
    if item.style % 2:
        mesh.box((-0.22, 0.84, -1.0), (0.22, 1.16, -0.62), shaded(rgb, 0.7), MOTORCYCLE)
    mesh.stroke([(0.0, r, 0.7), (0.0, 1.02, 0.4)], 0.1, (150, 150, 154), MOTORCYCLE)
    mesh.stroke([(-0.36, 1.06, 0.34), (0.36, 1.06, 0.34)], 0.06, (40, 40, 42), MOTORCYCLE)
    mesh.stroke([(-0.4, 1.22, 0.34), (-0.34, 1.2, 0.34)], 0.1, (40, 40, 42), MOTORCYCLE)
    mesh.stroke([(0.34, 1.2, 0.34), (0.4, 1.22, 0.34)], 0.1, (40, 40, 42), MOTORCYCLE)
    mesh.disc((0, 0.92, 0.56), 0.1, LAMP, MOTORCYCLE, 'z', glow=True, sides=8)
    mesh.rect(-0.1, 0.1, 0.56, 0.64, -0.97, TAIL, MOTORCYCLE, glow=True)
    mesh.cast_box(0.25, 0.9, 0.95)
    return mesh
