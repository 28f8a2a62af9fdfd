"""SemanticIoU against numbers worked out by hand and against cityscapesScripts' own evaluation."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
from cityscapesscripts.helpers.labels import trainId2label
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sembox_ros.errors import InputError
from sembox_ros.evaluation.miou import SemanticIoU
from sembox_ros.labels import CITYSCAPES_19, KITTI_ROAD_2, LabelSet

THREE = LabelSet(name='three', names=('a', 'b', 'c'), palette=((0, 0, 0),) * 3, is_thing=(False,) * 3)


def ids(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def scores_of(pred: np.ndarray, gt: np.ndarray, labels: LabelSet = THREE):
    metric = SemanticIoU(labels)
    metric.update(pred, gt)
    return metric.compute()


def test_by_hand():
    # a: 2 hits, 1 missed, 1 false alarm -> 2/4; b: 1 hit, 1 missed, 1 false alarm -> 1/3; c: on neither side.
    scores = scores_of(ids([0, 0, 1], [0, 1, 2]), ids([0, 0, 0], [1, 1, 255]))
    assert scores.iou_per_class == {'a': 0.5, 'b': pytest.approx(1 / 3), 'c': pytest.approx(math.nan, nan_ok=True)}
    assert scores.miou == pytest.approx((0.5 + 1 / 3) / 2)
    assert scores.pixel_accuracy == pytest.approx(3 / 5)
    assert scores.to_dict()['iou_per_class']['c'] is None


def test_a_class_that_is_only_predicted_counts_as_zero():
    scores = scores_of(ids([0, 2]), ids([0, 0]))
    assert scores.iou_per_class['c'] == 0
    assert scores.miou == pytest.approx((0.5 + 0) / 2)


def test_an_id_outside_the_set_is_a_miss_and_nobodys_false_alarm():
    scores = scores_of(ids([0, 255, 7, 1]), ids([0, 0, 0, 1]))
    assert scores.iou_per_class['a'] == pytest.approx(1 / 3)
    assert scores.iou_per_class['b'] == 1
    assert math.isnan(scores.iou_per_class['c'])
    assert scores.pixel_accuracy == pytest.approx(2 / 4)


def test_ignored_pixels_do_not_count():
    full = scores_of(ids([0, 1, 1]), ids([0, 0, 1]))
    assert scores_of(ids([0, 1, 1, 2, 9]), ids([0, 0, 1, 255, 255])).miou == full.miou
    nothing = scores_of(ids([0, 1]), ids([255, 255]))
    assert math.isnan(nothing.miou)
    assert math.isnan(nothing.pixel_accuracy)
    assert nothing.to_dict() == {'miou': None, 'iou_per_class': dict.fromkeys('abc'), 'pixel_accuracy': None}


def test_confusion_by_hand():
    metric = SemanticIoU(THREE)
    metric.update(ids([0, 0, 1, 255]), ids([0, 1, 1, 0]))
    metric.update(ids([2, 2, 7]), ids([1, 255, 2]))
    expected = [[1, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 1]]  # the last column: 255 for an a, 7 for a c
    assert metric.confusion().tolist() == expected
    assert metric.confusion().dtype == np.int64
    metric.confusion()[:] = 0  # a copy
    assert metric.confusion().tolist() == expected


def test_update_gives_the_score_of_its_image():
    metric = SemanticIoU(THREE)
    assert metric.update(ids([0, 0, 1]), ids([0, 0, 0])) == pytest.approx((2 / 3 + 0) / 2)
    assert metric.update(ids([2, 9]), ids([2, 2])) == 0.5  # as if there had been no other
    assert math.isnan(metric.update(ids([0, 1]), ids([255, 255])))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_score_of_an_image_is_that_of_a_metric_of_its_own(seed: int):
    rng = np.random.default_rng(seed)
    metric = SemanticIoU(THREE)
    for _ in range(3):
        pred, gt = rng.integers(0, 5, (2, 3), np.uint8), rng.choice(np.array([0, 1, 255], np.uint8), (2, 3))
        assert metric.update(pred, gt) == pytest.approx(scores_of(pred, gt).miou, abs=0, nan_ok=True)


def test_reset_forgets():
    metric = SemanticIoU(THREE)
    metric.update(ids([0, 1]), ids([1, 0]))
    metric.reset()
    metric.update(ids([0]), ids([0]))
    assert metric.compute().miou == 1


@pytest.mark.parametrize(
    ('pred', 'gt', 'message'),
    [
        (ids([0, 1]), ids([0], [1]), r'pred: expected the size \(2, 1\) of gt, got \(1, 2\)'),
        (np.zeros((2, 2), np.int64), ids([0, 0], [0, 0]), 'pred: expected .* uint8 .*int64'),
        (ids([0]), np.zeros((1, 1, 1), np.uint8), 'gt: expected .* uint8'),
        (ids([0]), [[0]], 'gt: .* got list'),
        (ids([0, 0]), ids([3, 200]), r"gt: expected ids 0\.\.2 of 'three' or 255 .* got \[3, 200\]"),
    ],
)
def test_refused(pred: np.ndarray, gt: np.ndarray, message: str):
    metric = SemanticIoU(THREE)
    with pytest.raises(InputError, match=message):
        metric.update(pred, gt)
    assert math.isnan(metric.compute().miou)  # nothing of it was counted


def test_merge_refuses_another_label_set():
    with pytest.raises(InputError, match=r"'cityscapes_19', got 'kitti_road_2'"):
        SemanticIoU(CITYSCAPES_19).merge(SemanticIoU(KITTI_ROAD_2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_merged_parts_equal_the_whole(parts: list[int], seed: int):
    rng = np.random.default_rng(seed)
    whole, pieces = SemanticIoU(THREE), [SemanticIoU(THREE) for _ in range(3)]
    for part in parts:
        pred = rng.integers(0, 5, (3, 4), np.uint8)
        gt = rng.choice(np.array([0, 1, 255], np.uint8), (3, 4))
        whole.update(pred, gt)
        pieces[part].update(pred, gt)
    merged = SemanticIoU(THREE)
    for piece in pieces:
        merged.merge(pickle.loads(pickle.dumps(piece)))
    assert merged.compute().to_dict() == whole.compute().to_dict()


def official_scores(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """cityscapesScripts on (predicted, true) label id images (their ids, not ours)."""
    predictions, truths = [], []
    for index, (pred, gt) in enumerate(pairs):
        predictions.append(str(folder / f'{index}_pred.png'))
        truths.append(str(folder / f'{index}_gtFine_labelIds.png'))
        Image.fromarray(pred).save(predictions[-1])
        Image.fromarray(gt).save(truths[-1])
    args = evalPixelLevelSemanticLabeling.args
    args.evalInstLevelScore, args.quiet, args.JSONOutput = False, True, False
    return evalPixelLevelSemanticLabeling.evaluateImgLists(predictions, truths, args)


@pytest.mark.parametrize('seed', range(4))
def test_equals_cityscapes_own_evaluation(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    label_ids = np.array([trainId2label[i].id for i in range(19)], np.uint8)
    train_ids = np.full(256, 255, np.uint8)
    train_ids[label_ids] = np.arange(19)
    present = rng.choice(19, 12, replace=False)  # some classes are on neither side
    pairs, metric = [], SemanticIoU(CITYSCAPES_19)
    for _ in range(3):
        blocks = rng.choice(np.append(label_ids[present[:9]], (0, 3, 6)), (4, 8))  # with classes that are not evaluated
        gt = np.kron(blocks, np.ones((8, 8), np.uint8)).astype(np.uint8)
        noise = rng.choice(np.append(label_ids[present], (0, 5, 30)), gt.shape)
        pred = np.where(rng.random(gt.shape) < 0.6, gt, noise).astype(np.uint8)
        pairs.append((pred, gt))
        metric.update(train_ids[pred], train_ids[gt])
    expected, scores = official_scores(tmp_path, pairs), metric.compute()
    assert 0.2 < scores.miou < 0.9
    assert scores.miou == pytest.approx(expected['averageScoreClasses'], abs=1e-6)
    for name, iou in scores.iou_per_class.items():
        assert iou == pytest.approx(expected['classScores'][name], abs=1e-6, nan_ok=True), name
    assert 0 < sum(math.isnan(iou) for iou in scores.iou_per_class.values()) < 19
    theirs = np.array(expected['confMatrix'], np.int64)
    np.testing.assert_array_equal(metric.confusion()[:, :-1], theirs[np.ix_(label_ids, label_ids)])
    np.testing.assert_array_equal(metric.confusion().sum(axis=1), theirs[label_ids].sum(axis=1))
