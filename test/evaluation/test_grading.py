"""Grades across label sets: the same class has another id on each side."""

from __future__ import annotations

import dataclasses
import io
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import InputError
from sembox_ros.evaluation.arrays import pack_json, unpack_json
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.labels import CITYSCAPES_19, LabelSet, SceneLabels, load_scene_labels
from sembox_ros.panoptic import INSTANCES, VOID
from sembox_ros.types import Detections


def label_set(name: str, *names: str) -> LabelSet:
    is_thing = tuple(name not in ('road', 'void') for name in names)
    return LabelSet(name=name, names=names, palette=((0, 0, 0),) * len(names), is_thing=is_thing)


GT = SceneLabels.linked_by_name(label_set('truth', 'road', 'car'), label_set('things', 'car', 'rider'))
NETWORK = SceneLabels.linked_by_name(
    label_set('masks', 'car', 'moon', 'road'), label_set('boxes', 'tree', 'person', 'car')
)


def found(*rows: tuple[float, float, float, float, int, float]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.int64), table[:, 5].astype(np.float32))


def add_boxes(grade: SceneGrade, image_id: str, pred: Detections, class_ids: list[int]) -> None:
    boxes = np.array([[50 * i, 0, 50 * i + 40, 40] for i in range(len(class_ids))], np.float32).reshape(-1, 4)
    grade.add_boxes(
        image_id, pred, gt_boxes_xyxy=boxes, gt_class_ids=np.array(class_ids, np.int64),
        gt_is_crowd=np.zeros(len(class_ids), np.bool_),
    )  # fmt: skip


def test_masks_are_compared_by_name():
    grade = SceneGrade(NETWORK, GT)
    # network: car 0, moon 1, road 2. truth: road 0, car 1.
    miou = grade.add_mask(np.array([[2, 2, 0, 1, 0]], np.uint8), np.array([[0, 0, 1, 1, 255]], np.uint8))
    assert miou == 0.75
    assert grade.confusion().tolist() == [[2, 0, 0], [0, 1, 1]]
    semantic, boxes, panoptic, *_ = grade.compute()
    assert semantic.iou_per_class == {'road': 1.0, 'car': 0.5}  # the moon is a miss of a car
    assert boxes is None
    assert panoptic is None
    assert (grade.masks, grade.images) == (1, 0)


def test_boxes_are_compared_by_name_in_the_classes_that_both_know():
    grade = SceneGrade(NETWORK, GT)
    assert grade.notes == ["AP without rider, which the network's 'boxes' lacks"]
    # The tree (no class of the truth) scores best and still does no harm; the rider (unknown to the network) neither.
    add_boxes(grade, 'a', found((0, 0, 40, 40, 0, 0.9), (0, 0, 40, 40, 2, 0.5)), [0, 1])
    semantic, boxes, *_ = grade.compute()
    assert semantic is None
    assert boxes.ap_per_class['car'] == pytest.approx(1)
    assert math.isnan(boxes.ap_per_class['rider'])
    assert boxes.ap == pytest.approx(1)
    assert grade.images == 1
    assert {name: curve.min() for name, curve in grade.precision_curves().items()} == {'car': pytest.approx(1)}
    assert grade.confusion() is None


