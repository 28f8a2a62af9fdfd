from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from dataset_files import cut, noise, write_png
from hypothesis import given
from hypothesis import strategies as st

from sembox_ros.data.kitti import KittiRoad, KittiSemantics, split_names
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.labels import CITYSCAPES_THINGS_8, KITTI_19, KITTI_LANE_2, KITTI_ROAD_2

SIZE_HW = (20, 34)
ROAD, PERSON, CAR, CARAVAN = 7, 24, 26, 29


def instances() -> np.ndarray:
    """Two cars, one of them in front of the other, a person, a group of cars and a caravan, on a road."""
    ids = np.full(SIZE_HW, ROAD * 256, np.uint16)
    for label, number, (x0, y0, x1, y1) in (
        (CAR, 1, (2, 3, 12, 10)),
        (CAR, 2, (10, 5, 20, 12)),
        (PERSON, 255, (22, 1, 24, 9)),
        (CAR, 0, (26, 15, 34, 20)),
        (CARAVAN, 1, (26, 1, 30, 4)),
    ):
        ids[y0:y1, x0:x1] = label * 256 + number
    return ids


def write_semantics(root: Path, *, count: int = 7) -> Path:
    for index in range(count):
        name = f'{index:06d}_10.png'
        write_png(root / 'training' / 'image_2' / name, noise(SIZE_HW, index))
        write_png(root / 'training' / 'semantic' / name, (instances() // 256).astype(np.uint8))
        write_png(root / 'training' / 'instance' / name, instances())
    return root


def write_road(root: Path) -> Path:
    """The first four columns are road, the next four are not, the others are not judged."""
    colors = np.zeros((*SIZE_HW, 3), np.uint8)
    colors[:, :4] = 255, 0, 255
    colors[:, 4:8] = 255, 0, 0
    names = ('um_000000', 'um_000001', 'umm_000000', 'uu_000000', 'uu_000001', 'uu_000002')
    for seed, name in enumerate(names):
        scene, number = name.split('_')
        write_png(root / 'training' / 'image_2' / f'{name}.png', noise(SIZE_HW, seed))
        write_png(root / 'training' / 'gt_image_2' / f'{scene}_road_{number}.png', colors)
    colors[:, 2:4] = 255, 0, 0
    for number in range(2):
        write_png(root / 'training' / 'gt_image_2' / f'um_lane_00000{number}.png', colors)
    return root


def test_ids_boxes_and_instances(tmp_path: Path) -> None:
    dataset = KittiSemantics(root=write_semantics(tmp_path), split='trainval', with_instances=True)
    assert (dataset.labels.semantic, dataset.labels.detection) == (KITTI_19, CITYSCAPES_THINGS_8)
    sample = dataset[3]
    np.testing.assert_array_equal(sample.image, noise(SIZE_HW, 3))
    wanted = np.zeros(SIZE_HW, np.uint8)
    wanted[3:10, 2:12] = wanted[5:12, 10:20] = wanted[15:20, 26:34] = KITTI_19.names.index('car')
    wanted[1:9, 22:24] = KITTI_19.names.index('person')
    wanted[1:4, 26:30] = 255  # a caravan is not evaluated, and has no box
    np.testing.assert_array_equal(sample.semantic, wanted)
    # In the order of the instance ids: the person, the group, both cars.
    assert sample.boxes_xyxy.tolist() == [[22, 1, 24, 9], [26, 15, 34, 20], [2, 3, 12, 10], [10, 5, 20, 12]]
    assert [CITYSCAPES_THINGS_8.names[i] for i in sample.class_ids] == ['person', 'car', 'car', 'car']
    assert sample.is_crowd.tolist() == [False, True, False, False]
    # The second car hides 2x5 of the first.
    assert np.bincount(sample.instances.ravel())[1:].tolist() == [16, 40, 7 * 10 - 2 * 5, 70]
    assert (sample.instances[5:12, 10:20] == 4).all()
    assert sample.image_id == '000003_10'
    assert KittiSemantics(root=tmp_path)[0].instances is None


def test_every_label_id_means_what_cityscapes_says(tmp_path: Path) -> None:
    write_semantics(tmp_path, count=1)
    labels = {number: label for number, label in id2label.items() if number >= 0}
    ids = np.array([[*labels, 255]], np.uint8)  # -1, the licence plate, does not fit into the file
    write_png(tmp_path / 'training' / 'image_2' / '000000_10.png', noise(ids.shape))
    write_png(tmp_path / 'training' / 'semantic' / '000000_10.png', ids)
    write_png(tmp_path / 'training' / 'instance' / '000000_10.png', ids.astype(np.uint16) * 256 + 1)
    sample = KittiSemantics(root=tmp_path, split='val')[0]
    assert sample.semantic[0, :-1].tolist() == [
        label.trainId if label.trainId != -1 else 255 for label in labels.values()
    ]
    assert sample.semantic[0, -1] == 255
    boxed = [label.name for label in labels.values() if label.hasInstances and not label.ignoreInEval]
    assert [CITYSCAPES_THINGS_8.names[i] for i in sample.class_ids] == boxed
    assert sample.boxes_xyxy[:, 0].tolist() == [n for n, label in labels.items() if label.name in boxed]


@given(count=st.integers(0, 300))
def test_the_two_splits_divide_the_images(count: int) -> None:
    names = [f'{index:06d}_10.png' for index in range(count)]
    train, val = split_names(names, 'train'), split_names(names, 'val')
    assert sorted([*train, *val]) == names == split_names(names, 'trainval')
    assert len(val) == -(-count // 5)
    if count == 200:
        assert (len(train), len(val)) == (160, 40)


def test_splits_are_what_the_documentation_says(tmp_path: Path) -> None:
    write_semantics(tmp_path)
    assert KittiSemantics(root=tmp_path, split='val').image_ids == ('000000_10', '000005_10')
    train = ('000001_10', '000002_10', '000003_10', '000004_10', '000006_10')
    assert KittiSemantics(root=tmp_path, split='train').image_ids == train
    write_road(tmp_path / 'data_road')
    assert KittiRoad(root=tmp_path, split='val').image_ids == ('um_000000', 'uu_000002')


def test_road_colours(tmp_path: Path) -> None:
    dataset = KittiRoad(root=write_road(tmp_path), split='trainval')
    assert dataset.labels.semantic is KITTI_ROAD_2
    assert len(dataset) == 6
    for index in (0, 2, 5):
        sample = dataset[index]
        np.testing.assert_array_equal(sample.image, noise(SIZE_HW, index))
        assert (sample.semantic == [1] * 4 + [0] * 4 + [255] * 26).all()
        assert (sample.boxes_xyxy, sample.class_ids, sample.is_crowd) == (None, None, None)
    assert [KITTI_ROAD_2.names[i] for i in (0, 1)] == ['not road', 'road']


def test_the_ego_lane_is_known_in_some_images(tmp_path: Path) -> None:
    dataset = KittiRoad(root=write_road(tmp_path), split='trainval', area='lane')
    assert dataset.labels.semantic is KITTI_LANE_2
    assert dataset.image_ids == ('um_000000', 'um_000001')
    assert (dataset[1].semantic == [1] * 2 + [0] * 6 + [255] * 26).all()
    np.testing.assert_array_equal(dataset[1].image, noise(SIZE_HW, 1))
    assert KittiRoad(root=tmp_path, split='val', area='lane').image_ids == ('um_000000',)
    (tmp_path / 'training' / 'gt_image_2' / 'um_lane_000001.png').unlink()
    with pytest.raises(DatasetError, match=r'um_lane_000001\.png: no such file'):
        KittiRoad(root=tmp_path, split='train', area='lane')
    with pytest.raises(ConfigError, match=r"area: expected one of road, lane; got 'roads' .did you mean road"):
        KittiRoad(root=tmp_path, area='roads')


@pytest.mark.parametrize(('kind', 'write'), [(KittiSemantics, write_semantics), (KittiRoad, write_road)])
def test_limit_options_and_pickling(tmp_path: Path, kind: Any, write: Any) -> None:
    write(tmp_path)
    dataset = kind(root=tmp_path, limit=2)
    assert dataset.image_ids == kind(root=tmp_path).image_ids[:2]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset))[1].semantic, dataset[1].semantic)
    with pytest.raises(ConfigError, match='split: expected one of train, val, trainval'):
        kind(root=tmp_path, split='test')
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize(
    ('kind', 'write', 'labels', 'archive'),
    [
        (KittiSemantics, write_semantics, 'instance/000001_10.png', 'data_semantics.zip'),
        (KittiSemantics, write_semantics, 'semantic/000001_10.png', 'data_semantics.zip'),
        (KittiRoad, write_road, 'gt_image_2/um_road_000001.png', 'data_road.zip'),
    ],
)
def test_missing_and_damaged_files_are_named(tmp_path: Path, kind: Any, write: Any, labels: str, archive: str) -> None:
    with pytest.raises(DatasetError, match=rf'training.image_2: no such folder.*{archive}'):
        kind(root=tmp_path)
    path = write(tmp_path) / 'training' / labels
    data = path.read_bytes()
    cut(path)
    with pytest.raises(DatasetError, match=rf'{path.name}.*damaged'):
        kind(root=tmp_path)[0]
    write_png(path, np.zeros((20, 33), np.uint16) if 'instance' in labels else np.zeros((20, 33), np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name}: expected 20x34 .*got 20x33'):
        kind(root=tmp_path)[0]
    path.write_bytes(data)
    assert kind(root=tmp_path)[0].semantic is not None
    path.unlink()
    with pytest.raises(DatasetError, match=rf'{path.name}: no such file; 1 of .*{archive}'):
        kind(root=tmp_path)


def test_eight_bit_instances_are_refused(tmp_path: Path) -> None:
    path = write_semantics(tmp_path) / 'training' / 'instance' / '000001_10.png'
    write_png(path, np.zeros(SIZE_HW, np.uint8))
    with pytest.raises(DatasetError, match=r'000001_10\.png: expected one channel of uint16'):
        KittiSemantics(root=tmp_path)[0]
