from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import cut, damaged, json_values, noise, write_photo, write_png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from sembox_ros.data.coco import Coco21, CocoDetection
from sembox_ros.data.coco_json import _decode_runs
from sembox_ros.data.coco_panoptic import CocoPanoptic
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.labels import COCO_80, COCO_90, COCO_133, VOC_21

SIZE_HW = (20, 30)
# torchvision's segmentation references (coco_utils): the category ids of VOC's classes, in VOC's order.
CAT_LIST = [0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def corners(x0: int, y0: int, x1: int, y1: int) -> list[float]:
    """A polygon that pycocotools draws as that rectangle."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def runs(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, down the columns, of a mask."""
    flat = np.concatenate(([False], mask.T.ravel()))
    edges = np.flatnonzero(np.diff(flat.astype(int)))
    return np.diff([0, *edges, mask.size]).tolist()


def instances() -> dict[str, Any]:
    """Two images: person, stop sign and car crowd in the first (by id), nothing in the second."""

    def thing(number: int, category: int, bbox: list[float], segmentation: Any, crowd: int = 0) -> dict[str, Any]:
        return {
            'id': number, 'image_id': 5, 'category_id': category, 'bbox': bbox, 'segmentation': segmentation,
            'iscrowd': crowd, 'area': 1.0,
        }  # fmt: skip

    crowd = rectangle(20, 0, 28, 10)
    return {
        'info': {},
        'images': [
            {'id': 9, 'file_name': '000000000009.jpg', 'height': SIZE_HW[0], 'width': SIZE_HW[1]},
            {'id': 5, 'file_name': '000000000005.jpg', 'height': SIZE_HW[0], 'width': SIZE_HW[1]},
        ],
        'annotations': [
            thing(1, 1, [2, 3, 8, 10], [corners(2, 3, 10, 13)]),
            thing(2, 13, [5.5, 3.25, 10, 2.5], [corners(5, 3, 15, 6), corners(14, 10, 18, 12)]),
            thing(3, 3, [20, 0, 8, 10], {'size': list(SIZE_HW), 'counts': runs(crowd)}, crowd=1),
            thing(4, 1, [4, 4, 0, 5], [corners(4, 4, 6, 6)]),  # no area
            thing(5, 18, [25, 15, 10, 10], [corners(25, 15, 30, 20)]),  # reaches out of the image
            thing(6, 1, [8, 10, 6, 6], [corners(8, 10, 14, 16), [1.0, 2.0, 3.0, 4.0]]),  # overlaps the first
        ],
        'categories': [
            {'id': 1, 'name': 'person', 'supercategory': 'person'},
            {'id': 3, 'name': 'car', 'supercategory': 'vehicle'},
            {'id': 13, 'name': 'stop sign', 'supercategory': 'outdoor'},
            {'id': 18, 'name': 'dog', 'supercategory': 'animal'},
            {'id': 90, 'name': 'toothbrush', 'supercategory': 'indoor'},
        ],
    }


def write_coco(root: Path, document: Any, *, name: str = 'instances_val2017.json') -> Path:
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    (root / 'annotations' / name).write_text(json.dumps(document))
    for image in (5, 9):
        if not (root / 'val2017' / f'{image:012d}.jpg').exists():
            write_photo(root / 'val2017' / f'{image:012d}.jpg', SIZE_HW, seed=image)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path, instances())


@pytest.fixture(scope='module')
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_coco(tmp_path_factory.mktemp('coco'), instances())
    return write_panoptic(root)


BOXES = [[2, 3, 10, 13], [5.5, 3.25, 15.5, 5.75], [20, 0, 28, 10], [25, 15, 30, 20], [8, 10, 14, 16]]


def test_boxes_become_corners_and_images_without_any_stay(root: Path) -> None:
    dataset = CocoDetection(root=root, split='val')
    assert dataset.image_ids == ('000000000005', '000000000009')
    assert (len(dataset), dataset.labels.semantic, dataset.labels.detection) == (2, None, COCO_90)
    first, second = dataset[0], dataset[1]
    np.testing.assert_array_equal(first.image, write_photo(root / 'again.jpg', SIZE_HW, seed=5))
    assert first.boxes_xyxy.tolist() == BOXES
    assert first.class_ids.tolist() == [0, 12, 2, 17, 0]  # category id less one
    assert first.is_crowd.tolist() == [False, False, True, False, False]
    assert (first.semantic, first.instances, first.image_id) == (None, None, '000000000005')
    assert (second.boxes_xyxy.shape, second.class_ids.shape) == ((0, 4), (0,))
    assert dataset[-1].image_id == '000000000009'
    with pytest.raises(IndexError):
        dataset[2]


