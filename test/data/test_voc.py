from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from dataset_files import cut, write_palette, write_photo, write_png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sembox_ros.data.voc import Voc, parse_annotation
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.labels import COCO_80, VOC_20, VOC_21

SIZE_HW = (20, 30)
FIRST, SECOND = '2007_000032', '2008_000008'

ANNOTATION = """<annotation>
  <folder>VOC2012</folder>
  <size><width>30</width><height>20</height><depth>3</depth></size>
  <object>
    <name>person</name><pose>Frontal</pose><truncated>0</truncated><difficult>0</difficult>
    <part><name>head</name><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></part>
    <bndbox><xmin>3</xmin><ymin>4</ymin><xmax>10</xmax><ymax>13</ymax></bndbox>
  </object>
  <object>
    <name>tvmonitor</name><difficult>1</difficult>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>
  </object>
  <object>
    <name>aeroplane</name>
    <bndbox><xmin>11</xmin><ymin>2</ymin><xmax>45.70000076293945</xmax><ymax>7.5</ymax></bndbox>
  </object>
  <object>
    <name>dog</name>
    <bndbox><xmin>9</xmin><ymin>9</ymin><xmax>8</xmax><ymax>12</ymax></bndbox>
  </object>
</annotation>
"""


def mask() -> np.ndarray:
    """A person with its border, and a part of the tvmonitor."""
    ids = np.zeros(SIZE_HW, np.uint8)
    ids[2:14, 1:11] = 255
    ids[3:13, 2:10] = 15
    ids[18:, 25:] = 20
    return ids


def write_voc(folder: Path) -> Path:
    """The layout within VOC2012/: two images in train, the second also in trainaug and val."""
    for name, split in (('train', f'{SECOND}\n{FIRST}\n'), ('val', SECOND), ('trainaug', f'{SECOND}\n')):
        path = folder / 'ImageSets' / 'Segmentation' / f'{name}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(split)
    (folder / 'Annotations').mkdir(exist_ok=True)
    for seed, name in enumerate((FIRST, SECOND)):
        write_photo(folder / 'JPEGImages' / f'{name}.jpg', SIZE_HW, seed)
    (folder / 'Annotations' / f'{FIRST}.xml').write_text(ANNOTATION)
    (folder / 'Annotations' / f'{SECOND}.xml').write_text('<annotation><folder>VOC2012</folder></annotation>')
    write_palette(folder / 'SegmentationClass' / f'{FIRST}.png', mask())
    write_palette(folder / 'SegmentationClass' / f'{SECOND}.png', np.zeros(SIZE_HW, np.uint8))
    write_png(folder / 'SegmentationClassAug' / f'{SECOND}.png', np.full(SIZE_HW, 7, np.uint8))  # grey, as shared
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_voc(tmp_path / 'VOCdevkit' / 'VOC2012')
    return tmp_path


def test_indices_boxes_and_difficult_objects(root: Path) -> None:
    dataset = Voc(root=root)
    assert (dataset.labels.semantic, dataset.labels.detection) == (VOC_21, VOC_20)
    assert dataset.image_ids == (SECOND, FIRST)  # the order of the list
    sample = dataset[1]
    np.testing.assert_array_equal(sample.image, write_photo(root / 'again.jpg', SIZE_HW, seed=0))
    np.testing.assert_array_equal(sample.semantic, mask())
    # 1-based and inclusive there; cut at the image's edges; the dog has no area.
    assert sample.boxes_xyxy.tolist() == [[2, 3, 10, 13], [0, 0, 30, 20], [10, 1, 30, 7.5]]
    assert [VOC_20.names[i] for i in sample.class_ids] == ['person', 'tvmonitor', 'aeroplane']
    assert sample.class_ids.tolist() == [14, 19, 0]
    assert sample.is_crowd.tolist() == [False, True, False]
    assert sample.image_id == FIRST
    assert dataset[0].boxes_xyxy.shape == (0, 4)


def test_box_lies_on_its_objects_pixels(root: Path) -> None:
    sample = Voc(root=root)[1]
    rows, columns = np.nonzero(sample.semantic == 15)
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert sample.boxes_xyxy[0].tolist() == extent


def test_boxes_in_cocos_classes(root: Path) -> None:
    sample = Voc(root=root, detection='coco_80')[1]
    assert [COCO_80.names[i] for i in sample.class_ids] == ['person', 'tv', 'airplane']


@pytest.mark.parametrize('below', ['', 'VOCdevkit', 'VOCdevkit/VOC2012'])
def test_root_may_be_any_folder_of_the_archive(root: Path, below: str) -> None:
    assert len(Voc(root=root / below, split='train')) == 2


def test_additional_masks_are_read_from_their_folder(root: Path) -> None:
    dataset = Voc(root=root, split='trainaug')
    assert dataset.image_ids == (SECOND,)
    assert (dataset[0].semantic == 7).all()


def test_limit_options_and_pickling(root: Path) -> None:
    dataset = pickle.loads(pickle.dumps(Voc(root=root, limit=1)))
    assert dataset.image_ids == (SECOND,)
    assert dataset[0].image_id == SECOND
    with pytest.raises(ConfigError, match=r'split: .*trainaug'):
        Voc(root=root, split='test')
    with pytest.raises(ConfigError, match='detection'):
        Voc(root=root, detection='voc_21')


