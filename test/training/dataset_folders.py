"""Folders of a few rendered streets in the layouts of the datasets that configurations name, to train anything on."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from dataset_files import write_png
from PIL import Image

from sembox_ros.data.coco import CATEGORY_NAMES
from sembox_ros.data.streets import StreetFrame, render_street
from sembox_ros.data.streets.dataset import StreetSettings, make_image, street_seed

SIZE_HW = (96, 192)
COUNTS = {'train': 2, 'val': 1}
CATEGORIES = 11  # of COCO's, the first


@cache
def _frames(split: str) -> list[StreetFrame]:
    return [render_street(size_hw=SIZE_HW, seed=street_seed(0, split, index)) for index in range(COUNTS[split])]


def _write_photo(path: Path, frame: StreetFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame.image).save(path)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_cityscapes(root: Path) -> None:
    """With depth, flow and motion."""
    for split, count in COUNTS.items():
        for index in range(count):
            make_image(root, StreetSettings(seed=0, size_hw=SIZE_HW, geometry=True), split, index)


def write_ade20k(root: Path) -> None:
    """The streets' classes have the ids of the 19 most frequent."""
    for split, folder in (('train', 'training'), ('val', 'validation')):
        for index, frame in enumerate(_frames(split)):
            name = f'ADE_{split}_{index + 1:08d}'
            _write_photo(root / 'images' / folder / f'{name}.jpg', frame)
            write_png(root / 'annotations' / folder / f'{name}.png', frame.semantic + np.uint8(1))  # 255 becomes other


def write_coco(root: Path) -> None:
    """Each object is a rectangle, the categories take turns."""
    for split in COUNTS:
        images, objects = [], []
        for number, frame in enumerate(_frames(split), start=1):
            name = f'{number:012d}.jpg'
            _write_photo(root / f'{split}2017' / name, frame)
            images.append({'id': number, 'file_name': name, 'height': SIZE_HW[0], 'width': SIZE_HW[1]})
            for x0, y0, x1, y1 in frame.boxes_xyxy.tolist():
                objects.append(
                    {
                        'id': len(objects) + 1, 'image_id': number, 'category_id': len(objects) % CATEGORIES + 1,
                        'iscrowd': 0, 'bbox': [x0, y0, x1 - x0, y1 - y0],
                        'segmentation': [[x0, y0, x1, y0, x1, y1, x0, y1]],
                    }
                )  # fmt: skip
        categories = [{'id': number, 'name': CATEGORY_NAMES[number]} for number in range(1, CATEGORIES + 1)]
        document = {'images': images, 'annotations': objects, 'categories': categories}
        _write_text(root / 'annotations' / f'instances_{split}2017.json', json.dumps(document))


def write_voc(root: Path) -> None:
    """The streets' class ids are taken for VOC's; no boxes."""
    for split, listed, masks in (('train', 'trainaug', 'SegmentationClassAug'), ('val', 'val', 'SegmentationClass')):
        names = [f'{2007 + (split == "val")}_{index:06d}' for index in range(COUNTS[split])]
        for name, frame in zip(names, _frames(split), strict=True):
            _write_photo(root / 'JPEGImages' / f'{name}.jpg', frame)
            write_png(root / masks / f'{name}.png', frame.semantic)
            _write_text(root / 'Annotations' / f'{name}.xml', '<annotation/>')
        _write_text(root / 'ImageSets' / 'Segmentation' / f'{listed}.txt', '\n'.join(names))


WRITERS: dict[str, Callable[[Path], None]] = {
    'ade20k': write_ade20k,
    'cityscapes': write_cityscapes,
    'coco_21': write_coco,
    'voc': write_voc,
}