@pytest.mark.parametrize(
    ('pred', 'gt', 'notes'),
    [
        (
            SceneLabels(semantic=None, detection=GT.detection),
            GT,
            ['no mIoU: the network only detects', 'no PQ: masks are not graded'],
        ),
        (
            GT,
            SceneLabels(semantic=None, detection=GT.detection),
            ['no mIoU: the ground truth has no masks', 'no PQ: masks are not graded'],
        ),
        (
            SceneLabels(semantic=GT.semantic, detection=GT.detection),
            GT,
            ["no PQ: no class of the network's boxes is a countable class of its masks"],
        ),
        (
            GT,
            SceneLabels(semantic=GT.semantic, detection=GT.detection),
            ["no PQ: no class of the ground truth's boxes is a countable class of its masks"],
        ),
        (
            load_scene_labels('cityscapes_19+coco_90'),
            load_scene_labels('cityscapes_19+cityscapes_things_8'),
            [
                "AP without rider, which the network's 'coco_90' lacks",
                "PQ counts every rider as missed: the network's boxes have no such class",
            ],
        ),
        (
            SceneLabels(semantic=label_set('s', 'road'), detection=label_set('d', 'tree')),
            GT,
            [
                "no mIoU: the network's classes 's' lack car of 'truth'",
                "no AP: the boxes' classes 'd' and 'things' have no name in common",
                'no PQ: masks are not graded',
            ],
        ),
        (
            load_scene_labels('kitti_road_2+coco_90'),
            load_scene_labels('cityscapes_19+cityscapes_things_8'),
            [
                "no mIoU: the network's classes 'kitti_road_2' lack sidewalk, building, wall, fence and 14 more "
                "of 'cityscapes_19'",
                "AP without rider, which the network's 'coco_90' lacks",
                'no PQ: masks are not graded',
            ],
        ),
        (load_scene_labels('cityscapes_20+cityscapes_things_8'), load_scene_labels('kitti_19+coco_80'), None),
    ],
)
def test_what_is_left_out_is_said(pred: SceneLabels, gt: SceneLabels, notes: list[str] | None):
    grade = SceneGrade(pred, gt)
    if notes is not None:
        assert grade.notes == notes
        miou = grade.add_mask(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
        assert math.isnan(miou) == (grade.confusion() is None) == any('no mIoU' in note for note in notes)
        add_boxes(grade, 'a', Detections.empty(), [0])
        assert (grade.precision_curves() is None) == any('no AP' in note for note in notes)
        void = np.full((1, 1), VOID, np.int32)
        grade.add_panoptic(void, void, ())
        assert [part is None for part in grade.compute()[:3]] == [
            any(f'no {score}' in note for note in notes) for score in ('mIoU', 'AP', 'PQ')
        ]
    else:
        assert [note.split(',')[0] for note in grade.notes] == ['AP without airplane']


def test_equal_label_sets_change_nothing():
    labels = load_scene_labels('cityscapes_19+cityscapes_things_8')
    grade, mask = SceneGrade(labels, labels), np.arange(19, dtype=np.uint8)[None]
    grade.add_mask(mask, mask)
    assert grade.notes == []
    assert grade.compute()[0].iou_per_class == dict.fromkeys(CITYSCAPES_19.names, 1.0)


def segments(*class_ids: int) -> np.ndarray:
    """(1, N) panoptic ids of stuff, or of things that are all number 0."""
    return np.array([class_ids], np.int32) * INSTANCES


def test_panoptic_scenes_are_compared_by_name():
    grade = SceneGrade(NETWORK, GT)
    # network: car 0, moon 1, road 2. truth: road 0, car 1.
    pred = segments(2, 2, 0, 0, 1) + np.array([[0, 0, 7, 7, 3]], np.int32)
    gt = segments(0, 0, 1, 1, 1) + np.array([[0, 0, 1, 1, 1]], np.int32)
    assert grade.add_panoptic(pred, gt, ()) == pytest.approx((1 + 2 / 3) / 2)
    # The moon, which the truth does not know, is void: neither wrong nor a car.
    panoptic = grade.compute().panoptic
    assert panoptic.pq_per_class == {'road': 1, 'car': pytest.approx(2 / 3)}
    assert (panoptic.rq, grade.scenes) == (1, 1)
    with pytest.raises(InputError, match=r'pred: expected panoptic ids 0\.\.16777215, got -65536\.\.0'):
        grade.add_panoptic(-segments(1), segments(1), ())
    with pytest.raises(InputError, match=r"gt: expected classes .* of 'truth' or 255"):
        SceneGrade(GT, GT).add_panoptic(segments(1), segments(2), ())
    assert grade.scenes == 1


def test_crowds_are_told():
    grade = SceneGrade(GT, GT)
    crowd = int(segments(1)[0, 0])
    assert math.isnan(grade.add_panoptic(segments(1, 1) + 1, segments(1, 1), (crowd,)))
    assert grade.add_panoptic(segments(1, 1) + 1, segments(1, 1), ()) == 1


def test_instances_of_what_is_stuff_in_the_truth_are_one_segment():
    stuff = dataclasses.replace(GT.semantic, is_thing=(True, False))
    grade = SceneGrade(GT, SceneLabels.linked_by_name(stuff, label_set('things', 'road')))
    pred = segments(1, 1, 1) + np.array([[1, 2, 3]], np.int32)
    assert grade.add_panoptic(pred, segments(1, 1, 1), ()) == 1


def test_a_class_void_is_void():
    """A label set may make a class of what is unlabeled; as a segment it is none."""
    labels = load_scene_labels('cityscapes_20+cityscapes_things_8')
    void = labels.semantic.names.index('void')
    grade = SceneGrade(labels, labels)
    assert grade.add_panoptic(segments(0, 0, 0, void), segments(0, 0, void, void), ()) == 1
    assert math.isnan(grade.compute().panoptic.pq_per_class['void'])


def test_merged_parts_equal_the_whole_and_a_refused_merge_changes_nothing():
    whole, one, two = (SceneGrade(NETWORK, GT) for _ in range(3))
    for name, part, mask in (('a', one, [[2, 0]]), ('b', two, [[1, 0]])):
        for grade in (whole, part):
            grade.add_mask(np.array(mask, np.uint8), np.array([[0, 1]], np.uint8))
            grade.add_panoptic(segments(*mask[0]), segments(0, 1), ())
            add_boxes(grade, name, found((0, 0, 40, 30, 2, 0.5)), [0, 0])
    one.merge(pickle.loads(pickle.dumps(two)))
    assert one.compute().to_dict() == whole.compute().to_dict()
    assert (one.masks, one.images, one.scenes) == (2, 2, 2)
    with pytest.raises(InputError, match="the first is 'b'"):
        one.merge(two)
    assert one.compute()[0] == whole.compute()[0]
    assert (one.masks, one.images, one.scenes) == (2, 2, 2)
    with pytest.raises(InputError, match='the same label sets'):
        one.merge(SceneGrade(GT, GT))


def test_ids_outside_the_sets_are_refused():
    grade = SceneGrade(NETWORK, GT)
    with pytest.raises(InputError, match=r"pred.class_ids of 'a': expected ids 0\.\.2 of 'boxes', got 3\.\.3"):
        add_boxes(grade, 'a', found((0, 0, 1, 1, 3, 0.5)), [])
    with pytest.raises(InputError, match=r"gt_class_ids of 'a': expected ids 0\.\.1 of 'things', got -1\.\.-1"):
        add_boxes(grade, 'a', Detections.empty(), [-1])
    with pytest.raises(InputError, match=r'pred: expected .* uint8 class ids, got int64'):
        grade.add_mask(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.uint8))
    assert (grade.masks, grade.images) == (0, 0)