def test_contiguous_class_ids(root: Path) -> None:
    dataset = CocoDetection(root=root, split='val', detection='coco_80')
    assert dataset.labels.detection is COCO_80
    assert dataset[0].class_ids.tolist() == [0, 11, 2, 16, 0]
    assert [COCO_80.names[i] for i in dataset[0].class_ids[:3]] == ['person', 'stop sign', 'car']


def test_instances_are_those_of_the_official_reader(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official = COCO(root / 'annotations' / 'instances_val2017.json')
    first, second = CocoDetection(root=root, split='val', with_instances=True)
    wanted = np.zeros(SIZE_HW, np.uint16)
    for number, row in ((3, 3), (1, 1), (2, 2), (5, 4)):  # the crowd, then from the largest to the smallest
        wanted[official.annToMask(official.anns[number]) > 0] = row
    wanted[rectangle(8, 10, 14, 16)] = 5  # less the line of two points, which the official reader takes for a box
    np.testing.assert_array_equal(first.instances, wanted)
    assert first.instances.dtype == np.uint16
    np.testing.assert_array_equal(second.instances, np.zeros(SIZE_HW, np.uint16))


@given(order=st.permutations(range(3)), crowd=st.integers(0, 2))
@settings(deadline=None, max_examples=20)
def test_smaller_objects_lie_over_larger_ones_and_crowds_below_all(scratch: Path, order: list[int], crowd: int) -> None:
    """Three nested squares in any order, one of them a crowd."""
    squares, document = [(2, 2, 18, 18), (4, 4, 14, 14), (6, 6, 10, 10)], instances()
    document['annotations'] = [
        {
            'id': number, 'image_id': 5, 'category_id': 1, 'bbox': [2, 2, 16, 16], 'area': 1.0,
            'iscrowd': int(square == crowd), 'segmentation': [corners(*squares[square])],
        }
        for number, square in enumerate(order)
    ]  # fmt: skip
    wanted = np.zeros(SIZE_HW, int)
    for square in sorted(range(3), key=lambda square: (square != crowd, square)):
        wanted[rectangle(*squares[square])] = order.index(square) + 1
    dataset = CocoDetection(root=write_coco(scratch / 'nested', document), split='val', with_instances=True)
    np.testing.assert_array_equal(dataset[0].instances, wanted)


@settings(deadline=None)
@given(bits=st.lists(st.booleans(), min_size=1, max_size=300), repeat=st.integers(1, 2000))
def test_compressed_runs_are_read_as_pycocotools_writes_them(bits: list[bool], repeat: int) -> None:
    mask = np.asfortranarray(np.repeat(np.array(bits, np.uint8), repeat)[:, None])
    text = coco_mask.encode(mask)['counts'].decode()
    lengths = _decode_runs(text, 'here')
    np.testing.assert_array_equal(np.repeat(np.arange(len(lengths)) % 2, lengths), mask[:, 0])


def test_compressed_runs_are_drawn(root: Path) -> None:
    document = instances()
    mask = rectangle(3, 4, 25, 19)
    text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))['counts'].decode()
    document['annotations'][0]['segmentation'] = {'size': list(SIZE_HW), 'counts': text}
    del document['annotations'][1:]
    sample = CocoDetection(root=write_coco(root, document), split='val', with_instances=True)[0]
    np.testing.assert_array_equal(sample.instances == 1, mask)


