from __future__ import annotations

import dataclasses
import json
import os
import pickle
from pathlib import Path
from typing import Any

import cityscapes_sample as tiny
import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.data.datasets import load_dataset
from sembox_ros.data.geometry_files import encode_disparity, encode_flow
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.labels import (
    CITYSCAPES_7,
    CITYSCAPES_8,
    CITYSCAPES_19,
    CITYSCAPES_20,
    CITYSCAPES_THINGS_8,
    load_scene_labels,
)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_cityscapes(tmp_path_factory.mktemp('cityscapes'))


def things(*names: str) -> list[int]:
    return [CITYSCAPES_THINGS_8.names.index(name) for name in names]


def test_boxes_are_those_of_the_instances(root: Path) -> None:
    sample = Cityscapes(root=root, split='val')[0]
    assert sample.image_id == 'aachen_000000_000019'
    assert sample.boxes_xyxy.tolist() == [[60, 10, 66, 30], [10, 15, 30, 35], [25, 20, 50, 38], [70, 22, 90, 30]]
    assert sample.class_ids.tolist() == things('person', 'car', 'car', 'person')
    assert sample.is_crowd.tolist() == [False, False, False, True]
    assert sample.instances is None


def test_images_are_read_as_rgb_in_order(root: Path) -> None:
    dataset = Cityscapes(root=str(root), split='val')
    assert dataset.image_ids == ('aachen_000000_000019', 'aachen_000001_000019', 'aachen_000002_000019')
    assert len(dataset) == 3
    file = root / 'leftImg8bit/val/aachen/aachen_000001_000019_leftImg8bit.png'
    np.testing.assert_array_equal(dataset[1].image, cv2.imread(str(file))[:, :, ::-1])
    assert dataset[1].boxes_xyxy[0].tolist() == [65, 10, 71, 30]  # shifted by 5 columns


def test_instances_number_the_pixels_of_each_box(root: Path) -> None:
    sample = Cityscapes(root=root, split='val', with_instances=True)[0]
    _, instance = tiny.street_labels()
    wanted = sum((instance == value) * number for number, value in enumerate((24000, 26000, 26001, 24), start=1))
    assert sample.instances.dtype == np.uint16
    np.testing.assert_array_equal(sample.instances, wanted)


@pytest.mark.parametrize(
    ('classes', 'label_set', 'expected'),
    [
        (19, CITYSCAPES_19, lambda label: label.trainId),
        (20, CITYSCAPES_20, lambda label: 19 if label.trainId == 255 else label.trainId),
        (8, CITYSCAPES_8, lambda label: label.categoryId),
        (7, CITYSCAPES_7, lambda label: label.categoryId - 1 if label.categoryId else 255),
    ],
)
def test_every_official_id_becomes_its_class(tmp_path: Path, classes: int, label_set: Any, expected: Any) -> None:
    label = np.arange(34, dtype=np.uint8).reshape(2, 17)
    tiny.write_image(tmp_path, 'ulm_000000_000019', label, np.zeros((2, 17), np.uint16))
    dataset = Cityscapes(root=tmp_path, split='val', classes=classes)
    assert dataset.labels.semantic == label_set
    assert dataset.labels.detection == CITYSCAPES_THINGS_8
    assert dataset[0].semantic.ravel().tolist() == [expected(id2label[i]) for i in range(34)]


def test_riders_and_persons_are_both_humans() -> None:
    links = link_names(8)
    assert links['person'] == links['rider'] == 'human'
    assert links['bicycle'] == 'vehicle'
    assert set(link_names(19)) == set(CITYSCAPES_THINGS_8.names)