def bag(seed: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[tuple[str, Detections, list[int]]]]:
    """Masks and boxes of one bag; image names are the same in every bag, and so are many scores."""
    rng = np.random.default_rng(seed)
    masks = [(rng.integers(0, 3, (3, 4), np.uint8), rng.choice([0, 1, 255], (3, 4)).astype(np.uint8)) for _ in range(2)]
    images = []
    for name in ('1000', '2000', '3000'):
        left = 50.0 * rng.integers(0, 4, 5)
        rows = [(x, 0, x + 40, 30 + 5 * rng.integers(3), rng.integers(3), rng.choice([0.3, 0.5])) for x in left]
        images.append((name, found(*rows), rng.integers(0, 2, 3).tolist()))
    return masks, images


def graded(*seeds_and_prefixes: tuple[int, str]) -> SceneGrade:
    grade = SceneGrade(NETWORK, GT)
    for seed, prefix in seeds_and_prefixes:
        masks, images = bag(seed)
        for pred, gt in masks:
            grade.add_mask(pred, gt)
            truth = np.where(gt == 255, VOID, gt * np.int32(INSTANCES) + gt)
            grade.add_panoptic(pred * np.int32(INSTANCES), truth.astype(np.int32), ())
        for name, pred, class_ids in images:
            add_boxes(grade, prefix + name, pred, class_ids)
    return grade


def check_equal(one: SceneGrade, other: SceneGrade) -> None:
    assert one.compute().to_dict() == other.compute().to_dict()
    for name in ('masks', 'images', 'scenes', 'depths', 'motions'):
        assert getattr(one, name) == getattr(other, name)
    assert one.notes == other.notes
    np.testing.assert_equal(one.precision_curves(), other.precision_curves())
    np.testing.assert_equal(one.confusion(), other.confusion())


