"""Objects keep their numbers from frame to frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.data.streets import render_sequence
from sembox_ros.errors import InputError
from sembox_ros.inference import tracking
from sembox_ros.inference.tracking import MAX_LOST_FRAMES, MAX_LOST_S, SceneTracker, renumber
from sembox_ros.labels import CITYSCAPES_19, SceneLabels
from sembox_ros.panoptic import compose_panoptic, list_segments
from sembox_ros.types import MAX_INSTANCE, Detections, Scene

SIZE_HW = (200, 400)
PERIOD_S = 0.1
START_NS = 1_700_000_000 * 10**9
CAR, PERSON = 13, 11


def boxes_at(*rows: tuple[float, ...], classes: tuple[int, ...] = ()) -> Detections:
    """Detections of (x, y, width, height) each, cars if no classes are given."""
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    class_ids = np.array(classes or (CAR,) * len(boxes), np.int64)
    return Detections(boxes, class_ids, np.linspace(0.9, 0.5, len(boxes), dtype=np.float32))


class Camera:
    """Feeds a tracker at a steady rate."""

    def __init__(self, size_hw: tuple[int, int] = SIZE_HW):
        self.tracker = SceneTracker()
        self.time_s = 0.0
        self.size_hw = size_hw

    def see(self, *rows: tuple[float, ...], classes: tuple[int, ...] = (), after_s: float = PERIOD_S) -> list[int]:
        self.time_s += after_s
        scene = Scene(self.size_hw, detections=boxes_at(*rows, classes=classes))
        found = self.tracker.update(scene, START_NS + round(self.time_s * 1e9)).detections
        assert found is not None
        return found.ids.tolist()


def test_objects_keep_their_numbers_in_whatever_order_they_come():
    camera = Camera()
    assert camera.see((10, 50, 40, 30), (200, 60, 20, 40)) == [1, 2]
    assert camera.see((203, 60, 20, 40), (12, 50, 40, 30)) == [2, 1]
    assert camera.see((300, 10, 30, 30), (206, 60, 20, 40), (14, 50, 40, 30)) == [3, 2, 1]
    assert camera.see() == []


def test_objects_that_cross_are_told_apart_by_where_they_were_going():
    camera = Camera()
    for step in range(25):  # side by side in the middle, at 12 px a frame against each other
        left, right = 20 + 12 * step, 320 - 12 * step
        assert camera.see((left, 80, 40, 40), (right, 90, 40, 40)) == [1, 2], step


def test_an_object_that_was_hidden_has_its_old_number_and_one_that_was_away_for_long_a_new_one():
    camera = Camera()
    for step in range(8):
        camera.see((20 + 8 * step, 80, 40, 40))
    for _ in range(6):
        camera.see()
    assert camera.see((20 + 8 * 14, 80, 40, 40)) == [1]  # where it would have gone
    assert camera.see((20 + 8 * 35, 80, 40, 40), after_s=MAX_LOST_S + 0.1) == [2]


def test_a_box_continues_only_what_is_of_its_class():
    camera = Camera()
    assert camera.see((50, 50, 40, 40), classes=(CAR,)) == [1]
    assert camera.see((50, 50, 40, 40), (51, 50, 40, 40), classes=(PERSON, CAR)) == [2, 1]


def test_the_best_overlap_goes_first():
    camera = Camera()
    camera.see((50, 50, 40, 40), (80, 50, 40, 40))
    assert camera.see((62, 50, 40, 40), (82, 50, 40, 40), (51, 50, 40, 40)) == [3, 2, 1]


def test_cameras_know_nothing_of_each_other():
    front, left = Camera(), Camera()
    front.see((10, 10, 40, 40))
    assert left.see((300, 100, 40, 40), (10, 10, 40, 40)) == [1, 2]
    assert front.see((10, 10, 40, 40), (300, 100, 40, 40)) == [1, 2]


def test_time_that_goes_backwards_and_another_image_size_begin_anew_without_giving_numbers_twice():
    camera = Camera()
    camera.see((10, 10, 40, 40), (100, 10, 40, 40))
    assert camera.see((10, 10, 40, 40), after_s=-5.0) == [3]  # the bag was started again
    assert camera.see((10, 10, 40, 40)) == [3]
    camera.size_hw = (400, 400)
    assert camera.see((10, 10, 40, 40)) == [4]


def test_stamps_that_stand_still_are_tracked_and_forgotten_after_some_frames():
    camera = Camera()
    assert camera.see((10, 10, 40, 40), after_s=0.0) == [1]
    assert camera.see((12, 10, 40, 40), after_s=0.0) == [1]
    for _ in range(MAX_LOST_FRAMES - 1):
        camera.see(after_s=0.0)
    assert camera.see((12, 10, 40, 40), after_s=0.0) == [1]
    for _ in range(MAX_LOST_FRAMES):
        camera.see(after_s=0.0)
    assert camera.see((12, 10, 40, 40), after_s=0.0) == [2]


def test_numbers_wrap_around_and_pass_over_those_in_use():
    camera = Camera()
    camera.see((10, 10, 40, 40))
    camera.tracker._last_id = MAX_INSTANCE - 1
    assert camera.see((10, 10, 40, 40), (100, 10, 40, 40), (200, 10, 40, 40)) == [1, MAX_INSTANCE, 2]
    assert camera.see((200, 10, 40, 40), (300, 100, 40, 40)) == [2, 3]


def test_noise_does_not_grow_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking, 'MAX_TRACKS', 50)
    camera = Camera()
    generator = np.random.default_rng(0)
    for _ in range(20):
        corners = generator.uniform(0, 150, (40, 2))
        camera.see((300, 150, 40, 40), *((x, y, 3, 3) for x, y in corners))
    assert len(camera.tracker._tracks) <= 50 + 41
    assert camera.see((300, 150, 40, 40)) == [1]


def street_scene() -> tuple[Scene, SceneLabels]:
    """A rendered street as a predictor would give it, panoptic."""
    frame = next(render_sequence(frames=1, size_hw=(128, 256), seed=4))
    labels = SceneLabels.linked_by_name(CITYSCAPES_19, CITYSCAPES_19)
    order = np.arange(1, len(frame.track_ids) + 1)
    table = np.zeros(int(frame.instance.max()) + 1, np.uint16)
    table[frame.track_ids] = order
    instances = table[frame.instance]
    scores = np.linspace(0.9, 0.5, len(order), dtype=np.float32)
    detections = Detections(frame.boxes_xyxy, frame.class_ids, scores)
    panoptic = compose_panoptic(frame.semantic, instances, detections, labels)
    segments = list_segments(panoptic, detections)
    scene = Scene(
        frame.semantic.shape, semantic=frame.semantic, detections=detections, instances=instances, panoptic=panoptic,
        segments=segments, timings_ms={'network': 1.0},
    )  # fmt: skip
    return scene, labels


@pytest.mark.parametrize('first', [1, 300])  # numbers in a byte, and beyond
def test_everything_that_holds_a_number_is_renumbered(first: int):
    scene, labels = street_scene()
    assert scene.detections is not None
    assert scene.instances is not None
    count = len(scene.detections)
    assert count > 3
    scene = renumber(scene, np.arange(first, first + count))
    new = np.random.default_rng(0).permutation(MAX_INSTANCE)[:count].astype(np.int64) + 1
    found = renumber(scene, new)
    assert found.detections is not None
    assert found.instances is not None
    assert found.detections.ids.tolist() == new.tolist()
    assert found.instances.dtype == np.uint16
    for before, after in zip(range(first, first + count), new, strict=True):
        assert ((found.instances == after) == (scene.instances == before)).all()
    # Composed from scratch, the scene is the same.
    panoptic = compose_panoptic(scene.semantic, found.instances, found.detections, labels)
    assert (found.panoptic == panoptic).all()
    segments = list_segments(panoptic, found.detections)
    for name in ('ids', 'class_ids', 'scores', 'areas', 'boxes_xyxy'):
        assert (getattr(found.segments, name) == getattr(segments, name)).all(), name
    assert found.semantic is scene.semantic
    assert found.timings_ms == scene.timings_ms


def test_parts_that_are_not_there_stay_away():
    scene = SceneTracker().update(Scene(SIZE_HW, detections=boxes_at((1, 2, 3, 4))), 0)
    assert (scene.semantic, scene.instances, scene.panoptic, scene.segments) == (None,) * 4


def test_boxes_are_needed():
    with pytest.raises(InputError, match='scene: expected detections'):
        SceneTracker().update(Scene(SIZE_HW), 0)


frames = st.lists(
    st.tuples(
        st.lists(st.tuples(*[st.floats(0, 400, width=32)] * 4, st.integers(0, 2)), max_size=6), st.floats(-0.5, 5)
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(frames)
def test_whatever_is_seen_every_box_has_a_number_of_its_own(sequence: list):
    tracker, stamp_ns = SceneTracker(), START_NS
    for rows, after_s in sequence:
        stamp_ns += round(after_s * 1e9)
        corners = np.array([row[:4] for row in rows], np.float32).reshape(-1, 2, 2)
        boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
        class_ids = np.array([row[4] for row in rows], np.int64)
        given_boxes = Detections(boxes, class_ids, np.ones(len(boxes), np.float32))
        found = tracker.update(Scene((400, 400), detections=given_boxes), stamp_ns).detections
        assert found is not None  # its ids are checked where it is built
        assert replace(found, ids=given_boxes.ids) is not None
        assert (found.boxes_xyxy == boxes).all()
        assert np.isfinite(tracker._tracks['box_xyxy']).all()


def test_on_a_street_few_objects_change_their_number():
    """Ground truth that shakes and has gaps; without tracking, most numbers change in most frames."""
    tracker, generator, last = SceneTracker(), np.random.default_rng(0), {}
    switches = matches = 0
    for frame in render_sequence(frames=8, size_hw=(96, 192), seed=5):
        kept = ~frame.is_crowd & (generator.random(len(frame.track_ids)) > 0.1)
        boxes = frame.boxes_xyxy[kept]
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        boxes = (boxes + generator.normal(0, 0.03, boxes.shape) * sides).astype(np.float32).clip(0)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        detections = Detections(boxes, frame.class_ids[kept], np.ones(len(boxes), np.float32))
        found = tracker.update(Scene((96, 192), detections=detections), frame.stamp_ns).detections
        assert found is not None
        for truth, number in zip(frame.track_ids[kept].tolist(), found.ids.tolist(), strict=True):
            switches += last.setdefault(truth, number) != number
            last[truth] = number
            matches += 1
    assert matches > 100
    assert switches <= 0.1 * matches
