"""Pedestrians and riders: jointed cut-outs that turn towards the camera."""

from __future__ import annotations

import math

from sembox_ros.data.streets.classes import PERSON, RIDER
from sembox_ros.data.streets.items import Item, Rgb
from sembox_ros.data.streets.shapes import Mesh, shaded

SKIN: tuple[Rgb, ...] = ((226, 184, 158), (196, 146, 116), (142, 98, 72), (94, 64, 48))
HAIR: tuple[Rgb, ...] = ((42, 34, 30), (92, 62, 40), (170, 134, 84), (150, 146, 142), (28, 26, 26))


def _head(mesh: Mesh, x: float, y: float, radius: float, item: Item, class_id: int, from_behind: bool) -> None:
    skin, hair = SKIN[item.style % len(SKIN)], HAIR[item.style % len(HAIR)]
    mesh.stroke([(x, y - 1.5 * radius, 0), (x, y - 0.8 * radius, 0)], radius * 0.95, skin, class_id)
    mesh.disc((x, y, 0), radius, skin, class_id, 'z')
    if from_behind:
        mesh.disc((x, y + 0.15 * radius, 0), radius * 1.06, hair, class_id, 'z')
        return
    angles, reach = (0.1, 0.6, 1.2, 1.9, 2.5, 3.04), 1.1 * radius
    mesh.face([(x + reach * math.cos(a), y + reach * math.sin(a), 0.0) for a in angles], hair, class_id)
    if item.style % 2:  # long hair frames the face
        for side in (-radius, radius):
            strand = [(x + side, y - 1.3 * radius, 0), (x + 0.9 * side, y + 0.4 * radius, 0)]
            mesh.stroke(strand, radius * 0.5, hair, class_id)


def _torso(mesh: Mesh, hip: float, neck: float, widths: tuple[float, float], rgb: Rgb, class_id: int) -> None:
    """Shoulders to hips as one polygon with a darker half, so that it does not look like paper."""
    shoulder, waist = widths[0] / 2, widths[1] / 2
    y = neck - 0.06
    right = [(waist, hip, 0.0), (shoulder, y, 0.0), (0.4 * shoulder, neck, 0.0)]
    outline = right + [(-x, height, z) for x, height, z in reversed(right)]
    mesh.face(outline, rgb, class_id)
    shade = [(0.2 * waist, hip, 0), (waist, hip, 0), (shoulder, y, 0), (0.3 * shoulder, y, 0)]
    mesh.face(shade, shaded(rgb, 0.82), class_id)