def test_missing_parts_are_named_with_their_archive(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'none.VOCdevkit.VOC2012.*train\.txt.*VOCtrainval_11-May-2012\.tar'):
        Voc(root=tmp_path / 'none')
    folder = root / 'VOCdevkit' / 'VOC2012'
    (folder / 'SegmentationClassAug' / f'{SECOND}.png').unlink()
    with pytest.raises(DatasetError, match=rf'Aug.{SECOND}\.png.*SegmentationClassAug\.zip'):
        Voc(root=root, split='trainaug')
    for path in (
        folder / 'JPEGImages' / f'{FIRST}.jpg',
        folder / 'Annotations' / f'{FIRST}.xml',
        folder / 'SegmentationClass' / f'{FIRST}.png',
    ):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(DatasetError, match=rf'{path.name}: no such file; 1 of 2'):
            Voc(root=root)
        path.write_bytes(data)
        cut(path)
        with pytest.raises(DatasetError, match=rf'{path.name}.*cut short'):
            Voc(root=root)[1]
        path.write_bytes(data)


@pytest.mark.parametrize(
    'text', ['', '../../secret', '/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png', f'{FIRST}\n' * 2]
)
def test_lists_of_anything_but_ids_are_refused(root: Path, text: str) -> None:
    (root / 'VOCdevkit' / 'VOC2012' / 'ImageSets' / 'Segmentation' / 'train.txt').write_text(text)
    with pytest.raises(DatasetError, match=r'train\.txt'):
        Voc(root=root)


def test_masks_of_other_sizes_ids_or_kinds_are_refused(root: Path) -> None:
    path = root / 'VOCdevkit' / 'VOC2012' / 'SegmentationClass' / f'{FIRST}.png'
    write_palette(path, np.full(SIZE_HW, 21, np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name}: expected ids 0\.\.20 and 255, got 21'):
        Voc(root=root)[1]
    write_palette(path, np.zeros((20, 31), np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name}: expected 20x30 .*got 20x31'):
        Voc(root=root)[1]
    write_png(path, np.zeros((*SIZE_HW, 3), np.uint8))
    with pytest.raises(DatasetError, match=rf'{path.name}: .*mode RGB.*colour rendering'):
        Voc(root=root)[1]


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'


@pytest.mark.parametrize('text', [BOMB, OUTSIDE, '<!DOCTYPE annotation><annotation/>'])
def test_document_types_are_refused(root: Path, text: str) -> None:
    (root / 'VOCdevkit' / 'VOC2012' / 'Annotations' / f'{FIRST}.xml').write_text(text)
    with pytest.raises(DatasetError, match=rf'{FIRST}\.xml: .*document type'):
        Voc(root=root)[1]


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('tvmonitor', 'toaster', "'toaster' is no class"),
        ('<xmin>3</xmin>', '<xmin>three</xmin>', "xmin, got 'three'"),
        ('<xmin>3</xmin>', '', 'xmin'),
        ('<xmin>3</xmin>', '<xmin>nan</xmin>', 'xmin'),
        ('<xmin>3</xmin>', '<xmin>1e300</xmin>', 'xmin'),
        ('<annotation>', '<?xml version="1.0" encoding="klingon"?><annotation>', 'well-formed'),
        ('</annotation>', '', 'well-formed'),
        ('<folder>', '&undeclared;<folder>', 'well-formed'),
    ],
)
def test_what_is_wrong_in_an_annotation_is_named(root: Path, old: str, new: str, words: str) -> None:
    assert old in ANNOTATION
    (root / 'VOCdevkit' / 'VOC2012' / 'Annotations' / f'{FIRST}.xml').write_text(ANNOTATION.replace(old, new, 1))
    with pytest.raises(DatasetError, match=rf'{FIRST}\.xml.*{words}'):
        Voc(root=root)[1]


def test_an_object_without_a_box_is_refused(root: Path) -> None:
    path = root / 'VOCdevkit' / 'VOC2012' / 'Annotations' / f'{FIRST}.xml'
    path.write_text('<annotation><object><name>dog</name></object></annotation>')
    with pytest.raises(DatasetError, match=rf'{FIRST}\.xml: object dog: expected a bndbox'):
        Voc(root=root)[1]


@settings(deadline=None)
@given(data=st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    message = 'a.xml: read'
    try:
        parse_annotation(data, Path('a.xml'))
    except DatasetError as error:
        message = str(error)
    assert message.startswith('a.xml: ')


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_annotation_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / 'VOCdevkit').exists():
        write_voc(tmp_path / 'VOCdevkit' / 'VOC2012')
    start = data.draw(st.integers(0, len(ANNOTATION)))
    stop = data.draw(st.integers(start, min(start + 30, len(ANNOTATION))))
    text = ANNOTATION[:start] + data.draw(st.text(max_size=5)) + ANNOTATION[stop:]
    path = tmp_path / 'VOCdevkit' / 'VOC2012' / 'Annotations' / f'{FIRST}.xml'
    path.write_text(text, encoding='utf-8', errors='surrogatepass')
    boxes, message = np.zeros((0, 4)), path.name
    try:
        boxes = Voc(root=tmp_path)[1].boxes_xyxy
    except DatasetError as error:
        message = str(error)
    assert path.name in message
    assert (boxes[:, :2] < boxes[:, 2:]).all()
