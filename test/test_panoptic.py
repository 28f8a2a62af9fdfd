from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sembox_ros.errors import InputError
from sembox_ros.labels import COCO_80, SceneLabels, load_scene_labels
from sembox_ros.panoptic import INSTANCES, VOID, compose_panoptic, list_segments, tight_boxes
from sembox_ros.types import Detections

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
ROAD, SKY, PERSON, CAR = (LABELS.semantic_names.index(name) for name in ('road', 'sky', 'person', 'car'))
A_PERSON, A_CAR = (LABELS.detection.names.index(name) for name in ('person', 'car'))


def detections(class_ids: list[int], ids: list[int] | None = None) -> Detections:
    """Boxes that do not matter, with scores 0.9, 0.8, ..."""
    return Detections(
        np.zeros((len(class_ids), 4), np.float32),
        np.array(class_ids, np.int64),
        np.linspace(0.9, 0.0, 10, dtype=np.float32)[: len(class_ids)],
        np.array(ids or range(1, len(class_ids) + 1), np.int64),
    )


def compose(semantic: list[list[int]], instances: list[list[int]], found: Detections, **options: Any) -> np.ndarray:
    masks = np.array(semantic, np.uint8), np.array(instances, np.uint16)
    return compose_panoptic(*masks, found, LABELS, **options)


def test_classes_come_from_the_mask_and_those_of_instances_from_their_detections() -> None:
    found = detections([A_CAR, A_PERSON], ids=[7, 65535])
    panoptic = compose([[ROAD, CAR, SKY, CAR], [ROAD, ROAD, 255, 200]], [[0, 7, 65535, 0], [7, 0, 0, 0]], found)
    # A car of the mask without an instance is void, and so is what is no class.
    wanted = [
        [ROAD * INSTANCES, CAR * INSTANCES + 7, PERSON * INSTANCES + 65535, VOID],
        [CAR * INSTANCES + 7, ROAD * INSTANCES, VOID, VOID],
    ]
    assert panoptic.tolist() == wanted
    assert panoptic.dtype == np.int32
    segments = list_segments(panoptic, found)
    assert segments.ids.tolist() == [ROAD * INSTANCES, PERSON * INSTANCES + 65535, CAR * INSTANCES + 7]
    assert segments.class_ids.tolist() == [ROAD, PERSON, CAR]
    np.testing.assert_allclose(segments.scores, [1, 0.8, 0.9])
    assert segments.areas.tolist() == [2, 1, 2]
    assert segments.boxes_xyxy.tolist() == [[0, 0, 2, 2], [2, 0, 3, 1], [0, 0, 2, 2]]


def test_little_stuff_becomes_void_and_little_things_stay() -> None:
    semantic, instances = [[ROAD, ROAD, ROAD, SKY, CAR]], [[0, 0, 1, 0, 1]]
    found = detections([A_CAR])
    kept = [ROAD * INSTANCES, ROAD * INSTANCES, CAR * INSTANCES + 1, SKY * INSTANCES, CAR * INSTANCES + 1]
    assert compose(semantic, instances, found, min_stuff_area=1).tolist() == [kept]
    kept[3] = VOID
    assert compose(semantic, instances, found, min_stuff_area=2).tolist() == [kept]
    kept[:2] = VOID, VOID  # the road's third pixel is the car's
    assert compose(semantic, instances, found, min_stuff_area=3).tolist() == [kept]


def test_nothing_at_all_is_void() -> None:
    panoptic = compose([[255, CAR]], [[0, 0]], Detections.empty())
    assert panoptic.tolist() == [[VOID, VOID]]
    assert len(list_segments(panoptic, Detections.empty())) == 0


def test_boxes_of_another_vocabulary_become_classes_of_the_mask() -> None:
    labels = load_scene_labels('cityscapes_19+coco_80')
    found = detections([COCO_80.names.index('car')])
    panoptic = compose_panoptic(np.full((1, 1), ROAD, np.uint8), np.ones((1, 1), np.uint16), found, labels)
    assert panoptic.tolist() == [[CAR * INSTANCES + 1]]
    spoon = detections([COCO_80.names.index('spoon')])
    with pytest.raises(InputError, match='instances: expected ids of detections of linked classes, got 1'):
        compose_panoptic(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint16), spoon, labels)


