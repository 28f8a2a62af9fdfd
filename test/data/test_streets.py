"""The procedural streets: labels must be exact, repeatable and consistent over time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from sembox_ros.data.streets import StreetFrame, render_sequence, render_street
from sembox_ros.data.streets.camera import Camera, Light
from sembox_ros.data.streets.canvas import Canvas
from sembox_ros.data.streets.classes import CAR, PERSON, POLE
from sembox_ros.data.streets.items import Item
from sembox_ros.data.streets.shapes import Mesh
from sembox_ros.errors import ConfigError
from sembox_ros.labels import CITYSCAPES_19

SMALL_HW = (128, 256)
THING_IDS = [index for index, thing in enumerate(CITYSCAPES_19.is_thing) if thing]


@pytest.fixture(scope='module')
def stills() -> list[StreetFrame]:
    return [render_street(size_hw=SMALL_HW, seed=seed) for seed in range(40)]


@pytest.fixture(scope='module')
def drive() -> list[StreetFrame]:
    return list(render_sequence(frames=10, size_hw=(160, 320), seed=12, rate_hz=25.0))


def assert_same(first: StreetFrame, second: StreetFrame) -> None:
    for name in ('image', 'semantic', 'instance', 'boxes_xyxy', 'class_ids', 'track_ids'):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.stamp_ns == second.stamp_ns


def test_same_arguments_give_identical_arrays_and_short_sequences_are_prefixes(drive: list[StreetFrame]) -> None:
    again = list(render_sequence(frames=5, size_hw=(160, 320), seed=12, rate_hz=25.0))
    for first, second in zip(drive, again, strict=False):
        assert_same(first, second)


def test_still_is_first_frame(drive: list[StreetFrame]) -> None:
    assert_same(render_street(size_hw=(160, 320), seed=12), drive[0])


def test_different_seeds_differ(stills: list[StreetFrame]) -> None:
    for first, second in pairwise(stills):
        assert (first.semantic != second.semantic).mean() > 0.02
        assert np.abs(first.image.astype(int) - second.image).mean() > 5


@pytest.mark.parametrize('size_hw', [(32, 32), (33, 65), (48, 200), (200, 48)])
def test_shapes_and_dtypes(size_hw: tuple[int, int]) -> None:
    frame = render_street(size_hw=size_hw, seed=3)
    count = len(frame.track_ids)
    for array, shape, dtype in (
        (frame.image, (*size_hw, 3), np.uint8),
        (frame.semantic, size_hw, np.uint8),
        (frame.instance, size_hw, np.int32),
        (frame.boxes_xyxy, (count, 4), np.float32),
        (frame.class_ids, (count,), np.int64),
        (frame.track_ids, (count,), np.int64),
    ):
        assert array.shape == shape
        assert array.dtype == dtype


def test_stamps_follow_the_rate() -> None:
    stamps = [f.stamp_ns for f in render_sequence(frames=4, size_hw=(32, 64), seed=0, rate_hz=30.0)]
    assert stamps == [0, 33333333, 66666667, 100000000]


def test_semantic_ids_are_known(stills: list[StreetFrame]) -> None:
    seen = set(np.unique(np.concatenate([still.semantic.ravel() for still in stills])).tolist())
    assert seen <= {*range(19), 255}


def test_nearly_all_classes_occur(stills: list[StreetFrame]) -> None:
    pixels = sum(np.bincount(still.semantic.ravel(), minlength=256) for still in stills)
    occurring = [CITYSCAPES_19.names[index] for index in range(19) if pixels[index] >= 50]
    assert len(occurring) >= 17, f'missing: {sorted(set(CITYSCAPES_19.names) - set(occurring))}'


def test_scenes_have_the_structure_of_a_street(stills: list[StreetFrame]) -> None:
    road, sky = CITYSCAPES_19.names.index('road'), CITYSCAPES_19.names.index('sky')
    rows = np.arange(SMALL_HW[0])[:, None]
    for still in stills:
        assert (still.semantic == road).mean() > 0.05
        assert rows[np.nonzero(still.semantic == road)[0]].min() > 0.3 * SMALL_HW[0]
        assert not (still.semantic[int(0.6 * SMALL_HW[0]) :] == sky).any()
        assert 20 < still.image.mean() < 230
        assert still.image.std() > 15


def test_boxes_are_tight_and_complete(stills: list[StreetFrame], drive: list[StreetFrame]) -> None:
    assert sum(len(frame.track_ids) for frame in stills) > 200
    for frame in [*stills, *drive]:
        assert sorted(frame.track_ids.tolist()) == sorted(set(np.unique(frame.instance).tolist()) - {0})
        for box, track in zip(frame.boxes_xyxy, frame.track_ids, strict=True):
            ys, xs = np.nonzero(frame.instance == track)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_instances_have_one_thing_class(stills: list[StreetFrame], drive: list[StreetFrame]) -> None:
    for frame in [*stills, *drive]:
        for class_id, track in zip(frame.class_ids, frame.track_ids, strict=True):
            assert np.unique(frame.semantic[frame.instance == track]).tolist() == [class_id]
        np.testing.assert_array_equal(np.isin(frame.semantic, THING_IDS), frame.instance > 0)


Things = dict[int, tuple[np.ndarray, int]]  # track id -> box and class id


def pairs(frames: list[StreetFrame]) -> Iterator[tuple[Things, Things]]:
    tables = [
        {int(t): (b, int(c)) for t, b, c in zip(f.track_ids, f.boxes_xyxy, f.class_ids, strict=True)} for f in frames
    ]
    return pairwise(tables)


def test_tracks_keep_their_class_and_do_not_jump(drive: list[StreetFrame]) -> None:
    shared, shifts = 0, []
    for before, after in pairs(drive):
        both = before.keys() & after.keys()
        assert len(both) >= 0.75 * len(before)
        shared += len(both)
        for track in both:
            (old, old_class), (new, new_class) = before[track], after[track]
            assert old_class == new_class
            # Occlusion may cut a box down at once, but within 40 ms the next box is never somewhere else.
            reach = 3.0 + 0.3 * float((old[2:] - old[:2]).max())
            gaps = np.maximum(old[:2] - new[2:], new[:2] - old[2:])
            assert gaps.max() <= reach
            shifts.append(np.abs(old[:2] + old[2:] - new[:2] - new[2:]).max() / 2)
    assert shared > 100
    assert np.median(shifts) < 1.5
    assert np.max(shifts) > 0.5, 'nothing moves'


def test_the_static_world_does_not_pop() -> None:
    frames = list(render_sequence(frames=12, size_hw=SMALL_HW, seed=2, rate_hz=100.0))
    changed = [(a.semantic != b.semantic).mean() for a, b in pairwise(frames)]
    assert max(changed) < 0.03
    assert max(changed) < 3.0 * np.median(changed)


def test_seed_means_the_same_street_at_every_size() -> None:
    large, small = render_street(size_hw=(256, 512), seed=5), render_street(size_hw=SMALL_HW, seed=5)
    assert (large.semantic[::2, ::2] == small.semantic).mean() > 0.9


def test_items_move_continuously() -> None:
    walker = Item('person', -5.0, 30.0, cross_speed=1.4, cross_start=2.0, cross_for=6.0)
    times = np.arange(0, 10, 0.1)
    places = np.array([walker.place_at(float(t)) for t in times])
    assert np.abs(np.diff(places, axis=0)).max() <= 0.14 + 1e-9
    assert places[-1, 0] == pytest.approx(-5.0 + 1.4 * 6.0)
    assert [walker.walks_across(t) for t in (1.0, 3.0, 9.0)] == [False, True, False]


@pytest.fixture
def canvas() -> Canvas:
    light = Light(np.array((0.0, 1.0, 0.0)), np.full(3, 0.5), np.full(3, 0.5), np.full(3, 128.0), 1e9, 0.5)
    return Canvas(Camera((120, 200), 100.0, 99.5, 40.0, 0.0, 1.5, 0.0, 0.0), light)


def board(x: float, rgb: tuple[float, float, float], class_id: int) -> Mesh:
    mesh = Mesh(two_sided=True)
    mesh.face([(x - 1, 0, 0), (x + 1, 0, 0), (x + 1, 2, 0), (x - 1, 2, 0)], rgb, class_id, glow=True)
    mesh.stroke([(x, 2, 0), (x + 0.5, 3, 0)], 0.3, rgb, class_id)
    return mesh


def test_colour_and_owner_are_written_by_the_same_mask(canvas: Canvas) -> None:
    canvas.draw(board(0.0, (100, 20, 20), CAR), 0.0, 8.0, 0.3, 7)
    semantic, instance = canvas.labels()
    drawn = canvas.color[..., 0] != 255  # an empty canvas is white
    assert drawn.sum() > 400
    np.testing.assert_array_equal(drawn, semantic == CAR)
    np.testing.assert_array_equal(drawn, instance == 7)


def test_projection_puts_a_board_where_a_pinhole_sees_it(canvas: Canvas) -> None:
    mesh = Mesh(two_sided=True)
    mesh.face([(-1, 0, 0), (1, 0, 0), (1, 2, 0), (-1, 2, 0)], (200, 200, 200), POLE)
    canvas.draw(mesh, 2.0, 10.0, 0.0, 0)
    ys, xs = np.nonzero(canvas.labels()[0] == POLE)
    # Columns 99.5 + 100 * (1..3) / 10, rows 40 + 100 * (1.5 - 2..0) / 10.
    assert [xs.min(), xs.max(), ys.min(), ys.max()] == pytest.approx([109.5, 129.5, 35.0, 55.0], abs=1.0)


@pytest.mark.parametrize('near_first', [True, False])
def test_nearer_objects_hide_farther_ones_in_any_order(canvas: Canvas, near_first: bool) -> None:
    jobs = [(board(0.0, (255, 0, 0), CAR), 6.0, 1), (board(0.2, (0, 255, 0), PERSON), 9.0, 2)]
    for mesh, z, track in jobs if near_first else reversed(jobs):
        canvas.draw(mesh, 0.0, z, 0.0, track)
    alone = Canvas(canvas.camera, canvas.light)
    alone.draw(jobs[0][0], 0.0, 6.0, 0.0, 1)
    np.testing.assert_array_equal(canvas.labels()[1] == 1, alone.labels()[1] == 1)
    assert (canvas.labels()[1] == 2).any()


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('frames', 0),
        ('frames', 2.0),
        ('frames', True),
        ('size_hw', (31, 64)),
        ('size_hw', (64, 31)),
        ('size_hw', (64.0, 64)),
        ('size_hw', (64,)),
        ('size_hw', 64),
        ('seed', -1),
        ('seed', 1.5),
        ('rate_hz', 0.0),
        ('rate_hz', -10.0),
        ('rate_hz', float('nan')),
        ('rate_hz', 'fast'),
    ],
)
def test_wrong_arguments_are_named_at_once(name: str, value: object) -> None:
    arguments = {'frames': 1, 'size_hw': (64, 64), 'seed': 0, 'rate_hz': 10.0, name: value}
    with pytest.raises(ConfigError, match=name) as caught:
        render_sequence(**arguments)  # not iterated: it must not wait for the first frame
    assert repr(value) in str(caught.value)
    assert 'expected' in str(caught.value)


def test_still_checks_its_arguments_too() -> None:
    with pytest.raises(ConfigError, match='size_hw'):
        render_street(size_hw=(16, 16), seed=0)
