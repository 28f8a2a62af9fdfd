"""Panoptic files: ids and tables as the formats want them, and read back by our own reader of COCO panoptic."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.data.coco_panoptic import CocoPanoptic
from sembox_ros.errors import InputError
from sembox_ros.labels import (
    CITYSCAPES_8,
    CITYSCAPES_19,
    CITYSCAPES_20,
    CITYSCAPES_THINGS_8,
    COCO_80,
    COCO_90,
    COCO_133,
    LABEL_SETS,
    VOC_21,
)
from sembox_ros.panoptic import INSTANCES, VOID, compose_truth
from sembox_ros.panoptic_files import PanopticWriter, category_ids

ROAD, CAR, PERSON = (CITYSCAPES_19.names.index(name) for name in ('road', 'car', 'person'))


def test_category_ids_are_the_datasets_own() -> None:
    assert category_ids(CITYSCAPES_19) == tuple(name2label[n].id for n in CITYSCAPES_19.names)
    assert category_ids(CITYSCAPES_20) == (*category_ids(CITYSCAPES_19), 0)
    assert category_ids(CITYSCAPES_THINGS_8) == (24, 25, 26, 27, 28, 31, 32, 33)
    assert category_ids(COCO_90) == tuple(range(1, 91))
    coco_80 = category_ids(COCO_80)
    assert (coco_80[0], coco_80[11], coco_80[-1]) == (1, 13, 90)  # person, stop sign, toothbrush
    assert category_ids(COCO_133)[:80] == coco_80
    assert category_ids(COCO_133)[-1] == 200  # rug-merged
    assert category_ids(VOC_21) == tuple(range(1, 22))
    assert category_ids(CITYSCAPES_8)[:2] == (0, 2)
    for labels in LABEL_SETS.values():
        numbers = category_ids(labels)
        assert len(set(numbers)) == len(labels)
        assert all((number == 0) == (name == 'void') for number, name in zip(numbers, labels.names, strict=True))


def segment(class_id: int, instance: int = 0) -> int:
    return class_id * INSTANCES + instance


def read_ids(path: Path) -> list[list[int]]:
    blue, green, red = np.moveaxis(cv2.imread(str(path)).astype(int), 2, 0)
    return (red + 256 * green + 65536 * blue).tolist()


def test_a_scene_under_cityscapes_ids(tmp_path: Path) -> None:
    panoptic = np.array([
        [segment(ROAD), segment(CAR, 9), segment(CAR, 9), VOID],
        [segment(ROAD), segment(CAR, 300), segment(PERSON, 7), segment(PERSON)],
    ], np.int32)  # fmt: skip
    writer = PanopticWriter(tmp_path, CITYSCAPES_19, name='pred')
    writer.add('aachen_000000_000019', panoptic)
    assert not (tmp_path / 'pred.json').exists()
    writer.finish()
    assert read_ids(tmp_path / 'pred' / 'aachen_000000_000019_panoptic.png') == [
        [7, 26000, 26000, 0], [7, 26001, 24000, 24],
    ]  # fmt: skip
    content = json.loads((tmp_path / 'pred.json').read_text())
    assert content['images'] == [
        {'id': 'aachen_000000_000019', 'file_name': 'aachen_000000_000019.png', 'height': 2, 'width': 4}
    ]
    [annotation] = content['annotations']
    assert annotation['image_id'] == 'aachen_000000_000019'
    assert annotation['segments_info'] == [
        {'id': 7, 'category_id': 7, 'area': 2, 'bbox': [0, 0, 1, 2], 'iscrowd': 0},
        {'id': 24, 'category_id': 24, 'area': 1, 'bbox': [3, 1, 1, 1], 'iscrowd': 1},
        {'id': 24000, 'category_id': 24, 'area': 1, 'bbox': [2, 1, 1, 1], 'iscrowd': 0},
        {'id': 26000, 'category_id': 26, 'area': 2, 'bbox': [1, 0, 2, 1], 'iscrowd': 0},
        {'id': 26001, 'category_id': 26, 'area': 1, 'bbox': [1, 1, 1, 1], 'iscrowd': 0},
    ]
    assert len(content['categories']) == 19


def test_void_and_nothing(tmp_path: Path) -> None:
    writer = PanopticWriter(tmp_path, CITYSCAPES_20)
    void = CITYSCAPES_20.names.index('void')
    writer.add('0012', np.array([[VOID, segment(void), segment(void, 3)]], np.int32), png_name='a.png')
    writer.finish()
    assert read_ids(tmp_path / 'panoptic' / 'a.png') == [[0, 0, 0]]
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    assert content['annotations'] == [{'image_id': 12, 'file_name': 'a.png', 'segments_info': []}]
    assert 'void' not in [category['name'] for category in content['categories']]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    writer = PanopticWriter(tmp_path / 'file' / 'sub', CITYSCAPES_19)
    with pytest.raises(InputError, match=r"makes a file name, got '\.\./a_panoptic\.png'"):
        writer.add('../a', np.zeros((1, 1), np.int32))
    with pytest.raises(InputError, match=r"a: panoptic: expected classes 0\.\.18 of 'cityscapes_19', got 19"):
        writer.add('a', np.full((1, 1), segment(19), np.int32))
    with pytest.raises(InputError, match="a: expected at most 1000 objects of 'car'"):
        writer.add('a', np.arange(segment(CAR, 1), segment(CAR, 1002), dtype=np.int32)[None])
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match=r'a_panoptic\.png: cannot be written'):
        writer.add('a', np.zeros((1, 1), np.int32))
    with pytest.raises(InputError, match=r'panoptic\.json: cannot be written'):
        writer.finish()


def numbered_anew(panoptic: np.ndarray) -> np.ndarray:
    """The same segments with objects numbered in the order of their ids."""
    ids, rows = np.unique(panoptic, return_inverse=True)
    classes, objects = ids // INSTANCES, ids % INSTANCES
    return (classes * INSTANCES + np.where(objects > 0, np.cumsum(objects > 0), 0))[rows].reshape(panoptic.shape)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_our_reader_of_coco_panoptic_gets_what_was_written(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp('coco')
    writer = PanopticWriter(root / 'annotations', COCO_133, name='panoptic_val2017')
    (root / 'val2017').mkdir()
    height, width = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 7)))
    # A number belongs to one object, so it has one class.
    things = st.builds(lambda number: segment((0, 2, 79)[number % 3], number), st.integers(1, 65535))
    stuff = st.builds(segment, st.sampled_from([0, 2, 79, 80, 101, 132]))
    ids = st.lists(st.one_of(things, stuff, st.just(VOID)), min_size=height * width, max_size=height * width)
    scenes = {f'{12 * n:012d}': np.array(data.draw(ids), np.int32).reshape(height, width) for n in (1, 2)}
    for image_id, panoptic in scenes.items():
        assert cv2.imwrite(str(root / 'val2017' / f'{image_id}.jpg'), np.zeros((height, width, 3), np.uint8))
        writer.add(image_id, panoptic, image_name=f'{image_id}.jpg', png_name=f'{image_id}.png')
    writer.finish()
    dataset = CocoPanoptic(root=root, split='val', with_instances=True)
    assert list(dataset.image_ids) == list(scenes)
    for sample, panoptic in zip((dataset[0], dataset[1]), scenes.values(), strict=True):
        read, crowds = compose_truth(
            sample.semantic, sample.instances, sample.class_ids, sample.is_crowd, dataset.labels
        )
        np.testing.assert_array_equal(numbered_anew(read), numbered_anew(panoptic))
        assert set(crowds) == {value for value in (0, segment(2), segment(79)) if (panoptic == value).any()}
