"""Every kind of object: its class and what builds its mesh. A new kind is one function and one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sembox_ros.data.streets import people, roadside, vehicles
from sembox_ros.data.streets.items import Item
from sembox_ros.data.streets.roadside import Materials
from sembox_ros.data.streets.shapes import Mesh


@dataclass(frozen=True)
class Kind:
    """How to make the mesh of an item.

    Attributes:
        build: mesh of (item, materials, seconds).
        is_thing: counted, so its items carry track ids.
        is_animated: the mesh changes with time; otherwise it is built once per item.
        range_m: how far away it is still drawn.
    """

    build: Callable[[Item, Materials, float], Mesh]
    is_thing: bool = False
    is_animated: bool = False
    range_m: float = 190.0


def _plain(build: Callable[[Item], Mesh], *, is_thing: bool = False, range_m: float = 190.0) -> Kind:
    return Kind(lambda item, _materials, _time_s: build(item), is_thing, range_m=range_m)


def _textured(build: Callable[[Item, Materials], Mesh], *, range_m: float = 300.0) -> Kind:
    return Kind(lambda item, materials, _time_s: build(item, materials), range_m=range_m)


def _animated(build: Callable[[Item, float], Mesh]) -> Kind:
    return Kind(lambda item, _materials, time_s: build(item, time_s), is_thing=True, is_animated=True)


KINDS: dict[str, Kind] = {
    'building': _textured(roadside.build_building),
    'wall': _textured(roadside.build_wall),
    'fence': _textured(roadside.build_fence),
    'hedge': _textured(roadside.build_hedge),
    'tree': _textured(roadside.build_tree),
    'lamp': _plain(roadside.build_lamp),
    'bollard': _plain(roadside.build_bollard, range_m=90.0),
    'sign': _plain(roadside.build_sign),
    'light': _plain(roadside.build_light),
    'bin': _plain(roadside.build_bin, range_m=120.0),
    'person': _animated(people.build_person),
    'rider': _animated(people.build_rider),
    'car': _plain(vehicles.build_car, is_thing=True, range_m=240.0),
    'truck': _plain(vehicles.build_truck, is_thing=True, range_m=300.0),
    'bus': _plain(vehicles.build_bus, is_thing=True, range_m=300.0),
    'tram': _plain(vehicles.build_tram, is_thing=True, range_m=300.0),
    'motorcycle': _plain(vehicles.build_motorcycle, is_thing=True),
    'bicycle': _plain(vehicles.build_bicycle, is_thing=True),
}