def test_saved_grades_of_several_bags_merge_to_the_whole(tmp_path: Path):
    whole = graded((1, 'a/'), (2, 'b/'), (3, 'c/'))
    assert 0 < whole.compute()[1].ap < 1
    merged = SceneGrade(NETWORK, GT)
    for seed, name in ((2, 'b'), (3, 'c'), (1, 'a')):
        path = tmp_path / f'{name}.npz'
        graded((seed, '')).save(path)
        check_equal(SceneGrade.load(path), graded((seed, '')))
        merged.merge(SceneGrade.load(path, prefix=f'{name}/'))
    check_equal(merged, whole)
    with pytest.raises(InputError, match="3 are in both, the first is 'a/1000'"):
        merged.merge(SceneGrade.load(tmp_path / 'a.npz', prefix='a/'))


def test_a_loaded_grade_goes_on():
    grade = SceneGrade.from_arrays(graded((1, '')).to_arrays())
    with pytest.raises(InputError, match="'1000' was given before"):
        add_boxes(grade, '1000', Detections.empty(), [0])
    grade.merge(graded((2, 'b/')))
    check_equal(grade, graded((1, ''), (2, 'b/')))


@pytest.mark.parametrize(
    ('pred', 'gt'),
    [
        (SceneLabels(semantic=None, detection=GT.detection), GT),
        (SceneLabels(semantic=GT.semantic, detection=label_set('d', 'tree')), GT),
        (NETWORK, GT),
        (load_scene_labels('cityscapes_19+coco_90'), load_scene_labels('cityscapes_19+cityscapes_things_8')),
    ],
)
def test_empty_and_partial_grades_come_back(tmp_path: Path, pred: SceneLabels, gt: SceneLabels):
    grade, path = SceneGrade(pred, gt), tmp_path / 'grade.npz'
    grade.save(path)
    loaded = SceneGrade.load(path)
    check_equal(loaded, grade)
    loaded.merge(grade)  # the label sets are the same


def test_a_file_from_before_panoptic_scenes_is_read():
    whole = graded((1, ''))
    old = whole.to_arrays()
    del old['panoptic']
    old['header'] = pack_json({
        'format': 'sembox_ros/grade', 'version': 1, 'pred': NETWORK.to_dict(), 'gt': GT.to_dict(), 'masks': 2,
    })  # fmt: skip
    loaded = SceneGrade.from_arrays(old)
    assert loaded.compute() == whole.compute()._replace(panoptic=None)
    loaded.merge(graded((2, 'b/')))
    assert (loaded.masks, loaded.images, loaded.scenes) == (4, 6, 2)
    assert loaded.compute().panoptic == graded((2, '')).compute().panoptic


def moved(seed: int) -> SceneGrade:
    """Masks and boxes as ever, and depth and motion of two images."""
    generator, grade = np.random.default_rng(seed), graded((seed, f'{seed}/'))
    for _ in range(2):
        grade.add_depth(*generator.uniform(0, 90, (2, 4, 5)).astype(np.float32))
        grade.add_motion(generator.random((4, 5)) > 0.5, generator.choice([0, 1, 255], (4, 5)).astype(np.uint8))
    return grade


def test_depth_and_motion_are_graded_whatever_the_classes_are(tmp_path: Path):
    assert graded((1, '')).compute()[3:] == (None, None)
    parts, whole = [moved(1), moved(2)], moved(1)
    whole.merge(parts[1])
    scores = whole.compute()
    assert 0 < scores.depth.abs_rel < np.inf
    assert 0 < scores.motion.moving_iou < 1
    assert (whole.depths, whole.motions) == (4, 4)
    for index, part in enumerate(parts):
        part.save(tmp_path / f'{index}.npz')
    loaded = SceneGrade.load(tmp_path / '1.npz')
    loaded.merge(SceneGrade.load(tmp_path / '0.npz'))
    check_equal(loaded, whole)
    arrays = parts[0].to_arrays()
    del arrays['motion']
    with pytest.raises(InputError, match=r'arrays: expected .*motion'):
        SceneGrade.from_arrays(arrays)


def test_image_names_of_any_text_come_back():
    names = ['', 'a\0', 'a', 'ü/\ud800', ' x ']
    grade = SceneGrade(NETWORK, GT)
    for name in names:
        add_boxes(grade, name, Detections.empty(), [0])
    arrays = SceneGrade.from_arrays(grade.to_arrays(), prefix='é:').to_arrays()
    assert unpack_json('image_ids', arrays['image_ids']) == [f'é:{name}' for name in names]


