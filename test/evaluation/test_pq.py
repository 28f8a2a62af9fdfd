"""PanopticQuality against numbers worked out by hand and against a slow reference that follows the paper's text."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import InputError
from sembox_ros.evaluation.pq import PanopticQuality
from sembox_ros.evaluation.scores import PanopticScores
from sembox_ros.labels import LabelSet
from sembox_ros.panoptic import INSTANCES, VOID

ROAD, CAR, PERSON = range(3)
LABELS = LabelSet(
    name='three', names=('road', 'car', 'person'), palette=((0, 0, 0),) * 3, is_thing=(False, True, True)
)
UNIT = 1 << 36


def segment(class_id: int, instance: int = 0) -> int:
    return class_id * INSTANCES + instance


R, V, C1, C2, P1 = segment(ROAD), VOID, segment(CAR, 1), segment(CAR, 2), segment(PERSON, 1)


def row(*pixels: tuple[int, int]) -> np.ndarray:
    """(1, W) panoptic ids of (id, how many pixels) one after the other."""
    return np.repeat([value for value, _ in pixels], [count for _, count in pixels])[None].astype(np.int32)


def scores(pred: np.ndarray, gt: np.ndarray, crowd: tuple[int, ...] = ()) -> PanopticScores:
    metric = PanopticQuality(LABELS)
    pq = metric.update(pred, gt, gt_crowd=crowd)
    found = metric.compute()
    assert pq == found.pq or (math.isnan(pq) and math.isnan(found.pq))
    return found


def counts(pred: np.ndarray, gt: np.ndarray, crowd: tuple[int, ...] = ()) -> list[list[float]]:
    """For each class: sum of IoUs, matches, wrong and missed segments."""
    metric = PanopticQuality(LABELS)
    metric.update(pred, gt, gt_crowd=crowd)
    found = metric.counts()
    return [[iou / UNIT, *rest] for iou, *rest in found.tolist()]


NONE = [0, 0, 0, 0]


def test_a_perfect_scene():
    gt = row((R, 4), (C1, 3), (C2, 2), (V, 1))
    found = scores(gt, gt)
    assert (found.pq, found.sq, found.rq) == (1, 1, 1)
    assert (found.pq_things, found.sq_things, found.rq_things) == (1, 1, 1)
    assert (found.pq_stuff, found.sq_stuff, found.rq_stuff) == (1, 1, 1)
    assert {name: value for name, value in found.pq_per_class.items() if value == value} == {'road': 1, 'car': 1}
    assert counts(gt, gt) == [[1, 1, 0, 0], [2, 2, 0, 0], NONE]


def test_ids_swapped_change_nothing():
    gt = row((R, 4), (C1, 3), (C2, 2))
    pred = row((R, 4), (C2, 3), (segment(CAR, 65535), 2))
    assert counts(pred, gt) == counts(gt, gt)


def test_a_shifted_segment_by_hand():
    # Car: 6 pixels, 4 of them found, 1 more said: IoU 4 / 7. Road: 10, of which 9 are found, 2 more said: 9 / 12.
    gt, pred = row((R, 10), (C1, 6)), row((R, 9), (C1, 5), (R, 2))
    found = scores(pred, gt)
    assert found.pq_per_class['car'] == pytest.approx(4 / 7)
    assert found.pq_per_class['road'] == pytest.approx(9 / 12)
    assert (found.pq_things, found.pq_stuff) == (pytest.approx(4 / 7), pytest.approx(3 / 4))
    assert found.pq == pytest.approx((4 / 7 + 3 / 4) / 2)
    assert found.rq == 1
    assert math.isnan(found.pq_per_class['person'])


def test_one_segment_split_in_two():
    gt = row((C1, 10))
    # The larger half matches with IoU 0.6, the other one is wrong: PQ = 0.6 / (1 + 1/2).
    found = scores(row((C1, 6), (C2, 4)), gt)
    assert (found.pq, found.sq, found.rq) == (pytest.approx(0.4), pytest.approx(0.6), pytest.approx(2 / 3))
    # At exactly one half nothing matches: two wrong ones and a missed one.
    assert counts(row((C1, 5), (C2, 5)), gt) == [NONE, [0, 0, 2, 1], NONE]
    assert scores(row((C1, 5), (C2, 5)), gt).sq == 0


def test_two_segments_merged_into_one():
    assert counts(row((C1, 10)), row((C1, 6), (C2, 4))) == [NONE, [pytest.approx(0.6), 1, 0, 1], NONE]


def test_another_class_is_wrong_and_missed():
    assert counts(row((P1, 4)), row((C1, 4))) == [NONE, [0, 0, 0, 1], [0, 0, 1, 0]]
    assert scores(row((P1, 4)), row((C1, 4))).pq == 0


def test_nothing_predicted_and_nothing_there():
    gt = row((R, 4), (C1, 2))
    assert counts(row((V, 6)), gt) == [[0, 0, 0, 1], [0, 0, 0, 1], NONE]
    assert scores(row((V, 6)), gt).pq == 0
    nothing = scores(row((V, 6)), row((V, 6)))
    assert all(math.isnan(value) for value in (nothing.pq, nothing.sq, nothing.rq, nothing.pq_things, nothing.pq_stuff))
    empty = np.zeros((0, 5), np.int32)
    assert math.isnan(PanopticQuality(LABELS).update(empty, empty))


def test_void_of_the_truth_excuses():
    # All of it unlabeled: whatever is said there is right.
    assert counts(row((R, 3), (C1, 3)), row((V, 6))) == [NONE, NONE, NONE]
    # Void pixels belong to no union: a car of 4 said as 6 with 2 of them on void is perfect.
    assert counts(row((C1, 6)), row((C1, 4), (V, 2))) == [NONE, [1, 1, 0, 0], NONE]
    # More than half on void is excused, half is not.
    assert counts(row((C1, 3), (R, 3)), row((V, 2), (R, 4)))[CAR] == NONE
    assert counts(row((C1, 4), (R, 4)), row((V, 2), (R, 6)))[CAR] == [0, 0, 1, 0]
    # Void of the prediction is no segment, and costs what it covers.
    assert counts(row((V, 4), (C1, 6)), row((C1, 10))) == [NONE, [pytest.approx(0.6), 1, 0, 0], NONE]


def test_crowds_excuse_their_own_class():
    crowd = segment(CAR)
    gt = row((crowd, 6), (R, 4))
    # Three cars said in the crowd, none is wrong; the crowd is not missed.
    assert counts(row((C1, 3), (C2, 2), (V, 1), (R, 4)), gt, (crowd,)) == [[1, 1, 0, 0], NONE, NONE]
    # Not even one that has exactly its pixels is a match; without the word it would be.
    assert counts(row((C1, 6), (R, 4)), gt, (crowd,))[CAR] == NONE
    assert counts(row((C1, 6), (R, 4)), gt)[CAR] == [1, 1, 0, 0]
    # A person in it is wrong, and so is a car half outside.
    assert counts(row((P1, 6), (R, 4)), gt, (crowd,))[PERSON] == [0, 0, 1, 0]
    assert counts(row((V, 4), (C1, 4), (R, 2)), gt, (crowd,))[CAR] == [0, 0, 1, 0]
    # Void and crowd add up, and all crowds of a class are one region.
    other = segment(CAR, 9)
    gt = row((crowd, 2), (V, 2), (other, 2), (R, 5))
    assert counts(row((C1, 11)), gt, (crowd, other))[CAR] == NONE
    assert counts(row((C1, 11)), gt, (crowd,))[CAR] == [0, 0, 1, 1]


def test_missing_a_class_of_one_image_is_told_by_the_other():
    metric = PanopticQuality(LABELS)
    assert metric.update(row((C1, 4)), row((C1, 4))) == 1
    assert metric.update(row((R, 4)), row((C1, 4))) == 0
    found = metric.compute()
    assert found.pq_per_class['car'] == pytest.approx(1 / 1.5)
    assert (found.sq_per_class['car'], found.rq_per_class['car']) == (1, pytest.approx(1 / 1.5))
    assert (found.sq_per_class['road'], found.rq_per_class['road']) == (0, 0)
    metric.reset()
    assert math.isnan(metric.compute().pq)


def reference(pred: np.ndarray, gt: np.ndarray, crowd: set[int]) -> list[list[float]]:
    """The same by sets of pixels, segment by segment."""
    found = [[0.0, 0, 0, 0] for _ in LABELS.names]
    pixels = {
        name: {int(value): frozenset(np.flatnonzero(ids == value)) for value in np.unique(ids) if value < VOID}
        for name, ids in (('gt', gt), ('pred', pred))
    }
    void = frozenset(np.flatnonzero(gt >= VOID))
    matched = set()
    for value, own in pixels['gt'].items():
        if value in crowd:
            continue
        is_missed = 1
        for said, theirs in pixels['pred'].items():
            iou = len(own & theirs) / len((theirs - void) | own)
            if said // INSTANCES == value // INSTANCES and iou > 0.5:
                found[value // INSTANCES][0] += iou
                found[value // INSTANCES][1] += 1
                matched.add(said)
                is_missed = 0
        found[value // INSTANCES][3] += is_missed
    for said, theirs in pixels['pred'].items():
        same_class = {value for value in crowd if value // INSTANCES == said // INSTANCES}
        groups = [own for value, own in pixels['gt'].items() if value in same_class]
        excused = theirs & frozenset().union(void, *groups)
        if said not in matched and len(excused) <= len(theirs) / 2:
            found[said // INSTANCES][2] += 1
    return found


IDS = [R, C1, C2, P1, V, VOID + 3, segment(CAR), segment(PERSON), segment(PERSON, 65535)]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_equals_a_slow_reference(data: st.DataObject):
    size = data.draw(st.integers(1, 30))
    runs = [data.draw(st.lists(st.sampled_from(IDS), min_size=size, max_size=size)) for _ in range(2)]
    # Most pixels agree, as otherwise next to nothing matches.
    same = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    gt = np.array(runs[0], np.int32)
    pred = np.where(np.array(same) > 0, gt, np.array(runs[1], np.int32))
    crowd = set(data.draw(st.lists(st.sampled_from(IDS[:4] + IDS[6:]))))
    width = data.draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    found = counts(pred.reshape(-1, width), gt.reshape(-1, width), tuple(crowd))
    assert found == [pytest.approx(line) for line in reference(pred, gt, crowd)]


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gt = np.repeat(rng.choice(IDS, 40), rng.integers(1, 40, 40)).astype(np.int32)[None]
    return np.roll(gt, 3, axis=1), gt


def test_merged_parts_equal_the_whole_to_the_bit():
    whole, parts = PanopticQuality(LABELS), [PanopticQuality(LABELS) for _ in range(3)]
    for seed in range(12):
        whole.update(*scene(seed))
        parts[seed % 3].update(*scene(seed))
    merged = PanopticQuality(LABELS)
    for part in reversed(parts):
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert 0 < merged.compute().pq < 1
    assert merged.compute() == whole.compute()
    restored = PanopticQuality(LABELS)
    restored.restore(whole.counts())
    restored.update(*scene(12))
    whole.update(*scene(12))
    assert restored.compute() == whole.compute()
    other = LabelSet(name='one', names=('road',), palette=((0, 0, 0),), is_thing=(False,))
    with pytest.raises(InputError, match="other: expected the label set 'three', got 'one'"):
        merged.merge(PanopticQuality(other))


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        (np.zeros((2, 4), np.int64), r'panoptic: expected shape \(3, 4\)'),
        (np.zeros((3, 4)), 'panoptic: expected dtype int64'),
        (np.full((3, 4), -1), 'panoptic: expected counts from 0, got -1'),
        (np.array([[UNIT + 1, 1, 0, 0]] * 3), 'panoptic: expected IoUs of matches between 0.5 and 1'),
        (np.array([[UNIT // 2 - 1, 1, 0, 0]] * 3), 'panoptic: expected IoUs of matches between 0.5 and 1'),
        (np.array([[1, 0, 0, 0]] * 3), 'panoptic: expected IoUs of matches between 0.5 and 1'),
    ],
)
def test_counts_that_cannot_be_are_refused(table: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        PanopticQuality(LABELS).restore(table)


@pytest.mark.parametrize(
    ('pred', 'gt', 'message'),
    [
        (row((R, 2)), row((R, 3)), r'pred: expected shape \(1, 3\), got \(1, 2\)'),
        (row((R, 2)).astype(np.int64), row((R, 2)), 'pred: expected dtype int32'),
        (row((R, 2))[0], row((R, 2))[0], r'gt: expected shape'),
        (row((R, 2)), row((segment(3), 2)), r"gt: expected classes 0\.\.2 of 'three' or 255 \(void\), got class 3"),
        (row((segment(254, 7), 2)), row((R, 2)), 'pred: expected classes .* got class 254 of id 16646151'),
        (row((-1, 2)), row((R, 2)), r'pred: expected panoptic ids 0\.\.16777215, got -1\.\.0'),
        (row((R, 2)), row((1 << 24, 2)), r'gt: expected panoptic ids 0\.\.16777215, got 0\.\.16777216'),
    ],
)
def test_scenes_that_do_not_fit_are_refused(pred: np.ndarray, gt: np.ndarray, message: str):
    metric = PanopticQuality(LABELS)
    with pytest.raises(InputError, match=message):
        metric.update(pred, gt)
    assert not metric.counts().any()
