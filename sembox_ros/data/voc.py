"""PASCAL VOC 2012 (Everingham et al.) segmentation, with or without the additional masks of SBD (Hariharan et al.)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from sembox_ros.data.files import check_option, first_of, read_text, require_files
from sembox_ros.data.image_files import read_index_image, read_photo
from sembox_ros.data.sample import Sample
from sembox_ros.errors import DatasetError
from sembox_ros.labels import IGNORE_ID, VOC_21, load_scene_labels

# Split -> folder of its masks.
SPLITS = {
    'train': 'SegmentationClass',
    'val': 'SegmentationClass',
    'trainval': 'SegmentationClass',
    'trainaug': 'SegmentationClassAug',
}
BOX_LABELS = ('voc_20', 'coco_90', 'coco_80')

_MAX_TEXT_BYTES = 1 << 20  # lists and annotations have some kilobytes
_IMAGE_ID = re.compile(r'\d{4}_\d{6}')


def _how_to_get(split: str) -> str:
    text = 'Unpack VOCtrainval_11-May-2012.tar of the PASCAL VOC site; root is the folder that then holds VOCdevkit/'
    if split != 'trainaug':
        return text
    return text + (
        "; beside SegmentationClass put SegmentationClassAug/ (SBD's masks as PNG files, widely shared as "
        'SegmentationClassAug.zip) and into ImageSets/Segmentation the list trainaug.txt'
    )


def parse_annotation(data: bytes, path: Path) -> Element:
    """The root element of an annotation file.

    Document type declarations are refused: entities declared there could expand to any size or name other files.

    Raises:
        DatasetError: not well-formed, or with a document type.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise DatasetError(f'{path}: expected plain XML, got a document type declaration')

    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise DatasetError(f'{path}: is not well-formed XML, it may be cut short: {error}') from error


def _corner(box: Element, name: str, path: Path) -> float:
    """One coordinate of a bndbox; some of the official files have fractions."""
    try:
        value = float(box.findtext(name, ''))
    except ValueError:
        value = math.nan
    if not -1e6 < value < 1e6:
        raise DatasetError(f'{path}: object: expected a number as {name}, got {box.findtext(name)!r:.40}')
    return value


class Voc:
    """PASCAL VOC 2012 images with a mask of 21 classes and the boxes of their annotations.

    Objects marked difficult get `is_crowd`: they count neither as found nor as missed. The border of objects, 255 in
    the masks, is ignored.

    Args:
        root: folder that holds VOCdevkit/, or VOC2012/, or what that holds.
        split: 'train', 'val', 'trainval', or 'trainaug' (SBD's masks: 10582 images, none of them in val).
        detection: label set of the boxes: 'voc_20', or 'coco_90' or 'coco_80', which know all 20 under their own names.
        limit: use only the first so many images of the list; 0 uses all.

    Attributes:
        labels: masks of VOC_21, boxes of `detection`.
        image_ids: such as '2007_000032', in the order of the list.

    Raises:
        ConfigError: unknown split or label set, or a negative limit.
        DatasetError: files are missing or damaged; says which and where they come from.
    """

    def __init__(self, *, root: str | Path, split: str = 'train', detection: str = 'voc_20', limit: int = 0) -> None:
        check_option('split', split, SPLITS)
        check_option('detection', detection, BOX_LABELS)
        self.labels = load_scene_labels(f'{VOC_21.name}+{detection}')
        self._class_ids = {VOC_21.names[mask]: box for box, mask in self.labels.thing_links.items()}
        root = Path(root).expanduser()
        candidates = (root / 'VOCdevkit' / 'VOC2012', root / 'VOC2012', root)
        self._folder = next((path for path in candidates if (path / 'ImageSets').is_dir()), candidates[0])
        self._masks = self._folder / SPLITS[split]
        self.image_ids: Sequence[str] = first_of(self._read_list(split), limit)
        for folder, suffix in (
            (self._folder / 'JPEGImages', '.jpg'),
            (self._folder / 'Annotations', '.xml'),
            (self._masks, '.png'),
        ):
            require_files(folder, (name + suffix for name in self.image_ids), _how_to_get(split))

    def _read_list(self, split: str) -> tuple[str, ...]:
        path = self._folder / 'ImageSets' / 'Segmentation' / f'{split}.txt'
        names = tuple(read_text(path, _how_to_get(split), max_bytes=_MAX_TEXT_BYTES).split())
        for name in names:
            if not _IMAGE_ID.fullmatch(name):
                raise DatasetError(f'{path}: expected one image id such as 2007_000032 per line, got {name[:80]!r}')
        if not names or len(set(names)) != len(names):
            raise DatasetError(f'{path}: expected a list of image ids, each once, got {len(names)} lines')
        return names

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its mask and boxes.

        Raises:
            DatasetError: a file is missing, damaged or does not fit the others; says which.
        """
        name = self.image_ids[index]
        image = read_photo(self._folder / 'JPEGImages' / f'{name}.jpg')
        mask_path = self._masks / f'{name}.png'
        semantic = read_index_image(mask_path, image.shape[:2])
        strange = semantic[(semantic >= len(VOC_21)) & (semantic != IGNORE_ID)]
        if strange.size:
            raise DatasetError(f'{mask_path}: expected ids 0..{len(VOC_21) - 1} and {IGNORE_ID}, got {strange[0]}')
        boxes, class_ids, difficult = self._read_boxes(name, image.shape[:2])
        return Sample(
            image=image,
            image_id=name,
            semantic=semantic,
            boxes_xyxy=boxes,
            class_ids=class_ids,
            is_crowd=difficult,
        )

    def _read_boxes(self, name: str, size_hw: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4) float32, class ids (N,) int64 and difficult flags (N,) bool of an image."""
        path = self._folder / 'Annotations' / f'{name}.xml'
        root = parse_annotation(read_text(path, '', max_bytes=_MAX_TEXT_BYTES).encode(), path)
        boxes, class_ids, difficult = [], [], []
        for item in root.findall('object'):
            kind, box = (item.findtext('name') or '').strip(), item.find('bndbox')
            if kind not in self._class_ids:
                raise DatasetError(f'{path}: object: {kind[:40]!r} is no class of PASCAL VOC')
            if box is None:
                raise DatasetError(f'{path}: object {kind}: expected a bndbox, found none')
            # Pixels are counted from 1 there and the last one belongs to the box.
            x0, y0 = (max(_corner(box, corner, path) - 1, 0.0) for corner in ('xmin', 'ymin'))
            x1 = min(_corner(box, 'xmax', path), float(size_hw[1]))
            y1 = min(_corner(box, 'ymax', path), float(size_hw[0]))
            if x0 < x1 and y0 < y1:
                boxes.append((x0, y0, x1, y1))
                class_ids.append(self._class_ids[kind])
                difficult.append((item.findtext('difficult') or '0').strip() == '1')
        return (
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(class_ids, np.int64),
            np.array(difficult, bool),
        )