def test_another_label_set_is_refused_when_merged():
    loaded = SceneGrade.from_arrays(graded((1, '')).to_arrays())
    with pytest.raises(InputError, match='the same label sets'):
        SceneGrade(GT, GT).merge(loaded)


def header(**changes) -> np.ndarray:
    fields = {'format': 'sembox_ros/grade', 'version': 2, 'masks': 2, 'scenes': 2}
    return pack_json({**fields, 'pred': NETWORK.to_dict(), 'gt': GT.to_dict(), **changes})


def changed_boxes(**changes) -> np.ndarray:
    boxes = graded((1, '')).to_arrays()['boxes']
    for name, value in changes.items():
        boxes[name][0] = value
    return boxes


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'header': None}, 'header: expected that of sembox_ros/grade version 2 or older, got None'),
        ({'header': header(version=3)}, r"header: expected .* version 2 or older, got \{'format'"),
        ({'header': header(version=1)}, r"arrays: expected \['boxes', .*got .*'panoptic'"),
        ({'header': np.zeros(3, np.uint8)}, 'header: expected JSON'),
        ({'header': pack_json([])}, r'header: expected .* got \[\]'),
        ({'header': header(pred={})}, 'header: expected label sets pred and gt; scene labels: expected semantic'),
        ({'header': header(masks=-1)}, 'header: expected masks to be a count, got -1'),
        ({'header': header(scenes='2')}, "header: expected scenes to be a count, got '2'"),
        ({'header': header(pred=GT.to_dict(), gt=NETWORK.to_dict())}, r"arrays: expected \['boxes', .*got"),
        ({'header': header(gt=NETWORK.to_dict())}, r'confusion: expected shape \(3, 4\), got \(2, 3\)'),
        ({'confusion': np.full((2, 3), -1)}, 'confusion: expected counts from 0, got -1'),
        ({'panoptic': np.full((2, 4), -1)}, 'panoptic: expected counts from 0, got -1'),
        ({'panoptic': None}, r"arrays: expected .*'panoptic'.*got"),
        ({'confusion': None}, r"arrays: expected .*'confusion'.*got"),
        ({'more': np.zeros(1)}, r"arrays: expected .*got .*'more'"),
        ({'image_ids': pack_json(['1', '2', '1'])}, 'image_ids: expected a list of different names'),
        ({'image_ids': pack_json([1, 2, 3])}, 'image_ids: expected a list of different names'),
        ({'image_ids': pack_json('abc')}, 'image_ids: expected a list of different names'),
        ({'image_ids': pack_json(['1', '2'])}, r'boxes_per_image: expected shape \(2,\), got \(3,\)'),
        ({'boxes_per_image': np.array([2, -1, 3])}, 'boxes_per_image: expected counts from 0'),
        ({'boxes_per_image': np.array([2**62] * 3)}, r'boxes: expected shape \(13835058055282163712,\)'),
        ({'boxes': np.zeros(5)}, 'boxes: expected'),
        ({'boxes': changed_boxes(class_id=2)}, r"boxes: expected ids 0\.\.1 of 'things', got 0\.\.2"),
        ({'boxes': changed_boxes(score=math.nan)}, 'boxes: expected finite scores'),
        ({'objects': np.full((2, 4), -1)}, 'objects: expected counts from 0, got -1'),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict, message: str):
    arrays = {name: array for name, array in {**graded((1, '')).to_arrays(), **changes}.items() if array is not None}
    with pytest.raises(InputError, match=message):
        SceneGrade.from_arrays(arrays)
    with (tmp_path / 'grade.npz').open('wb') as file:
        np.savez(file, **arrays)
    with pytest.raises(InputError, match=rf'grade\.npz: {message}'):
        SceneGrade.load(tmp_path / 'grade.npz')


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **graded((1, '')).to_arrays())
    damaged = bytearray(buffer.getvalue())
    if data.draw(st.booleans(), 'truncate'):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / 'damaged.npz'
    path.write_bytes(damaged)
    message = ''
    try:
        check_equal(SceneGrade.load(path), graded((1, '')))  # the bytes were of no importance
    except InputError as error:
        message = str(error)
    assert not message or message.startswith(f'{path}: ')
    assert '\n' not in message