def test_voc_classes_are_painted(root: Path) -> None:
    dataset = Coco21(root=root, split='val')
    assert (dataset.labels.semantic, dataset.labels.detection) == (VOC_21, COCO_90)
    sample = dataset[0]
    wanted = np.zeros(SIZE_HW, np.uint8)
    wanted[3:13, 2:10] = VOC_21.names.index('person')
    wanted[10:16, 8:14] = VOC_21.names.index('person')
    wanted[10:13, 8:10] = 255  # two persons claim it
    wanted[0:10, 20:28] = 255  # crowd
    wanted[15:20, 25:30] = VOC_21.names.index('dog')
    np.testing.assert_array_equal(sample.semantic, wanted)  # VOC knows no stop sign
    assert sample.boxes_xyxy.tolist() == BOXES
    assert sample.class_ids.tolist() == [0, 12, 2, 17, 0]
    assert not dataset[1].semantic.any()


@pytest.mark.parametrize('detection', ['coco_90', 'coco_80'])
def test_the_21_classes_are_the_published_ones(root: Path, detection: str) -> None:
    labels = Coco21(root=root, split='val', detection=detection).labels
    back = {mask: COCO_90.names.index(labels.detection.names[box]) + 1 for box, mask in labels.thing_links.items()}
    assert [back.get(index, 0) for index in range(21)] == CAT_LIST


def panoptic() -> dict[str, Any]:
    """Person 70000 and its crowd 2, a car of id 258, a wall; sky (unlabeled) elsewhere."""

    def segment(number: int, category: int, bbox: list[int], crowd: int = 0) -> dict[str, Any]:
        return {'id': number, 'category_id': category, 'bbox': bbox, 'iscrowd': crowd, 'area': bbox[2] * bbox[3]}

    return {
        'images': [
            {'id': 5, 'file_name': '000000000005.jpg', 'height': SIZE_HW[0], 'width': SIZE_HW[1]},
            {'id': 9, 'file_name': '000000000009.jpg', 'height': SIZE_HW[0], 'width': SIZE_HW[1]},
        ],
        'annotations': [
            {'image_id': 9, 'file_name': '000000000009.png', 'segments_info': []},
            {
                'image_id': 5,
                'file_name': '000000000005.png',
                'segments_info': [
                    segment(70000, 1, [2, 3, 8, 10]),
                    segment(258, 3, [20, 0, 8, 10]),
                    segment(2, 1, [12, 14, 6, 3], crowd=1),
                    segment(199, 199, [0, 18, 30, 2]),
                ],
            },
        ],
        'categories': [
            {'id': 1, 'name': 'person', 'isthing': 1, 'color': [220, 20, 60]},
            {'id': 3, 'name': 'car', 'isthing': 1, 'color': [0, 0, 142]},
            {'id': 199, 'name': 'wall-other-merged', 'isthing': 0, 'color': [102, 102, 156]},
        ],
    }


REGIONS = {70000: (2, 3, 10, 13), 258: (20, 0, 28, 10), 2: (12, 14, 18, 17), 199: (0, 18, 30, 20)}


def write_panoptic(root: Path) -> Path:
    write_coco(root, panoptic(), name='panoptic_val2017.json')
    ids = np.zeros(SIZE_HW, np.int64)
    for number, (x0, y0, x1, y1) in REGIONS.items():
        ids[y0:y1, x0:x1] = number
    folder = root / 'annotations' / 'panoptic_val2017'
    write_png(folder / '000000000005.png', np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8))
    write_png(folder / '000000000009.png', np.zeros((*SIZE_HW, 3), np.uint8))
    return root


def test_panoptic_gives_classes_of_all_pixels_and_boxes_of_things(tmp_path: Path) -> None:
    dataset = CocoPanoptic(root=write_panoptic(tmp_path), split='val', with_instances=True)
    assert dataset.labels.semantic is COCO_133
    sample = dataset[0]
    wanted = np.full(SIZE_HW, 255, np.uint8)
    wanted[3:13, 2:10] = wanted[14:17, 12:18] = 0
    wanted[0:10, 20:28] = 2
    wanted[18:20] = COCO_133.names.index('wall-other-merged')
    assert COCO_133.names.index('wall-other-merged') == 131
    np.testing.assert_array_equal(sample.semantic, wanted)
    # In the order of the segment ids: the crowd, the car, the person.
    assert sample.boxes_xyxy.tolist() == [list(REGIONS[number]) for number in (2, 258, 70000)]
    assert sample.class_ids.tolist() == [0, 2, 0]
    assert sample.is_crowd.tolist() == [True, False, False]
    for row, number in enumerate((2, 258, 70000), start=1):
        np.testing.assert_array_equal(sample.instances == row, rectangle(*REGIONS[number]))
    assert (dataset[1].semantic == 255).all()
    assert dataset[1].boxes_xyxy.shape == (0, 4)
    np.testing.assert_array_equal(dataset[1].instances, np.zeros(SIZE_HW, np.uint16))
    assert CocoPanoptic(root=tmp_path, split='val')[0].instances is None


