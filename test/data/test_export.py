from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import cityscapes_sample as tiny
import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from pycocotools.coco import COCO

from sembox_ros.cli import main
from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.data.export import write_coco, write_panoptic
from sembox_ros.data.sample import Sample
from sembox_ros.errors import ConfigError, DatasetError, InputError
from sembox_ros.labels import (
    CITYSCAPES_THINGS_8,
    COCO_80,
    VOC_21,
    SceneLabels,
    load_scene_labels,
)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_cityscapes(tmp_path_factory.mktemp('cityscapes'), count=2)


def by_name(content: dict[str, Any]) -> dict[str, Any]:
    """Categories, images and annotations without the order of their lists."""
    for annotation in content['annotations']:
        annotation['segments_info'].sort(key=lambda segment: segment['id'])
    return {
        'categories': sorted(content['categories'], key=lambda c: c['id']),
        'images': sorted(content['images'], key=lambda i: i['id']),
        'annotations': sorted(content['annotations'], key=lambda a: a['image_id']),
    }


@pytest.mark.parametrize('use_train_id', [False, True])
def test_panoptic_files_equal_the_official_ones(root: Path, tmp_path: Path, use_train_id: bool) -> None:
    official, ours = tmp_path / 'official', tmp_path / 'ours'
    official.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        convert2panoptic(str(root / 'gtFine'), str(official), use_train_id, ['val'])
    flags = ['--use-train-id'] if use_train_id else []
    args = ['--dataset', 'cityscapes', '--root', str(root), '--split', 'val', '--panoptic', str(ours), *flags]
    assert main(['export-dataset', *args]) == 0
    files = sorted(path.relative_to(official) for path in official.rglob('*') if path.is_file())
    assert sorted(path.relative_to(ours) for path in ours.rglob('*') if path.is_file()) == files
    assert len(files) == 3
    for file in files:
        if file.suffix == '.png':
            np.testing.assert_array_equal(cv2.imread(str(ours / file)), cv2.imread(str(official / file)))
        else:
            contents = [json.loads((folder / file).read_text()) for folder in (official, ours)]
            assert by_name(contents[1]) == by_name(contents[0])
            crowds = [s for s in contents[1]['annotations'][0]['segments_info'] if s['iscrowd']]
            assert [s['bbox'] for s in crowds] == [[70, 22, 20, 8]]  # the group of persons


def test_objects_load_in_pycocotools(root: Path, tmp_path: Path) -> None:
    assert main(['export-dataset', '--root', str(root), '--coco', str(tmp_path / 'sub' / 'val.json')]) == 0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / 'sub' / 'val.json'))
    assert {c['name']: c['id'] for c in coco.loadCats(coco.getCatIds())} == {
        name: name2label[name].id for name in CITYSCAPES_THINGS_8.names
    }
    (image,) = coco.loadImgs([1])
    assert (image['file_name'], image['height'], image['width']) == (
        'aachen/aachen_000000_000019_leftImg8bit.png', 48, 96,
    )  # fmt: skip
    assert (root / 'leftImg8bit' / 'val' / image['file_name']).is_file()
    sample = Cityscapes(root=root, split='val', with_instances=True)[0]
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [a['iscrowd'] for a in annotations] == [0, 0, 0, 1]
    assert [a['category_id'] for a in annotations] == [24, 26, 26, 24]
    assert annotations[0]['bbox'] == [60, 10, 6, 20]
    assert annotations[0]['area'] == 6 * 20
    for number, annotation in enumerate(annotations, start=1):
        mask = sample.instances == number
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation['area'] == mask.sum()
    assert len(coco.getAnnIds()) == 8
    assert len({a['id'] for a in coco.loadAnns(coco.getAnnIds())}) == 8


class One:
    """A dataset of one image."""

    image_ids = ('one',)

    def __init__(self, labels: SceneLabels, **parts: Any) -> None:
        self.labels = labels
        self.sample = Sample(**{'image': np.zeros((2, 4, 3), np.uint8), 'image_id': 'one', **parts})

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return self.sample


def boxes(class_ids: list[int], instances: list[list[int]], crowd: list[bool]) -> dict[str, np.ndarray]:
    return {
        'boxes_xyxy': np.zeros((len(class_ids), 4), np.float32),
        'class_ids': np.array(class_ids, np.int64),
        'is_crowd': np.array(crowd, bool),
        'instances': np.array(instances, np.uint16),
    }


