"""BoxAP against numbers worked out by hand and against pycocotools run from files on disk."""

from __future__ import annotations

import io
import json
import math
import pickle
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sembox_ros.errors import InputError
from sembox_ros.evaluation.coco_ap import BoxAP
from sembox_ros.labels import COCO_80, LabelSet
from sembox_ros.types import Detections

THREE = LabelSet(name='three', names=('a', 'b', 'c'), palette=((0, 0, 0),) * 3, is_thing=(True,) * 3)


@dataclass
class Picture:
    pred: Detections
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    is_crowd: np.ndarray


def picture(found: list[tuple], truth: list[tuple]) -> Picture:
    """found: (x0, y0, x1, y1, class, score); truth: (x0, y0, x1, y1, class, crowd)."""
    pred = np.array(found, np.float64).reshape(-1, 6)
    gt = np.array(truth, np.float64).reshape(-1, 6)
    return Picture(
        Detections(pred[:, :4].astype(np.float32), pred[:, 4].astype(np.int64), pred[:, 5].astype(np.float32)),
        gt[:, :4].astype(np.float32), gt[:, 4].astype(np.int64), gt[:, 5].astype(np.bool_),
    )  # fmt: skip


def add(metric: BoxAP, image_id: str, image: Picture) -> None:
    metric.update(
        image_id, image.pred, gt_boxes_xyxy=image.boxes_xyxy, gt_class_ids=image.class_ids, gt_is_crowd=image.is_crowd
    )


def scores_of(*images: Picture):
    metric = BoxAP(THREE)
    for index, image in enumerate(images):
        add(metric, f'image {index}', image)
    return metric.compute()


def test_by_hand():
    # a: the better of two detections hits at IoU 0.8 (up to threshold 0.8 of ten), one of two objects found: precision
    # 1 up to recall 0.5, which 51 of the 101 recall points are. b: nothing found. c: a false alarm and no object.
    image = picture(
        [(0, 0, 100, 80, 0, 0.9), (300, 300, 400, 400, 0, 0.8), (0, 0, 9, 9, 2, 0.9)],
        [(0, 0, 100, 100, 0, 0), (200, 0, 220, 20, 0, 0), (0, 200, 50, 250, 1, 0)],
    )
    scores = scores_of(image)
    assert scores.ap50_per_class['a'] == pytest.approx(51 / 101)
    assert scores.ap_per_class['a'] == pytest.approx(51 / 101 * 7 / 10)
    assert scores.ap_per_class['b'] == 0
    assert math.isnan(scores.ap_per_class['c'])
    assert math.isnan(scores.ap50_per_class['c'])
    assert scores.ap == pytest.approx(51 / 101 * 7 / 10 / 2)
    assert scores.ap50 == scores.ap75 == pytest.approx(51 / 101 / 2)
    assert scores.ap_small == 0  # the 20 x 20 object
    assert scores.ap_medium == 0  # the 50 x 50 object of b
    assert scores.ap_large == pytest.approx(7 / 10)
    assert scores.to_dict()['ap_per_class']['c'] is None
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))['ap75'] == scores.ap75


def test_the_first_object_of_all_can_be_matched():
    """COCOeval takes the annotation id 0 for 'no match'."""
    assert scores_of(picture([(0, 0, 10, 10, 0, 0.5)], [(0, 0, 10, 10, 0, 0)])).ap == pytest.approx(1)


def test_a_detection_in_a_crowd_does_not_count():
    found = [(0, 0, 10, 10, 0, 0.5), (50, 50, 60, 60, 0, 0.9), (70, 70, 80, 80, 0, 0.8)]
    objects = [(0, 0, 10, 10, 0, 0)]
    assert scores_of(picture(found, objects)).ap == pytest.approx(1 / 3)
    assert scores_of(picture(found, [*objects, (40, 40, 100, 100, 0, 1)])).ap == pytest.approx(1)


def test_without_ground_truth_there_is_no_score():
    crowd_only = picture([(0, 0, 9, 9, 0, 0.5)], [(0, 0, 50, 50, 0, 1)])
    for scores in (BoxAP(THREE).compute(), scores_of(picture([], [])), scores_of(crowd_only)):
        assert [scores.ap, scores.ap50, scores.ap75, scores.ap_large] == [pytest.approx(math.nan, nan_ok=True)] * 4
        assert scores.to_dict()['ap50_per_class'] == dict.fromkeys('abc')
    assert scores_of(picture([], [(0, 0, 9, 9, 0, 0)])).ap == 0


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]):
    scores_of(picture([(0, 0, 10, 10, 0, 0.5)], [(0, 0, 10, 10, 0, 0)]))
    assert capsys.readouterr().out == ''