def test_panoptic_refuses_a_segment_that_nobody_describes(tmp_path: Path) -> None:
    document = panoptic()
    del document['annotations'][1]['segments_info'][1]
    write_coco(write_panoptic(tmp_path), document, name='panoptic_val2017.json')
    with pytest.raises(DatasetError, match=r'000000000005\.png: segment 258 is not'):
        CocoPanoptic(root=tmp_path, split='val')[0]


@pytest.mark.parametrize('kind', [CocoDetection, Coco21, CocoPanoptic])
def test_limit_options_and_pickling(scratch: Path, kind: Any) -> None:
    dataset = kind(root=str(scratch), split='val', limit=1)
    assert dataset.image_ids == ('000000000005',)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[0].boxes_xyxy.tolist() == dataset[0].boxes_xyxy.tolist()
    with pytest.raises(ConfigError, match=r"split: .*train, val; got 'vall' \(did you mean val"):
        kind(root=scratch, split='vall')
    with pytest.raises(ConfigError, match=r'detection: .*coco_90, coco_80'):
        kind(root=scratch, split='val', detection='voc_20')
    for limit in (-1, 1.5, True):
        with pytest.raises(ConfigError, match='limit'):
            kind(root=scratch, split='val', limit=limit)


@pytest.mark.parametrize('kind', [CocoDetection, CocoPanoptic])
def test_missing_parts_are_named_with_their_archives(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(DatasetError, match=r'_train2017\.json.*train2017\.zip and .*annotations_trainval2017\.zip'):
        kind(root=tmp_path, split='train')
    write_panoptic(write_coco(tmp_path, instances()))
    (tmp_path / 'val2017' / '000000000009.jpg').unlink()
    with pytest.raises(DatasetError, match=r'000000000009\.jpg.*1 of 2 are missing.*val2017\.zip'):
        kind(root=tmp_path, split='val')
    assert len(kind(root=tmp_path, split='val', limit=1)) == 1  # which does not use it


def test_missing_panoptic_labels_are_named(tmp_path: Path) -> None:
    write_panoptic(tmp_path)
    (tmp_path / 'annotations' / 'panoptic_val2017' / '000000000005.png').unlink()
    with pytest.raises(DatasetError, match=r'000000000005\.png.*1 of 2.*panoptic_val2017\.zip'):
        CocoPanoptic(root=tmp_path, split='val')


def test_damaged_images_are_refused(root: Path) -> None:
    dataset = CocoDetection(root=root, split='val')
    cut(root / 'val2017' / '000000000005.jpg')
    with pytest.raises(DatasetError, match=r'000000000005\.jpg.*cut short'):
        dataset[0]
    write_photo(root / 'val2017' / '000000000009.jpg', (SIZE_HW[0], 31))
    with pytest.raises(DatasetError, match=r'000000000009\.jpg: expected 20x30 .* got 20x31'):
        dataset[1]


def test_pixels_are_read_as_stored(root: Path) -> None:
    path = root / 'val2017' / '000000000005.jpg'
    exif = Image.Exif()
    exif[0x112] = 3  # upside down
    Image.fromarray(noise(SIZE_HW, 5)).save(path, exif=exif)
    np.testing.assert_array_equal(
        CocoDetection(root=root, split='val')[0].image, write_photo(root / 'plain.jpg', SIZE_HW, seed=5)
    )
    Image.fromarray(noise(SIZE_HW)[..., 0]).save(path)  # COCO has grey ones
    grey = CocoDetection(root=root, split='val')[0].image
    assert (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize(
    ('where', 'value', 'words'),
    [
        (('images',), {}, "'images': expected a list"),
        (('images',), [], "'images' is empty"),
        (('images', 0, 'id'), 5, 'of its own'),
        (('images', 0, 'file_name'), '../../secret.jpg', 'without folders'),
        (('images', 0, 'height'), 10**9, '64000000 pixels'),
        (('images', 0, 'width'), 0, 'pixels'),
        (('categories', 0, 'name'), 'screw', "'screw' here"),
        (('annotations', 0, 'image_id'), 6, "'image_id' 6 is none"),
        (('annotations', 0, 'category_id'), 91, "'category_id' 91"),
        (('annotations', 0, 'bbox'), [1, 2, 3], 'x, y, width, height'),
        (('annotations', 0, 'bbox'), [1, 2, 3, float('nan')], 'four numbers'),
        (('annotations', 0, 'iscrowd'), 2, '0 or 1'),
        (('annotations', 0, 'segmentation'), None, 'polygons or run lengths'),
        (('annotations', 0, 'segmentation'), [[0, 0, 5, 5, 5]], 'polygons of numbers'),
        (('annotations', 0, 'segmentation'), [[0, 0, 5, 5, 500000, 5]], 'near the image'),
        (('annotations', 2, 'segmentation', 'counts'), [0, 10**12], 'cover 20x30'),
        (('annotations', 2, 'segmentation', 'counts'), '\x01', 'compressed'),
        (('annotations', 2, 'segmentation', 'size'), [30, 20], r'size \[20, 30\]'),
    ],
)
def test_what_is_wrong_in_the_file_is_named(root: Path, where: tuple[Any, ...], value: Any, words: str) -> None:
    document: Any = instances()
    parent = document
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = value
    write_coco(root, document)
    with pytest.raises(DatasetError, match=rf'instances_val2017\.json.*{words}'):
        CocoDetection(root=root, split='val', with_instances=True)


def test_a_file_cut_short_is_refused(root: Path) -> None:
    cut(root / 'annotations' / 'instances_val2017.json')
    with pytest.raises(DatasetError, match=r'instances_val2017\.json.*cut short.*annotations_trainval2017'):
        CocoDetection(root=root, split='val')


@pytest.mark.parametrize('text', ['[' * 100_000, '9' * 10_000, '\x00', '[]', '\ud800'])
def test_no_json_object_is_refused(root: Path, text: str) -> None:
    (root / 'annotations' / 'instances_val2017.json').write_bytes(text.encode(errors='surrogatepass'))
    with pytest.raises(DatasetError, match=r'instances_val2017\.json'):
        CocoDetection(root=root, split='val')


def read_all(kind: Any, root: Path, **options: Any) -> None:
    """Read everything; only a DatasetError that names the file may come of it."""
    message, samples = '', []
    try:
        dataset = kind(root=root, split='val', **options)
        samples = [dataset[index] for index in range(len(dataset))]
    except DatasetError as error:
        message = str(error)
    assert samples or str(root) in message
    for sample in samples:
        assert ((sample.boxes_xyxy >= 0) & (sample.boxes_xyxy <= 30)).all()
        assert (sample.class_ids < 90).all()


FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(document=json_values | damaged(instances()))
def test_anything_in_the_instances_file_is_read_or_refused(scratch: Path, document: Any) -> None:
    write_coco(scratch / 'fuzz', document)
    read_all(CocoDetection, scratch / 'fuzz', with_instances=True)
    read_all(Coco21, scratch / 'fuzz')


@FUZZ
@given(document=json_values | damaged(panoptic()))
def test_anything_in_the_panoptic_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, document: Any
) -> None:
    root = tmp_path_factory.getbasetemp() / 'panoptic_fuzz'
    if not root.exists():
        write_panoptic(root)
    write_coco(root, document, name='panoptic_val2017.json')
    read_all(CocoPanoptic, root, with_instances=True)


def test_deeply_nested_values_are_refused(root: Path) -> None:
    path = root / 'annotations' / 'instances_val2017.json'
    for depth in (500, 900, 980, 990):
        path.write_text('{"images": [{"id": ' + '[' * depth + ']' * depth + '}]}')
        with pytest.raises(DatasetError, match=r'instances_val2017\.json'):
            CocoDetection(root=root, split='val')