def build_person(item: Item, time_s: float) -> Mesh:
    """Build a pedestrian, walking when the item moves, seen from the side while crossing."""
    tall, side_view = item.height, item.walks_across(time_s)
    walking = item.speed != 0.0 or side_view
    pace = 2 * math.pi * 0.9 * time_s + item.style
    swing = math.sin(pace) if walking else 0.15
    mesh = Mesh(two_sided=True, faces_camera=True)
    hip, neck, head = 0.5 * tall, 0.83 * tall, 0.07 * tall
    trousers, top = item.accent, item.rgb
    stride = (0.16 if side_view else 0.03) * tall
    lift = 0.0 if side_view else 0.05 * tall * swing
    shoe = (40.0, 38.0, 40.0)
    for sign in (-1, 1):
        foot_x = sign * stride * swing if side_view else sign * 0.055 * tall
        foot_y = 0.03 + max(0.0, sign * lift)
        knee = (0.5 * foot_x + (0.03 * tall if side_view else 0.0), 0.27 * tall + 0.5 * foot_y, 0.0)
        leg = shaded(trousers, 1.0 if sign > 0 else 0.8)
        mesh.stroke([(sign * 0.04 * tall, hip, 0.0), knee, (foot_x, foot_y + 0.04, 0.0)], 0.085 * tall, leg, PERSON)
        toe = foot_x + math.copysign(0.06, item.cross_speed) if side_view else foot_x
        mesh.stroke([(foot_x, foot_y, 0.0), (toe, foot_y, 0.0)], 0.09, shoe, PERSON)
    widths = (0.17 * tall, 0.15 * tall) if side_view else (0.25 * tall, 0.19 * tall)
    hem = hip - (0.16 * tall if item.style % 3 == 0 else 0.04 * tall)  # coat or jacket
    _torso(mesh, hem, neck, widths, top, PERSON)
    for sign in (-1, 1):
        shoulder = (sign * (0.03 if side_view else 0.125) * tall, neck - 0.05 * tall, 0.0)
        reach = -sign * 0.13 * tall * swing if side_view else sign * (0.02 * tall)
        hand = (shoulder[0] + reach, 0.48 * tall + (0.0 if side_view else 0.03 * sign * swing), 0.0)
        elbow = (0.5 * (shoulder[0] + hand[0]) + sign * 0.02, 0.64 * tall, 0.0)
        mesh.stroke([shoulder, elbow, hand], 0.058 * tall, shaded(top, 0.74), PERSON)
        mesh.stroke([hand, (hand[0], hand[1] - 0.03, 0)], 0.05 * tall, SKIN[item.style % len(SKIN)], PERSON)
    from_behind = abs(item.yaw) < 1.0 and not side_view
    if item.style % 4 == 1:
        bag = shaded(item.accent, 1.3)
        if from_behind:
            mesh.rect(-0.14, 0.14, 0.58 * tall, 0.8 * tall, 0.0, bag, PERSON)
        else:
            mesh.stroke([(0.16 * tall, 0.46 * tall, 0), (0.16 * tall, 0.38 * tall, 0)], 0.12 * tall, bag, PERSON)
    _head(mesh, 0.0, tall - head, head, item, PERSON, from_behind)
    mesh.cast_box(0.2, tall, 0.14)
    return mesh


def build_rider(item: Item, time_s: float) -> Mesh:
    """Build somebody on a bicycle or, where `side` is negative, on a motorcycle; the machine is an item of its own."""
    motor = item.side < 0
    tall, top, trousers = item.height, item.rgb, item.accent
    mesh = Mesh(two_sided=True, faces_camera=True)
    seat = 0.86 if motor else 0.98
    pedal = 0.0 if motor else math.sin(2 * math.pi * 1.1 * time_s + item.style)
    neck = seat + 0.3 * tall
    for sign in (-1, 1):
        foot = (sign * (0.22 if motor else 0.13), 0.32 + sign * 0.14 * pedal, 0.0)
        knee = (sign * (0.28 if motor else 0.19), 0.66 + sign * 0.12 * pedal, 0.0)
        mesh.stroke([(sign * 0.1, seat, 0), knee, foot], 0.15, shaded(trousers, 1.0 if sign > 0 else 0.85), RIDER)
        mesh.stroke([foot, (foot[0], foot[1] - 0.06, 0)], 0.11, (42, 40, 42), RIDER)
    _torso(mesh, seat - 0.08, neck, (0.46, 0.34), top, RIDER)
    for sign in (-1, 1):
        arm = [(sign * 0.21, neck - 0.07, 0), (sign * 0.32, seat + 0.22, 0), (sign * 0.28, seat + 0.1, 0)]
        mesh.stroke(arm, 0.11, shaded(top, 0.78), RIDER)
    from_behind = abs(item.yaw) < 1.0
    _head(mesh, 0.0, neck + 0.16, 0.115, item, RIDER, from_behind)
    if motor or item.style % 2:
        mesh.disc((0.0, neck + 0.19, 0), 0.15 if motor else 0.135, shaded(item.accent, 1.5), RIDER, 'z')
        if motor and not from_behind:
            mesh.rect(-0.11, 0.11, neck + 0.13, neck + 0.22, 0.0, (36, 40, 46), RIDER)
    mesh.cast_box(0.2, neck + 0.2, 0.2, base=0.6)
    return mesh
