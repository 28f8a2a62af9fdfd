"""Depth, flow and motion of rendered streets: exact, which the images themselves can show."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import cv2
import numpy as np
import pytest

from sembox_ros.data.streets import StreetFrame, render_sequence, render_street
from sembox_ros.data.streets.camera import Camera, Light
from sembox_ros.data.streets.canvas import Canvas
from sembox_ros.data.streets.classes import BUILDING, CAR, PERSON, RIDER, ROAD, SKY
from sembox_ros.data.streets.geometry import Geometry, GeometryBuffer, Pose
from sembox_ros.data.streets.shapes import Mesh
from sembox_ros.labels import IGNORE_ID

THINGS = 11  # and above


@pytest.fixture(scope='module')
def drives() -> list[list[StreetFrame]]:
    return [
        list(render_sequence(frames=2, size_hw=(192, 384), seed=seed, rate_hz=10.0, geometry=True))
        for seed in range(1, 9)
    ]


def known(frame: StreetFrame) -> Geometry:
    assert frame.depth is not None
    assert frame.flow is not None
    assert frame.motion is not None
    return Geometry(frame.depth, frame.flow, frame.motion)


def test_images_and_labels_do_not_depend_on_the_geometry(drives: list[list[StreetFrame]]) -> None:
    bare = list(render_sequence(frames=2, size_hw=(192, 384), seed=1, rate_hz=10.0))
    for frame, again in zip(bare, drives[0], strict=True):
        assert frame.depth is frame.flow is frame.motion is None
        for field in ('image', 'semantic', 'instance', 'boxes_xyxy', 'ego', 'is_crowd'):
            np.testing.assert_array_equal(getattr(frame, field), getattr(again, field))


def test_shapes_types_and_unknowns(drives: list[list[StreetFrame]]) -> None:
    for frame in (frame for drive in drives for frame in drive):
        geometry = known(frame)
        high, wide = frame.semantic.shape
        assert geometry.depth.shape == geometry.motion.shape == (high, wide)
        assert geometry.flow.shape == (high, wide, 2)
        assert geometry.depth.dtype == geometry.flow.dtype == np.float32
        assert geometry.motion.dtype == np.uint8
        assert np.isfinite(geometry.depth).all()
        assert np.isfinite(geometry.flow).all()
        nothing = frame.ego | (frame.semantic == SKY)
        assert (geometry.depth[nothing] == 0).all()
        assert (geometry.depth[frame.semantic == ROAD] > 0).all()
        assert (geometry.flow[frame.ego] == 0).all()
        np.testing.assert_array_equal(geometry.motion == 255, frame.semantic == IGNORE_ID)


def test_a_still_knows_where_things_were_before() -> None:
    still = render_street(size_hw=(96, 192), seed=4, geometry=True)
    first = next(render_sequence(frames=1, size_hw=(96, 192), seed=4, geometry=True))
    for one, other in zip(dataclasses.astuple(known(still)), dataclasses.astuple(known(first)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(known(still).flow).max() > 1


def test_the_road_is_a_plane(drives: list[list[StreetFrame]]) -> None:
    for frame in (frame for drive in drives for frame in drive):
        rows = np.nonzero(frame.semantic == ROAD)[0]
        camera = frame.camera
        expected = camera.height * camera.focal_px / (rows - camera.horizon_px)
        np.testing.assert_allclose(known(frame).depth[frame.semantic == ROAD], expected, rtol=1e-4)


def warp_error(before: StreetFrame, frame: StreetFrame, where: np.ndarray) -> tuple[float, float]:
    """Mean difference of pixels to the frame before at pixel + flow, and at the pixel itself."""
    flow = known(frame).flow
    high, wide = where.shape
    at = (flow + np.stack(np.meshgrid(np.arange(wide), np.arange(high)), axis=-1)).astype(np.float32)
    inside = (at > 1).all(axis=-1) & (at < (wide - 2, high - 2)).all(axis=-1) & where
    warped = cv2.remap(before.image, at, None, cv2.INTER_LINEAR)
    pixels = frame.image[inside].astype(float)
    return float(np.abs(warped[inside] - pixels).mean()), float(np.abs(before.image[inside] - pixels).mean())


@pytest.mark.parametrize(('class_id', 'moving', 'share'), [
    (ROAD, 0, 0.6), (BUILDING, 0, 0.4), (CAR, 0, 0.35), (CAR, 1, 0.6), (PERSON, 1, 0.4), (RIDER, 1, 0.5),
])  # fmt: skip
def test_the_frame_before_shows_the_same_where_flow_points_to(
    drives: list[list[StreetFrame]], class_id: int, moving: int, share: float
) -> None:
    errors = []
    for before, frame in (pair for drive in drives for pair in pairwise(drive)):
        where = (frame.semantic == class_id) & (known(frame).motion == moving)
        if where.sum() > 100:
            errors.append((*warp_error(before, frame, where), where.sum()))
    assert len(errors) >= 2
    warped, plain, _ = np.average(errors, axis=0, weights=[count for *_, count in errors])
    assert warped < share * plain


def test_motion_is_the_things_own(drives: list[list[StreetFrame]]) -> None:
    for drive in drives:
        for frame in drive:
            motion = known(frame).motion
            assert set(motion[frame.semantic < THINGS].tolist()) <= {0}
            for track in frame.track_ids:
                assert len(set(motion[frame.instance == track].tolist())) == 1
    tracks = {
        (seed, int(track)): set(known(frame).motion[frame.instance == track].tolist())
        for seed, drive in enumerate(drives) for frame in drive for track in frame.track_ids
    }  # fmt: skip
    values = list(tracks.values())
    assert values.count({0}) > 50
    assert values.count({1}) > 20


def camera_at(z: float, yaw: float = 0.0) -> Camera:
    return Camera((120, 200), 100.0, 99.5, 40.0, 0.0, 1.5, z, yaw)


def draw(mesh: Mesh, mesh_before: Mesh, camera: Camera, before: Camera, z_before: float = 10.0) -> Geometry:
    """A mesh at z = 10 that was at another z one frame before."""
    buffer = GeometryBuffer(camera, before)
    canvas = Canvas(camera, Light.create(np.random.default_rng(0)), buffer)
    buffer.enter(Pose(mesh, 0.0, 10.0, 0.0), Pose(mesh_before, 0.0, z_before, 0.0))
    canvas.draw(mesh, 0.0, 10.0, 0.0, 1)
    return buffer.measure(canvas.labels()[0], np.zeros(camera.size_hw, bool), (3.0, -1.0))


def wall() -> Mesh:
    mesh = Mesh(two_sided=True)
    mesh.rect(-2.0, 2.0, 0.0, 3.0, 0.0, (90, 90, 90), CAR)
    return mesh


def test_flow_of_a_wall_ahead_points_to_the_middle_of_the_image() -> None:
    geometry = draw(wall(), wall(), camera_at(0.0), camera_at(-1.0))
    assert geometry.depth[30, 110] == pytest.approx(10.0)
    # 10 m ahead now, 11 m before: it was smaller by a tenth.
    np.testing.assert_allclose(
        geometry.flow[30, 110], ((110 - 99.5) * (10 / 11 - 1), (30 - 40) * (10 / 11 - 1)), rtol=1e-4
    )
    assert geometry.motion[30, 110] == 0


def test_flow_of_a_thing_that_drives_ahead_of_the_camera_is_none() -> None:
    geometry = draw(wall(), wall(), camera_at(0.0), camera_at(-1.0), z_before=9.0)
    np.testing.assert_allclose(geometry.flow[30, 110], 0, atol=1e-4)
    assert geometry.motion[30, 110] == 1


def test_flow_of_a_turning_camera_is_that_of_its_turn() -> None:
    geometry = draw(wall(), wall(), camera_at(0.0, yaw=0.02), camera_at(0.0))
    across = np.tan(np.arctan((110 - 99.5) / 100) + 0.02) * 100 + 99.5
    assert geometry.flow[30, 110, 0] == pytest.approx(across - 110, abs=1e-3)


def test_the_sky_has_its_own_flow_and_no_depth() -> None:
    geometry = draw(wall(), wall(), camera_at(0.0), camera_at(-1.0))
    assert geometry.flow[5, 5].tolist() == [3.0, -1.0]
    assert geometry.depth[5, 5] == 0


def test_what_was_behind_the_camera_has_no_flow() -> None:
    geometry = draw(wall(), wall(), camera_at(0.0), camera_at(0.0), z_before=-5.0)
    assert geometry.flow[30, 110].tolist() == [0.0, 0.0]
    assert geometry.depth[30, 110] == pytest.approx(10.0)


def leg(foot_x: float) -> Mesh:
    """A thick limb from a fixed hip to a foot, on a cut-out that faces the camera."""
    mesh = Mesh(two_sided=True, faces_camera=True)
    mesh.stroke([(0.0, 2.5, 0.0), (foot_x, 0.5, 0.0)], 0.6, (20, 20, 20), PERSON)
    return mesh


def test_a_limb_swings_about_its_joint() -> None:
    camera = camera_at(0.0)
    geometry = draw(leg(1.0), leg(0.0), camera, camera)
    hip, foot = camera.project(np.array(((0.0, -1.0, 10.0), (1.0, 1.0, 10.0)))).round().astype(int)
    np.testing.assert_allclose(geometry.flow[hip[1], hip[0]], 0, atol=1.0)
    np.testing.assert_allclose(geometry.flow[foot[1], foot[0]], (-10, 0), atol=1.0)
    knee = (hip + foot) // 2
    np.testing.assert_allclose(geometry.flow[knee[1], knee[0]], (-5, 0), atol=1.0)


def test_a_limb_of_a_mesh_with_other_parts_before_is_rigid() -> None:
    camera = camera_at(0.0)
    before = leg(0.0)
    before.stroke([(0.0, 1.0, 0.0), (1.0, 1.0, 0.0)], 0.1, (20, 20, 20), PERSON)
    geometry = draw(leg(1.0), before, camera, camera)
    foot = camera.project(np.array(((1.0, 1.0, 10.0),))).round().astype(int)[0]
    np.testing.assert_allclose(geometry.flow[foot[1], foot[0]], 0, atol=1e-3)


def test_depth_follows_a_stroke_that_leads_away() -> None:
    mesh = Mesh(two_sided=True)
    mesh.stroke([(-1.0, 1.5, 0.0), (1.0, 1.5, 10.0)], 0.2, (20, 20, 20), CAR)
    camera = camera_at(0.0)
    depth = draw(mesh, mesh, camera, camera).depth
    for x, z in ((-1.0, 10.0), (0.0, 15.0), (1.0, 20.0)):
        assert depth[40, round(99.5 + 100 * x / z)] == pytest.approx(z, rel=0.05)