def test_what_does_not_fit_is_refused() -> None:
    semantic, instances = np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint16)
    for changed, words in (
        ({'semantic': semantic.astype(int)}, 'semantic: .*uint8'),
        ({'instances': instances[:1]}, r'instances: expected shape \(2, 3\)'),
        ({'instances': instances.astype(np.uint8)}, 'instances: .*uint16'),
        ({'instances': instances + np.uint16(9)}, 'instances: .*got 9'),
        ({'labels': SceneLabels(None, COCO_80)}, 'labels: expected a semantic label set'),
    ):
        arguments = {'semantic': semantic, 'instances': instances, 'detections': detections([A_CAR]), 'labels': LABELS}
        with pytest.raises(InputError, match=words):
            compose_panoptic(**{**arguments, **changed})
    with pytest.raises(InputError, match=r'numbers: .*uint16'):
        tight_boxes(semantic, 1)
    with pytest.raises(InputError, match=r'panoptic: .*int32'):
        list_segments(instances, Detections.empty())


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Detections, int]:
    """A mask, instances that all have detections, those in any order, and a smallest area."""
    shape = draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=8))
    ids = draw(st.lists(st.integers(1, 65535), max_size=4, unique=True))
    semantic = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, PERSON, CAR, 18, 19, 255])))
    instances = draw(arrays.arrays(np.uint16, shape, elements=st.sampled_from([0, *ids])))
    classes = draw(st.lists(st.integers(0, 7), min_size=len(ids), max_size=len(ids)))
    return semantic, instances, detections(classes, ids), draw(st.integers(0, 6))


def box_of(mask: np.ndarray) -> list[int]:
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@given(scene=scenes())
def test_any_scene_is_composed_and_listed_as_pixel_by_pixel(
    scene: tuple[np.ndarray, np.ndarray, Detections, int],
) -> None:
    semantic, instances, found, min_stuff_area = scene
    panoptic = compose_panoptic(semantic, instances, found, LABELS, min_stuff_area=min_stuff_area)
    rows = {number: row for row, number in enumerate(found.ids.tolist())}
    for place in np.ndindex(semantic.shape):
        class_id, number = int(semantic[place]), int(instances[place])
        wanted = VOID
        if number:
            wanted = LABELS.thing_links[int(found.class_ids[rows[number]])] * INSTANCES + number
        elif class_id < 19 and not LABELS.semantic.is_thing[class_id]:
            area = np.count_nonzero((semantic == class_id) & (instances == 0))
            wanted = class_id * INSTANCES if area >= min_stuff_area else VOID
        assert panoptic[place] == wanted
    segments = list_segments(panoptic, found)
    assert segments.ids.tolist() == sorted(set(panoptic.ravel().tolist()) - {VOID})
    for row, segment in enumerate(segments.ids.tolist()):
        mask = panoptic == segment
        assert segments.class_ids[row] == segment // INSTANCES
        assert segments.areas[row] == mask.sum()
        assert segments.boxes_xyxy[row].tolist() == box_of(mask)
        assert segments.scores[row] == (found.scores[rows[segment % INSTANCES]] if segment % INSTANCES else 1)


@given(
    numbers=arrays.arrays(
        np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, 5) | st.just(65535),
    ),
    count=st.integers(0, 7),
    is_view=st.booleans(),
)  # fmt: skip
def test_boxes_are_tight(numbers: np.ndarray, count: int, is_view: bool) -> None:
    numbers = numbers.T[::-1] if is_view else numbers
    boxes = tight_boxes(numbers, count)
    assert (boxes.shape, boxes.dtype) == ((count, 4), np.float32)
    for number, box in enumerate(boxes.tolist(), start=1):
        mask = numbers == number
        assert box == (box_of(mask) if mask.any() else [0, 0, 0, 0])
