"""What labels of an image stand for: panoptic ids, and which of them are crowds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import InputError
from sembox_ros.labels import CITYSCAPES_19, COCO_90, SceneLabels, load_scene_labels
from sembox_ros.panoptic import INSTANCES, VOID, compose_truth

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
ROAD, PERSON, CAR = (CITYSCAPES_19.names.index(name) for name in ('road', 'person', 'car'))
BOX_PERSON, BOX_CAR = (LABELS.detection.names.index(name) for name in ('person', 'car'))


def truth(
    semantic: list[int], instances: list[int], rows: list[tuple[int, bool]], labels: SceneLabels = LABELS
) -> tuple[list[int], tuple[int, ...]]:
    class_ids, is_crowd = (np.array([row[i] for row in rows]) for i in range(2))
    panoptic, crowds = compose_truth(
        np.array([semantic], np.uint8), np.array([instances], np.uint16), class_ids.astype(np.int64),
        is_crowd.astype(np.bool_), labels,
    )  # fmt: skip
    assert panoptic.dtype == np.int32
    return panoptic[0].tolist(), crowds


def test_stuff_objects_and_void():
    rows = [(BOX_CAR, False), (BOX_CAR, False), (BOX_PERSON, False)]
    found, crowds = truth([ROAD, CAR, CAR, PERSON, 255], [0, 1, 2, 3, 0], rows)
    assert found == [ROAD * INSTANCES, CAR * INSTANCES + 1, CAR * INSTANCES + 2, PERSON * INSTANCES + 3, VOID]
    assert crowds == ()


def test_crowds_are_one_region_with_what_belongs_to_no_object():
    rows = [(BOX_CAR, True), (BOX_CAR, False), (BOX_CAR, True), (BOX_PERSON, True)]
    found, crowds = truth([CAR] * 4 + [PERSON], [1, 2, 3, 0, 4], rows)
    car = CAR * INSTANCES
    assert found == [car, car + 2, car, car, PERSON * INSTANCES]
    assert crowds == (PERSON * INSTANCES, car)


def test_the_object_decides_where_the_mask_differs():
    found, crowds = truth([255, PERSON], [1, 1], [(BOX_CAR, False)])
    assert found == [CAR * INSTANCES + 1] * 2
    assert crowds == ()


def test_an_object_whose_class_the_mask_lacks_stays_with_its_pixels():
    tree = COCO_90.names.index('dog')
    labels = load_scene_labels('cityscapes_19+coco_90')
    assert truth([ROAD, 255, CAR], [1, 1, 1], [(tree, False)], labels) == (
        [ROAD * INSTANCES, VOID, CAR * INSTANCES], (CAR * INSTANCES,),
    )  # fmt: skip


def test_nothing_at_all():
    empty, crowds = compose_truth(
        np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint16), np.zeros(0, np.int64), np.zeros(0, np.bool_), LABELS
    )
    assert (empty.shape, crowds) == ((0, 4), ())


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_equals_pixel_by_pixel(data: st.DataObject):
    rows = data.draw(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=4))
    size = data.draw(st.integers(1, 12))
    semantic = data.draw(st.lists(st.sampled_from([ROAD, PERSON, CAR, 255]), min_size=size, max_size=size))
    instances = data.draw(st.lists(st.integers(0, len(rows)), min_size=size, max_size=size))
    expected = []
    for class_id, row in zip(semantic, instances, strict=True):
        if row:
            expected.append(LABELS.thing_links[rows[row - 1][0]] * INSTANCES + (0 if rows[row - 1][1] else row))
        else:
            expected.append(class_id * INSTANCES)
    found, crowds = truth(semantic, instances, rows)
    assert found == expected
    things = {index * INSTANCES for index, is_thing in enumerate(CITYSCAPES_19.is_thing) if is_thing}
    assert set(crowds) == set(expected) & things


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'semantic': np.zeros((1, 3), np.uint8)}, r'instances: expected shape \(1, 3\), got \(1, 2\)'),
        ({'instances': np.ones((1, 2), np.int64)}, 'instances: expected dtype uint16'),
        ({'instances': np.full((1, 2), 2, np.uint16)}, r'instances: expected rows 1\.\.1 of class_ids, got 2'),
        ({'is_crowd': np.zeros(2, np.bool_)}, r'is_crowd: expected shape \(1,\)'),
        ({'labels': SceneLabels(None, LABELS.detection)}, 'labels: expected a semantic label set, got none'),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str):
    fitting = {
        'semantic': np.zeros((1, 2), np.uint8), 'instances': np.ones((1, 2), np.uint16),
        'class_ids': np.zeros(1, np.int64), 'is_crowd': np.zeros(1, np.bool_), 'labels': LABELS,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        compose_truth(**{**fitting, **changes})
