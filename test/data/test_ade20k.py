from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from dataset_files import cut, write_photo, write_png

from sembox_ros.data.ade20k import Ade20k
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.labels import ADE20K_32, ADE20K_150

SIZE_HW = (16, 151)
NAMES = ('ADE_val_00000001', 'ADE_val_00000002')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Each column of the masks has the id of its number: 0 (other) to 150."""
    folder = tmp_path / 'ADEChallengeData2016'
    for seed, name in enumerate(NAMES):
        write_photo(folder / 'images' / 'validation' / f'{name}.jpg', SIZE_HW, seed)
        ids = np.tile(np.arange(151, dtype=np.uint8), (16, 1))
        write_png(folder / 'annotations' / 'validation' / f'{name}.png', np.roll(ids, seed, axis=1))
    return tmp_path


def test_ids_are_shifted_and_other_is_ignored(root: Path) -> None:
    dataset = Ade20k(root=root, split='val')
    assert dataset.image_ids == NAMES
    assert dataset.labels.semantic is ADE20K_150
    sample = dataset[0]
    assert (sample.semantic == [255, *range(150)]).all()
    np.testing.assert_array_equal(sample.image, write_photo(root / 'again.jpg', SIZE_HW, seed=0))
    assert (sample.boxes_xyxy, sample.class_ids, sample.is_crowd) == (None, None, None)
    assert (sample.image_id, dataset[1].image_id) == NAMES
    assert (dataset[1].semantic[:, :3] == [149, 255, 0]).all()


def test_32_classes_are_background_and_the_31_most_frequent(root: Path) -> None:
    dataset = Ade20k(root=root, split='val', semantic='ade20k_32')
    assert dataset.labels.semantic is ADE20K_32
    assert (dataset[0].semantic == [*range(32), *[0] * 119]).all()
    assert len(ADE20K_32) == 32
    assert (ADE20K_32.names[0], ADE20K_32.names[1], ADE20K_32.names[31]) == ('background', 'wall', 'armchair')
    assert ADE20K_32.names[1:] == ADE20K_150.names[:31]


def test_root_may_be_the_archives_folder(root: Path) -> None:
    assert len(Ade20k(root=root / 'ADEChallengeData2016', split='val')) == 2


def test_limit_options_and_pickling(root: Path) -> None:
    dataset = pickle.loads(pickle.dumps(Ade20k(root=root, split='val', limit=1)))
    assert dataset.image_ids == NAMES[:1]
    assert dataset[0].semantic[0, 1] == 0
    with pytest.raises(ConfigError, match='split: expected one of train, val'):
        Ade20k(root=root, split='training')
    with pytest.raises(ConfigError, match=r'semantic: .*ade20k_32'):
        Ade20k(root=root, semantic='ade20k_33')


def test_missing_and_damaged_files_are_named(root: Path) -> None:
    with pytest.raises(DatasetError, match=r'images.training: no such folder.*ADEChallengeData2016\.zip'):
        Ade20k(root=root, split='train')
    folder = root / 'ADEChallengeData2016'
    label = folder / 'annotations' / 'validation' / f'{NAMES[1]}.png'
    data = label.read_bytes()
    cut(label)
    with pytest.raises(DatasetError, match=rf'{label.name}.*cut short'):
        Ade20k(root=root, split='val')[1]
    label.write_bytes(data)
    cut(folder / 'images' / 'validation' / f'{NAMES[0]}.jpg')
    with pytest.raises(DatasetError, match=rf'{NAMES[0]}\.jpg.*cut short'):
        Ade20k(root=root, split='val')[0]
    label.unlink()
    with pytest.raises(DatasetError, match=rf'{label.name}: no such file; 1 of 2.*ADEChallengeData2016\.zip'):
        Ade20k(root=root, split='val')
    for path in (folder / 'images' / 'validation').iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r'validation: holds no \.jpg file'):
        Ade20k(root=root, split='val')


def test_other_ids_and_sizes_are_refused(root: Path) -> None:
    path = root / 'ADEChallengeData2016' / 'annotations' / 'validation' / f'{NAMES[0]}.png'
    write_png(path, np.full(SIZE_HW, 151, np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name}: expected ids 0\.\.150, got 151'):
        Ade20k(root=root, split='val')[0]
    write_png(path, np.zeros((16, 150), np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name}: expected 16x151'):
        Ade20k(root=root, split='val')[0]
    write_png(path, np.zeros(SIZE_HW, np.uint16))
    with pytest.raises(DatasetError, match=rf'{path.name}: expected a palette or grey image of 8 bits'):
        Ade20k(root=root, split='val')[0]