def link_names(classes: int) -> dict[str, str]:
    labels = load_scene_labels(f'cityscapes_{classes}+cityscapes_things_8')
    return {labels.detection.names[k]: labels.semantic_names[v] for k, v in labels.thing_links.items()}


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(
        st.integers(0, 33) | st.integers(0, 65535) | st.integers(24, 33).map(lambda i: i * 1000 + 7),
        min_size=1, max_size=12, unique=True,
    )
)  # fmt: skip
def test_any_instance_ids_give_official_classes_and_tight_boxes(
    values: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever 16-bit numbers a file holds: only evaluated classes with instances have boxes."""
    root = tmp_path_factory.mktemp('any')
    instance = np.repeat(np.array(values, np.uint16)[None], 3, axis=0)
    tiny.write_image(root, 'ulm_000000_000019', np.zeros(instance.shape, np.uint8), instance)
    sample = Cityscapes(root=root, split='val')[0]
    expected = []
    for column, value in sorted(enumerate(values), key=lambda pair: (pair[1] < 1000, pair[1])):
        label = id2label.get(value if value < 1000 else value // 1000)
        if label is not None and label.hasInstances and not label.ignoreInEval:
            expected.append(([column, 0, column + 1, 3], label.name, value < 1000))
    names = [CITYSCAPES_THINGS_8.names[i] for i in sample.class_ids]
    assert list(zip(sample.boxes_xyxy.tolist(), names, sample.is_crowd.tolist(), strict=True)) == expected


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), size_hw=st.tuples(st.integers(1, 9), st.integers(1, 12)))
def test_scattered_objects_have_tight_boxes(
    seed: int, size_hw: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp('scattered')
    instance = np.random.default_rng(seed).choice(np.array([7, 24, 24000, 24001, 33002], np.uint16), size_hw)
    tiny.write_image(root, 'ulm_000000_000019', np.zeros(size_hw, np.uint8), instance)
    sample = Cityscapes(root=root, split='val', with_instances=True)[0]
    groups = cv2.connectedComponents((instance == 24).view(np.uint8))[0] - 1
    assert len(sample.boxes_xyxy) == len(np.setdiff1d(instance, [7, 24])) + groups
    assert sample.is_crowd.sum() == groups
    np.testing.assert_array_equal(np.isin(sample.instances, np.flatnonzero(sample.is_crowd) + 1), instance == 24)
    np.testing.assert_array_equal(sample.instances > 0, instance != 7)
    for number, box in enumerate(sample.boxes_xyxy.tolist(), start=1):
        rows, columns = np.nonzero(sample.instances == number)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_an_image_without_objects_has_no_boxes(tmp_path: Path) -> None:
    road = np.full((4, 6), tiny.ROAD, np.uint8)
    tiny.write_image(tmp_path, 'ulm_000000_000019', road, road.astype(np.uint16), split='train')
    sample = Cityscapes(root=tmp_path, with_instances=True)[0]
    assert sample.boxes_xyxy.shape == (0, 4)
    assert sample.instances.shape == (4, 6)
    assert (sample.instances == 0).all()
    assert (sample.semantic == 0).all()


def test_withheld_labels_of_the_test_split_are_all_ignored(tmp_path: Path) -> None:
    outside = np.full((4, 6), 3, np.uint8)  # 'out of roi'
    tiny.write_image(tmp_path, 'bonn_000000_000019', outside, outside.astype(np.uint16), split='test')
    sample = Cityscapes(root=tmp_path, split='test')[0]
    assert (sample.semantic == 255).all()
    assert len(sample.class_ids) == 0


def test_coarse_labels_go_with_the_extra_images(tmp_path: Path) -> None:
    tiny.write_cityscapes(tmp_path, count=1, split='train_extra')
    assert (tmp_path / 'gtCoarse').is_dir()
    assert len(Cityscapes(root=tmp_path, split='train_extra')[0].class_ids) == 4


def test_limit_takes_the_first_images(root: Path) -> None:
    assert Cityscapes(root=root, split='val', limit=2).image_ids == ('aachen_000000_000019', 'aachen_000001_000019')
    assert len(Cityscapes(root=root, split='val', limit=10)) == 3


def test_a_worker_process_gets_the_same_dataset(root: Path) -> None:
    dataset = Cityscapes(root=root, split='val', with_instances=True)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.labels == dataset.labels
    for field in dataclasses.fields(dataset[2]):
        np.testing.assert_array_equal(getattr(copy[2], field.name), getattr(dataset[2], field.name))


@pytest.mark.parametrize('gone', ['leftImg8bit', 'gtFine', 'leftImg8bit/val', 'gtFine/val'])
def test_a_missing_folder_is_named_with_the_remedy(tmp_path: Path, gone: str) -> None:
    tiny.write_cityscapes(tmp_path, count=1)
    (tmp_path / gone).rename(tmp_path / 'elsewhere')
    with pytest.raises(DatasetError, match=r'no such folder.*gtFine_trainvaltest\.zip.*sembox_ros streets') as caught:
        Cityscapes(root=tmp_path, split='val')
    assert str(tmp_path / gone) in str(caught.value)


def test_an_empty_split_is_no_dataset(tmp_path: Path) -> None:
    for folder in ('leftImg8bit', 'gtFine'):
        (tmp_path / folder / 'train' / 'ulm').mkdir(parents=True)
    with pytest.raises(DatasetError, match=r'leftImg8bit/train: expected <city>.*found none.*leftImg8bit_trainvaltest'):
        Cityscapes(root=tmp_path)


@pytest.mark.parametrize('kind', ['labelIds', 'instanceIds'])
def test_half_extracted_labels_are_counted_and_the_first_is_named(tmp_path: Path, kind: str) -> None:
    tiny.write_cityscapes(tmp_path, count=3)
    for index in (1, 2):
        os.remove(tmp_path / f'gtFine/val/aachen/aachen_{index:06d}_000019_gtFine_{kind}.png')
    with pytest.raises(DatasetError, match=rf'aachen_000001_000019_gtFine_{kind}\.png: no such file; 2 of 3 images'):
        Cityscapes(root=tmp_path, split='val')


def test_labels_of_another_size_are_refused(tmp_path: Path) -> None:
    tiny.write_cityscapes(tmp_path, count=1)
    path = tmp_path / 'gtFine/val/aachen/aachen_000000_000019_gtFine_instanceIds.png'
    cv2.imwrite(str(path), np.zeros((24, 48), np.uint16))
    with pytest.raises(DatasetError, match=r'instanceIds\.png: expected 48x96 pixels .*, got 24'):
        Cityscapes(root=tmp_path, split='val')[0]


def test_more_regions_than_numbers_are_refused(tmp_path: Path) -> None:
    instance = np.zeros((514, 514), np.uint16)
    instance[::2, ::2] = tiny.PERSON
    tiny.write_image(tmp_path, 'ulm_000000_000019', instance.astype(np.uint8), instance)
    with pytest.raises(DatasetError, match=r'instanceIds\.png: expected at most 65535 objects .*, got 66049'):
        Cityscapes(root=tmp_path, split='val')[0]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'split': 'valid'}, "split: expected one of train, val, test, train_extra; got 'valid'"),
        ({'classes': 34}, 'classes: expected 19, 20, 8 or 7, got 34'),
        ({'split': 'val', 'limit': -1}, 'limit: .*got -1'),
        ({'split': 'val', 'limit': 'all'}, "limit: .*got 'all'"),
        ({'root': None}, 'root: .*got None'),
        ({'rooot': 'x'}, r"unknown option 'rooot' \(did you mean root\?\); known: root, split"),
    ],
)
def test_wrong_options_are_refused(root: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_dataset('cityscapes', {'root': root, **options})


def test_datasets_are_found_by_name(root: Path) -> None:
    dataset = load_dataset('cityscapes', {'root': str(root), 'split': 'val', 'limit': 1})
    assert isinstance(dataset, Cityscapes)
    assert len(dataset) == 1
    with pytest.raises(ConfigError, match=r"'cityscape' is unknown \(did you mean cityscapes\?\); known: cityscapes"):
        load_dataset('cityscape', {})
    with pytest.raises(ConfigError, match="dataset cityscapes: option 'root' is missing"):
        load_dataset('cityscapes', {'split': 'val'})


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Two images, all that they show 20 m away, of which the left half moves and flows by (3, -1.5) pixels."""
    tiny.write_cityscapes(tmp_path, count=2)
    flow = np.zeros((*tiny.SIZE_HW, 2), np.float32)
    motion = np.zeros(tiny.SIZE_HW, np.uint8)
    flow[:, :48], motion[:, :48] = (3.0, -1.5), 1
    camera = {'extrinsic': {'baseline': 0.209313, 'pitch': 0.038}, 'intrinsic': {'fx': 2262.52, 'u0': 1096.98}}
    disparity = encode_disparity(np.full(tiny.SIZE_HW, 20.0, np.float32), 2262.52 * 0.209313)
    for index in range(2):
        for folder, pixels in (('disparity', disparity), ('flow', encode_flow(flow)[..., ::-1]), ('motion', motion)):
            path = tmp_path / folder / 'val' / tiny.CITY / f'{tiny.CITY}_{index:06d}_000019_{folder}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), pixels)
        path = tmp_path / 'camera' / 'val' / tiny.CITY / f'{tiny.CITY}_{index:06d}_000019_camera.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(camera))
    return tmp_path


def test_depth_flow_and_motion_come_if_they_are_asked_for(measured: Path) -> None:
    bare = Cityscapes(root=measured, split='val')[1]
    assert bare.depth is bare.flow is bare.motion is None
    sample = Cityscapes(root=measured, split='val', with_depth=True, with_flow=True, with_motion=True)[1]
    np.testing.assert_allclose(sample.depth, 20.0, rtol=1e-3)
    assert sample.flow[5, 47].tolist() == [3.0, -1.5]
    assert sample.flow[5, 48].tolist() == [0.0, 0.0]
    assert sample.motion[5].tolist() == [1] * 48 + [0] * 48
    np.testing.assert_array_equal(sample.image, bare.image)
    only = Cityscapes(root=measured, split='val', with_motion=True)[0]
    assert only.depth is only.flow is None
    np.testing.assert_array_equal(only.motion, sample.motion)


@pytest.mark.parametrize(('option', 'file'), [
    ('with_depth', 'disparity.png'), ('with_depth', 'camera.json'), ('with_flow', 'flow.png'),
    ('with_motion', 'motion.png'),
])  # fmt: skip
def test_missing_geometry_is_named_with_its_remedy(measured: Path, option: str, file: str) -> None:
    folder = file.partition('.')[0]
    (measured / folder / 'val' / tiny.CITY / f'{tiny.CITY}_000001_000019_{file}').unlink()
    with pytest.raises(DatasetError, match=rf'000001_000019_{file}: no such file; 1 of 2 .* {folder}\. .*--geometry'):
        Cityscapes(root=measured, split='val', **{option: True})
    assert Cityscapes(root=measured, split='val', limit=1, **{option: True})[0].image_id == 'aachen_000000_000019'


@pytest.mark.parametrize(('option', 'folder'), [
    ('with_depth', 'disparity'), ('with_flow', 'flow'), ('with_motion', 'motion'),
])  # fmt: skip
def test_geometry_of_another_size_is_named(measured: Path, option: str, folder: str) -> None:
    file = measured / folder / 'val' / tiny.CITY / f'{tiny.CITY}_000000_000019_{folder}.png'
    cv2.imwrite(str(file), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[1:])
    with pytest.raises(DatasetError, match=rf'{folder}\.png: expected 48x96 pixels .* got 47x96'):
        Cityscapes(root=measured, split='val', **{option: True})[0]