def test_keeps_copies():
    metric, image = BoxAP(THREE), picture([(0, 0, 10, 10, 0, 0.5)], [(0, 0, 10, 10, 0, 0)])
    add(metric, 'x', image)
    for array in (image.pred.boxes_xyxy, image.pred.scores, image.boxes_xyxy, image.is_crowd):
        array[:] = 0
    image.pred.class_ids[:] = 2
    image.class_ids[:] = 1
    assert metric.compute().ap_per_class['a'] == pytest.approx(1)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'gt_class_ids': np.array([3])}, r"gt_class_ids of 'x': expected ids 0\.\.2 of 'three', got 3\.\.3"),
        ({'gt_class_ids': np.array([-1])}, r'got -1\.\.-1'),
        ({'gt_class_ids': np.array([0], np.int32)}, r"ground truth of 'x': class_ids: expected dtype int64"),
        ({'gt_boxes_xyxy': np.array([[5, 0, 1, 1]], np.float32)}, 'ground truth .*swapped'),
        ({'gt_is_crowd': np.array([0])}, r'gt_is_crowd .*expected \(1,\) bool'),
        ({'gt_is_crowd': np.array([False, True])}, r'gt_is_crowd .*expected \(1,\) bool'),
        ({'gt_boxes_xyxy': None}, r"ground truth of 'x': boxes_xyxy: expected a numpy array, got NoneType"),
        ({'pred': Detections(np.zeros((1, 4), np.float32), np.array([7]), np.ones(1, np.float32))}, r'pred.class_ids'),
        (
            {'pred': Detections(np.zeros((1, 4), np.float32), np.array([0]), np.full(1, np.nan, np.float32))},
            "scores of 'x': expected finite",
        ),
    ],
)
def test_refused(change: dict, message: str):
    metric, image = BoxAP(THREE), picture([], [(0, 0, 10, 10, 0, 0)])
    fields = {
        'pred': image.pred, 'gt_boxes_xyxy': image.boxes_xyxy, 'gt_class_ids': image.class_ids,
        'gt_is_crowd': image.is_crowd,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        metric.update('x', **{**fields, **change})
    add(metric, 'x', image)  # the refused one left nothing behind
    with pytest.raises(InputError, match="'x' was given before"):
        add(metric, 'x', image)


def test_merge_refuses_overlap_and_other_labels():
    one, two, image = BoxAP(THREE), BoxAP(THREE), picture([], [(0, 0, 10, 10, 0, 0)])
    for name in ('x', 'y'):
        add(one, name, image)
    for name in ('y', 'z'):
        add(two, name, image)
    with pytest.raises(InputError, match="1 are in both, the first is 'y'"):
        one.merge(two)
    add(one, 'z', image)  # nothing of it was taken over
    with pytest.raises(InputError, match="'three', got 'coco_80'"):
        one.merge(BoxAP(COCO_80))


def random_picture(rng: np.random.Generator) -> Picture:
    """Objects of all three size classes, found with errors, missed, found twice; some are crowds."""
    count = int(rng.integers(0, 7))
    centers, half = rng.uniform(0, 500, (count, 2)), rng.uniform(4, 90, (count, 2))
    boxes = np.concatenate((centers - half, centers + half), axis=1)
    class_ids = rng.integers(0, 3, count)
    picks = rng.integers(0, max(count, 1), int(rng.integers(0, 12)) if count else 0)
    found = boxes[picks] + rng.normal(0, 3, (len(picks), 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
    found_ids = np.where(rng.random(len(picks)) < 0.8, class_ids[picks], rng.integers(0, 3, len(picks)))
    scores = rng.integers(1, 9, len(picks)) / 10  # many equal ones
    crowd = rng.random(count) < 0.2
    return picture(
        [(*b, i, s) for b, i, s in zip(found, found_ids, scores, strict=True)],
        [(*b, i, c) for b, i, c in zip(boxes, class_ids, crowd, strict=True)],
    )


def as_coco(images: list[Picture], classes: int = 3) -> tuple[dict, list[dict]]:
    """COCO's two files: ground truth, and results."""

    def xywh(box: np.ndarray) -> list[float]:
        x0, y0, x1, y1 = (float(v) for v in box)
        return [x0, y0, x1 - x0, y1 - y0]

    truth, found = [], []
    for number, image in enumerate(images, 100):
        for box, class_id, crowd in zip(image.boxes_xyxy, image.class_ids, image.is_crowd, strict=True):
            shape = xywh(box)
            truth.append({
                'id': len(truth) + 1, 'image_id': number, 'category_id': int(class_id) + 1, 'bbox': shape,
                'area': shape[2] * shape[3], 'iscrowd': int(crowd),
            })  # fmt: skip
        for box, class_id, score in zip(image.pred.boxes_xyxy, image.pred.class_ids, image.pred.scores, strict=True):
            found.append(
                {'image_id': number, 'category_id': int(class_id) + 1, 'bbox': xywh(box), 'score': float(score)}
            )
    categories = [{'id': i, 'name': str(i)} for i in range(1, classes + 1)]
    listed = [{'id': number} for number in range(100, 100 + len(images))]
    return {'images': listed, 'categories': categories, 'annotations': truth}, found


def evaluated(gt: COCO, results: COCO) -> COCOeval:
    evaluation = COCOeval(gt, results, 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def from_disk(folder: Path, images: list[Picture]) -> COCOeval:
    """Pycocotools as its own demo runs it: two JSON files, loadRes, summarize."""
    truth, found = as_coco(images)
    (folder / 'gt.json').write_text(json.dumps(truth))
    (folder / 'dt.json').write_text(json.dumps(found))
    with redirect_stdout(io.StringIO()):
        gt = COCO(str(folder / 'gt.json'))
        return evaluated(gt, gt.loadRes(str(folder / 'dt.json')))


def all_at_once(images: list[Picture], classes: int) -> COCOeval:
    """Pycocotools in memory; loadRes cannot read an empty list."""
    truth, found = as_coco(images, classes)
    gt, nothing = COCO(), COCO()
    with redirect_stdout(io.StringIO()):
        for coco, annotations in ((gt, truth['annotations']), (nothing, [])):
            coco.dataset = {**truth, 'annotations': annotations}
            coco.createIndex()
        return evaluated(gt, gt.loadRes(found) if found else nothing)


def check_equal(metric: BoxAP, expected: COCOeval) -> None:
    """Bit for bit, the whole table of 100 detections and the numbers that are made from it."""
    table = expected.eval['precision'][..., 2]
    np.testing.assert_array_equal(metric._precision(), table)
    scores, curves = metric.compute(), metric.precision_curves(0.75)
    ours = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large]
    assert [-1 if math.isnan(value) else value for value in ours] == expected.stats[:6].tolist()
    for index, name in enumerate(metric.labels.names):
        if table[0, 0, index, 0] == -1:
            assert math.isnan(scores.ap_per_class[name])
            assert name not in curves
        else:
            assert scores.ap_per_class[name] == pytest.approx(table[:, :, index, 0].mean(), abs=1e-12)
            assert scores.ap50_per_class[name] == table[0, :, index, 0].mean()
            np.testing.assert_array_equal(curves[name], table[5, :, index, 0])


def metric_of(images: list[Picture], labels: LabelSet = THREE) -> BoxAP:
    metric = BoxAP(labels)
    for index, image in enumerate(images):
        add(metric, f'{index:03d}', image)
    return metric


@pytest.mark.parametrize('seed', range(5))
def test_equals_pycocotools_from_files(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    images = [random_picture(rng) for _ in range(25)]
    assert any(image.is_crowd.any() for image in images)
    metric = metric_of(images)
    assert 0.05 < metric.compute().ap < 0.95
    check_equal(metric, from_disk(tmp_path, images))


@st.composite
def pictures(draw: st.DrawFn, labels: LabelSet) -> Picture:
    """Boxes on a coarse grid, so that overlaps, areas and scores are often equal or exactly at a limit."""
    scale = draw(st.sampled_from((1.0, 5.3, 32.0)))  # of all three sizes, and exactly 32 x 32 and 96 x 96 pixels
    side = st.integers(0, 5)
    row = st.tuples(side, side, side, side, st.sampled_from(range(len(labels))), st.sampled_from((0, 0, 0, 1)))
    truth = draw(st.lists(row, max_size=6))
    found = draw(st.lists(st.tuples(row, st.sampled_from((0.1, 0.25, 0.5, 0.7, 1.0))), max_size=8))
    if truth:  # many of what is found lie on an object or beside it
        near = st.tuples(st.sampled_from(truth), st.sampled_from((-1, 0, 0, 1)), st.sampled_from((0, 0, 1)))
        for (x, y, width, height, class_id, _), shift, growth in draw(st.lists(near, max_size=8)):
            found.append(((x + shift, y, width + growth, height, class_id), draw(st.sampled_from((0.25, 0.5)))))

    def corners(box: tuple) -> tuple[float, ...]:
        x, y, width, height = (scale * value for value in box[:4])
        return x, y, x + width, y + height

    return picture(
        [(*corners(box), box[4], score) for box, score in found], [(*corners(box), *box[4:]) for box in truth]
    )


FEW = LabelSet(name='few', names=('a', 'b'), palette=((0, 0, 0),) * 2, is_thing=(True,) * 2)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from((FEW, COCO_80)))
def test_equals_pycocotools_on_everything_at_once(data: st.DataObject, labels: LabelSet):
    images = data.draw(st.lists(pictures(labels), min_size=1, max_size=6))
    check_equal(metric_of(images, labels), all_at_once(images, len(labels)))


def test_more_than_a_hundred_detections_of_a_class_are_cut_as_pycocotools_cuts_them():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(3):
        corner = rng.integers(0, 9, (150, 2)) * 10
        found = [(x, y, x + 10, y + 10 + i % 3, i % 5 == 0, 0.5 + 0.1 * (i % 4)) for i, (x, y) in enumerate(corner)]
        images.append(picture(found, [(*box[:4], box[4], 0) for box in found[::9]]))
    metric = metric_of(images)
    assert {len(boxes) for boxes in metric._images.values()} == {100 + 30}
    check_equal(metric, all_at_once(images, 3))


def test_precision_curves_by_hand():
    # The better detection hits at IoU 0.8, the other misses, and one of the two objects is not found.
    metric = metric_of([picture(
        [(0, 0, 100, 80, 0, 0.9), (300, 300, 400, 400, 0, 0.8), (0, 0, 9, 9, 2, 0.9)],
        [(0, 0, 100, 100, 0, 0), (200, 0, 220, 20, 0, 0), (0, 200, 50, 250, 1, 0), (0, 0, 9, 9, 2, 1)],
    )])  # fmt: skip
    curves = metric.precision_curves()
    assert list(curves) == ['a', 'b']  # there is but a crowd of c
    assert curves['a'] == pytest.approx(np.where(np.arange(101) <= 50, 1, 0))
    assert not curves['b'].any()
    assert not metric.precision_curves(0.85)['a'].any()
    with pytest.raises(InputError, match=r'iou: expected one of 0\.5, 0\.55, .* 0\.95; got 0\.51'):
        metric.precision_curves(0.51)
    assert BoxAP(THREE).precision_curves() == {}


def test_what_is_kept_is_small():
    """Images of fifty boxes: some 15 bytes per box, whatever else they hold."""
    found = [(i, 0, i + 30, 40, i % 3, 0.5) for i in range(50)]
    metric = metric_of([picture(found, [(*box[:5], 0) for box in found[:15]])] * 3)
    assert sum(boxes.nbytes for boxes in metric._images.values()) == 3 * 50 * 15
    assert all(boxes.base is None for boxes in metric._images.values())  # no view of something larger


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_merged_parts_equal_the_whole(parts: list[int], seed: int):
    rng = np.random.default_rng(seed)
    whole, pieces = BoxAP(THREE), [BoxAP(THREE) for _ in range(3)]
    for index, part in enumerate(parts):
        image = random_picture(rng)
        add(whole, str(index), image)
        add(pieces[part], str(index), image)
    merged = BoxAP(THREE)
    for piece in reversed(pieces):
        merged.merge(pickle.loads(pickle.dumps(piece)))
    assert merged.compute().to_dict() == whole.compute().to_dict()


def test_reset_forgets():
    metric = BoxAP(THREE)
    add(metric, 'x', picture([], [(0, 0, 10, 10, 0, 0)]))
    metric.reset()
    add(metric, 'x', picture([(0, 0, 10, 10, 0, 0.5)], [(0, 0, 10, 10, 0, 0)]))
    assert metric.compute().ap == pytest.approx(1)
