"""Stability against numbers worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.evaluation.stability import Stability, count_confidence
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.types import Detections, Scene


def label_set(name: str, *names: str) -> LabelSet:
    return LabelSet(name=name, names=names, palette=((0, 0, 0),) * len(names), is_thing=(True,) * len(names))


LABELS = SceneLabels(semantic=label_set('masks', 'road', 'car'), detection=label_set('boxes', 'car', 'person'))


def mask(*ids: int) -> Scene:
    """One row of pixels that are looked at, beside others that are not."""
    full = np.full((2, 2 * len(ids)), 99, np.uint8)
    full[0, ::2] = ids
    return Scene((2, 2 * len(ids)), semantic=full)


def boxes(*rows: tuple[float, int] | tuple[float, int, float]) -> Scene:
    """Boxes of 100 x 100 pixels: left edge, class, score (0.9)."""
    table = [(*row, 0.9)[:3] for row in rows]
    left = np.array([row[0] for row in table], np.float32)
    corners = np.stack((left, 0 * left, left + 100, 0 * left + 100), axis=1).reshape(-1, 4)
    ids, scores = np.array([row[1] for row in table], np.int64), np.array([row[2] for row in table], np.float32)
    return Scene((200, 2000), detections=Detections(corners, ids, scores))


def stability_of(*scenes: Scene, step_s: float = 0.1) -> dict:
    metric = Stability(LABELS)
    for index, scene in enumerate(scenes):
        metric.update('front', index * step_s, scene)
    return metric.compute()


def test_nothing_gives_none():
    assert Stability(LABELS).compute() == {
        'frame_pairs': 0, 'mask_agreement': None, 'mask_flicker': None, 'box_flicker': None, 'box_gaps': None,
        'class_share': {}, 'boxes_per_frame': {}, 'confidence_histogram': None,
        'score_histogram': {'edges': [round(i / 20, 2) for i in range(21)], 'counts': [0] * 20},
    }  # fmt: skip


def test_mask_agreement_is_the_mean_over_pairs():
    metric = Stability(LABELS)
    agreements = [
        metric.update('front', t, scene)
        for t, scene in ((5.0, mask(0, 0, 1, 1)), (5.5, mask(0, 1, 1, 1)), (6.5, mask(1, 0, 1, 0)))
    ]
    assert agreements == [None, 0.75, 0.25]
    result = metric.compute()
    assert (result['frame_pairs'], result['mask_agreement']) == (2, 0.5)


def test_mask_flicker_is_a_class_that_comes_back():
    # Of five pixels, the first is steady, the second moves on, the third and fourth flicker, the fifth changes twice.
    result = stability_of(mask(0, 0, 0, 1, 0), mask(0, 1, 1, 0, 1), mask(0, 1, 0, 1, 255))
    assert result['mask_flicker'] == 2 / 5
    assert stability_of(mask(0, 0), mask(1, 1))['mask_flicker'] is None  # two frames cannot tell
    # The second triple has no flicker: the mean is over the frames with two neighbours.
    assert stability_of(mask(0, 0), mask(1, 0), mask(0, 0), mask(0, 0))['mask_flicker'] == 1 / 4


def test_class_shares_are_of_all_pixels():
    result = stability_of(mask(0, 0, 1, 255), mask(0, 0, 0, 0))
    assert result['class_share'] == {'road': 6 / 8, 'car': 1 / 8}


def test_time_cuts_sequences():
    def agreements(*times_s: float) -> list[float | None]:
        metric = Stability(LABELS)
        found = [metric.update('front', t, mask(0)) for t in times_s]
        assert metric.compute()['frame_pairs'] == sum(value is not None for value in found)
        return found

    assert agreements(0, 1, 2.1, 3) == [None, 1, None, 1]
    assert agreements(3, 2, 2, 2.5) == [None, None, None, 1]  # backwards, twice, onwards
    # A-B-A over a gap is no flicker.
    assert stability_of(mask(0), mask(1), mask(0), step_s=1.5)['mask_flicker'] is None


def test_cameras_are_apart():
    metric = Stability(LABELS)
    for t_s in (0.0, 0.1, 0.2):
        metric.update('left', t_s, mask(0, 0))
        metric.update('right', t_s, mask(1, 1))
    result = metric.compute()
    assert (result['frame_pairs'], result['mask_agreement'], result['mask_flicker']) == (4, 1, 0)


def test_masks_of_another_size_or_none_are_not_compared():
    metric, empty = Stability(LABELS), Scene((2, 4))
    scenes = (mask(0, 0), mask(0, 0, 0), mask(0, 0), empty, mask(0, 0), mask(0, 1))
    assert [metric.update('front', t / 10, scene) for t, scene in enumerate(scenes)] == [None] * 5 + [0.5]
    result = metric.compute()
    assert (result['frame_pairs'], result['mask_flicker']) == (5, None)
    assert (result['box_flicker'], result['boxes_per_frame']) == (None, {})


def test_box_flicker_is_a_box_without_neighbours():
    # In the middle frame: one moves along, one ends, one begins, one of another class than its neighbours, one alone.
    result = stability_of(
        boxes((0, 0), (200, 0), (600, 0)),
        boxes((10, 0), (200, 0), (400, 0), (600, 1), (800, 0)),
        boxes((20, 0), (400, 0), (600, 0)),
    )
    assert result['box_flicker'] == 2 / 5
    assert stability_of(boxes((0, 0)), boxes((500, 0)))['box_flicker'] is None
    assert stability_of(boxes(), boxes(), boxes())['box_flicker'] is None


def test_partners_are_one_to_one_and_the_closest_come_first():
    # Shifted by 10 of 100 pixels the IoU is 0.82, by 20 it is 0.67. The one at 10 takes the one at 0, and the one at 20
    # is left without a partner before and after.
    assert stability_of(boxes((0, 0)), boxes((20, 0), (10, 0)), boxes((0, 0)))['box_flicker'] == 1 / 2
    # 50 pixels are an IoU of a third.
    assert stability_of(boxes((0, 0)), boxes((50, 0)), boxes((0, 0)))['box_flicker'] == 1


def test_box_gaps_are_partners_around_a_frame_that_lacks_them():
    # Of four that are there before and after: the first is there; the second is gone; the third has another class; the
    # fourth (600, 640, 630) has an IoU of 0.43 with where it was and 0.82 with where it will be. The fifth ends.
    result = stability_of(
        boxes((0, 0), (200, 0), (400, 1), (600, 0), (900, 0)),
        boxes((0, 0), (400, 0), (640, 0)),
        boxes((0, 0), (200, 0), (400, 1), (630, 0)),
    )
    assert result['box_gaps'] == 2 / 4
    assert stability_of(boxes((0, 0)), boxes((0, 0)), boxes((500, 0)))['box_gaps'] is None


def test_frames_without_boxes_part_cut_only_boxes():
    assert stability_of(boxes((0, 0)), mask(0), boxes((0, 0)), boxes((0, 0)))['box_flicker'] is None


def test_boxes_and_scores_are_counted():
    result = stability_of(boxes((0, 0), (200, 0, 0.29), (400, 1, 0.3)), boxes((0, 0, 1.0)), boxes())
    assert result['boxes_per_frame'] == {'car': pytest.approx(2 / 3), 'person': pytest.approx(1 / 3)}
    expected = [0] * 20
    for bin_of in (18, 5, 6, 19):  # 0.9, 0.29, 0.3, 1.0
        expected[bin_of] += 1
    assert result['score_histogram']['counts'] == expected


def test_boxes_below_the_threshold_have_no_say():
    metric = Stability(LABELS, score_threshold=0.95)
    for index in range(3):
        metric.update('front', index / 10, boxes((500 * (index % 2), 0)))
    result = metric.compute()
    assert (result['box_flicker'], result['boxes_per_frame']) == (None, {'car': 0, 'person': 0})
    assert sum(result['score_histogram']['counts']) == 3


def test_confidences():
    confidence = np.zeros((4, 6), np.uint8)
    confidence[::2, ::2] = [[0, 12, 13], [254, 255, 128]]  # 13 / 255 = 0.051, 128 / 255 = 0.502
    counts = count_confidence(confidence)
    expected = [2, 1, *[0] * 8, 1, *[0] * 8, 2]
    assert (counts.tolist(), counts.dtype) == (expected, np.int64)
    metric = Stability(LABELS)
    metric.add_confidence(counts)
    metric.add_confidence(counts)
    assert metric.compute()['confidence_histogram']['counts'] == [2 * count for count in expected]
    with pytest.raises(InputError, match=r'confidence: expected .* uint8'):
        count_confidence(confidence.astype(np.float32))


def test_refused():
    with pytest.raises(ConfigError, match=r'score_threshold: expected a value in 0\.\.1, got 30'):
        Stability(LABELS, score_threshold=30)
    metric = Stability(LABELS)
    with pytest.raises(InputError, match=r"scene.detections.class_ids: expected ids 0\.\.1 of 'boxes', got 0\.\.2"):
        metric.update('front', 0, boxes((0, 0), (0, 2)))
    assert metric.compute() == Stability(LABELS).compute()  # nothing of it was counted


def test_a_network_that_only_detects():
    metric = Stability(SceneLabels(semantic=None, detection=LABELS.detection))
    metric.update('front', 0, boxes((0, 0)))
    assert metric.compute()['class_share'] == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(('a', 'b')), st.floats(0, 1.2), st.integers(0, 2**32 - 1)), max_size=12))
def test_shares_are_shares_and_json(frames: list[tuple[str, float, int]]):
    metric, t_s = Stability(LABELS), 0.0
    for camera, step_s, seed in frames:
        rng = np.random.default_rng(seed)
        t_s += step_s
        found = boxes(*zip(rng.integers(0, 4, 5) * 40.0, rng.integers(0, 2, 5), rng.random(5), strict=True))
        semantic = rng.integers(0, 2, (200, 2000), np.uint8)
        agreement = metric.update(camera, t_s, Scene((200, 2000), semantic=semantic, detections=found.detections))
        assert agreement is None or 0 <= agreement <= 1
    result = json.loads(json.dumps(metric.compute(), allow_nan=False))
    for name in ('mask_agreement', 'mask_flicker', 'box_flicker', 'box_gaps'):
        assert result[name] is None or 0 <= result[name] <= 1
    assert sum(result['class_share'].values()) == pytest.approx(1 if frames else 0)
    assert sum(result['score_histogram']['counts']) == 5 * len(frames)