def test_other_label_sets_are_numbered_from_one(tmp_path: Path) -> None:
    """VOC: background 0, a bird 3 told apart and one that is not, and the ignored border."""
    labels = load_scene_labels('voc_21+coco_80')
    bird = COCO_80.names.index('bird')
    fork = COCO_80.names.index('fork')  # VOC's masks do not know it: its pixels stay background
    dataset = One(
        labels,
        semantic=np.array([[0, 3, 255, 0], [0, 3, 3, 0]], np.uint8),
        **boxes([bird, fork], [[0, 1, 0, 2], [0, 1, 0, 2]], [False, False]),
    )
    write_panoptic(dataset, tmp_path)
    bgr = cv2.imread(str(tmp_path / 'panoptic' / 'one_panoptic.png')).astype(int)
    ids = bgr[:, :, 2] + 256 * bgr[:, :, 1] + 65536 * bgr[:, :, 0]
    assert ids.tolist() == [[1, 4000, 0, 1], [1, 4000, 4, 1]]
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    assert content['annotations'][0]['segments_info'] == [
        {'id': 1, 'category_id': 1, 'area': 4, 'bbox': [0, 0, 4, 2], 'iscrowd': 0},
        {'id': 4, 'category_id': 4, 'area': 1, 'bbox': [2, 1, 1, 1], 'iscrowd': 1},
        {'id': 4000, 'category_id': 4, 'area': 2, 'bbox': [1, 0, 1, 2], 'iscrowd': 0},
    ]
    assert content['categories'][3] == {
        'id': 4, 'name': 'bird', 'color': list(VOC_21.palette[3]), 'supercategory': 'bird', 'isthing': 1,
    }  # fmt: skip


def test_segment_ids_use_all_three_bytes(tmp_path: Path) -> None:
    labels = load_scene_labels('ade20k_150+coco_80')
    clock = COCO_80.names.index('clock')
    semantic = np.full((2, 4), labels.thing_links[clock], np.uint8)
    write_panoptic(One(labels, semantic=semantic, **boxes([clock], [[1] * 4] * 2, [False])), tmp_path)
    blue, green, red = cv2.imread(str(tmp_path / 'panoptic' / 'one_panoptic.png'))[0, 0].tolist()
    assert red + 256 * green + 65536 * blue == 149_000
    assert labels.semantic.names[148] == 'clock'


def test_void_is_no_segment(root: Path, tmp_path: Path) -> None:
    for classes in (19, 20):
        write_panoptic(
            Cityscapes(root=root, split='val', classes=classes, with_instances=True), tmp_path, name=f'n{classes}'
        )
    contents = [json.loads((tmp_path / f'n{classes}.json').read_text()) for classes in (19, 20)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize('write', [write_coco, write_panoptic])
def test_instances_are_needed(root: Path, tmp_path: Path, write: Any) -> None:
    with pytest.raises(DatasetError, match=r'aachen_000000_000019: expected instances, .*with_instances'):
        write(Cityscapes(root=root, split='val'), tmp_path / 'out')


def test_semantic_labels_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='this one has boxes only'):
        write_panoptic(One(SceneLabels(None, COCO_80)), tmp_path)
    with pytest.raises(DatasetError, match='one: expected semantic labels'):
        write_panoptic(One(load_scene_labels('voc_21+coco_80'), **boxes([], [[0] * 4] * 2, [])), tmp_path)


def test_an_image_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    labels = load_scene_labels('voc_21+coco_80')
    parts = boxes([], [[0] * 4] * 2, [])
    dataset = One(labels, image_id='../../one', semantic=np.zeros((2, 4), np.uint8), **parts)
    with pytest.raises(InputError, match=r"makes a file name, got '\.\./\.\./one_panoptic\.png'"):
        write_panoptic(dataset, tmp_path / 'a' / 'b')


def test_a_place_that_cannot_be_written_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'file').touch()
    dataset = Cityscapes(root=root, split='val', with_instances=True)
    with pytest.raises(InputError, match=r'_panoptic\.png: cannot be written'):
        write_panoptic(dataset, tmp_path / 'file')
    with pytest.raises(ConfigError, match=r'file/a\.json: cannot be written'):
        write_coco(dataset, tmp_path / 'file' / 'a.json')
    assert main(['export-dataset', '--root', str(root)]) == 1
    assert 'expected --coco FILE or --panoptic FOLDER' in capsys.readouterr().err
