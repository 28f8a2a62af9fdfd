"""COCO panoptic 2017 (Kirillov et al. 2019): every pixel in one of 133 classes, and boxes of the 80 countable ones."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros import label_tables
from sembox_ros.data.coco import BOX_LABELS, CATEGORY_NAMES, SPLITS, class_ids_of
from sembox_ros.data.coco_json import (
    ImageEntry,
    box_within,
    check_categories,
    crowd_flag,
    is_id,
    is_plain_name,
    read_images,
    rows_of,
    shown,
)
from sembox_ros.data.files import check_option, first_of, read_json_object, require_files
from sembox_ros.data.image_files import check_size, read_photo, read_rgb
from sembox_ros.data.sample import Sample
from sembox_ros.errors import DatasetError
from sembox_ros.labels import COCO_133, IGNORE_ID, load_scene_labels

_STUFF_NAMES = {category: name for category, name, _ in label_tables.COCO_PANOPTIC_STUFF}
_NO_BOX = -1
_LARGEST_SEGMENT = 0xFFFFFF  # ids are written as r + 256 g + 65536 b; 0 is unlabeled


def _semantic_ids() -> dict[int, int]:
    """Category id -> class id of COCO_133."""
    known = {name: category for category, name in CATEGORY_NAMES.items()}
    categories = [known[name] for name in COCO_133.names[: -len(_STUFF_NAMES)]] + list(_STUFF_NAMES)
    return {category: index for index, category in enumerate(categories)}


def _how_to_get(split: str) -> str:
    return (
        f'Unpack {split}2017.zip and panoptic_annotations_trainval2017.zip of the COCO site into one folder, and in '
        f'its annotations/ also panoptic_{split}2017.zip, which the second archive holds'
    )


@dataclass(frozen=True)
class _Segments:
    """The segments of all images: one row each; of image i, the rows starts[i] up to starts[i + 1].

    Attributes:
        starts: (images + 1,) int64.
        ids: (M,) int64, ascending within an image.
        semantic_ids: (M,) uint8.
        class_ids: (M,) int64; _NO_BOX for stuff.
        is_crowd: (M,) bool.
        boxes_xyxy: (M, 4) float32.
    """

    starts: np.ndarray
    ids: np.ndarray
    semantic_ids: np.ndarray
    class_ids: np.ndarray
    is_crowd: np.ndarray
    boxes_xyxy: np.ndarray


class _SegmentWriter:
    """Collects the segments image by image."""

    def __init__(self, class_ids: Mapping[int, int]) -> None:
        self._semantic, self._classes = _semantic_ids(), class_ids
        self._starts, self._ids, self._class_ids = array('q', [0]), array('q'), array('q')
        self._semantic_ids, self._crowds, self._boxes = array('B'), array('b'), array('f')

    def add(self, rows: list[dict[str, Any]], size_hw: tuple[int, int], where: str) -> None:
        """Append one image's `segments_info`.

        Raises:
            DatasetError: a segment is not what COCO's are, or an id occurs twice.
        """
        for row in rows:
            segment, category = row.get('id'), row.get('category_id')
            if not is_id(segment) or not 0 < segment <= _LARGEST_SEGMENT:
                raise DatasetError(f"{where}: segments_info: expected 'id' 1..{_LARGEST_SEGMENT}, got {shown(segment)}")
            if not is_id(category) or category not in self._semantic:
                raise DatasetError(f'{where}: segments_info: {shown(category)} is no category of COCO panoptic')
        if len({row['id'] for row in rows}) != len(rows):
            raise DatasetError(f'{where}: segments_info: two segments have one id')
        for row in sorted(rows, key=lambda row: row['id']):
            self._ids.append(row['id'])
            self._semantic_ids.append(self._semantic[row['category_id']])
            self._class_ids.append(self._classes.get(row['category_id'], _NO_BOX))
            self._crowds.append(crowd_flag(row, where))
            self._boxes.extend(box_within(row.get('bbox'), size_hw, where))
        self._starts.append(len(self._ids))

    def finish(self) -> _Segments:
        return _Segments(
            starts=np.array(self._starts, np.int64),
            ids=np.array(self._ids, np.int64),
            semantic_ids=np.array(self._semantic_ids, np.uint8),
            class_ids=np.array(self._class_ids, np.int64),
            is_crowd=np.array(self._crowds, bool),
            boxes_xyxy=np.array(self._boxes, np.float32).reshape(-1, 4),
        )


def _rows_by_image(data: Mapping[str, Any], path: Path) -> dict[int, tuple[str, list[dict[str, Any]]]]:
    """Image id -> name of its label file and its segments."""
    found: dict[int, tuple[str, list[dict[str, Any]]]] = {}
    for index, row in enumerate(rows_of(data, 'annotations', path)):
        image_id, name, where = row.get('image_id'), row.get('file_name'), f'{path}: annotations[{index}]'
        if not is_id(image_id) or image_id in found:
            raise DatasetError(f"{where}: expected an 'image_id' of its own, got {shown(image_id)}")
        if not is_plain_name(name):
            raise DatasetError(f"{where}: expected 'file_name' without folders, got {shown(name)}")
        segments = row.get('segments_info')
        if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
            raise DatasetError(f"{where}: 'segments_info': expected a list of objects")
        found[image_id] = name, segments
    return found


class CocoPanoptic:
    """COCO images with a mask of 133 classes, and boxes (and pixels) of the things.

    Args:
        root: folder that holds annotations/, train2017/ and val2017/.
        split: 'train' or 'val'.
        detection: label set of the boxes: 'coco_90' (category id less one) or 'coco_80' (contiguous).
        with_instances: also give `Sample.instances`.
        limit: use only the first so many images by id; 0 uses all.

    Attributes:
        labels: masks of COCO_133, boxes of `detection`.
        image_ids: such as '000000000139', in order.

    Raises:
        ConfigError: unknown split or label set, or a negative limit.
        DatasetError: files are missing, damaged or not COCO's; says which and where they come from.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str = 'train',
        detection: str = 'coco_90',
        with_instances: bool = False,
        limit: int = 0,
    ) -> None:
        check_option('split', split, SPLITS)
        check_option('detection', detection, BOX_LABELS)
        self.labels = load_scene_labels(f'{COCO_133.name}+{detection}')
        self._with_instances = with_instances
        root = Path(root).expanduser()
        self._images_folder = root / f'{split}2017'
        self._labels_folder = root / 'annotations' / f'panoptic_{split}2017'
        path = root / 'annotations' / f'panoptic_{split}2017.json'
        self._images, self._label_names, self._segments = self._read(path, _how_to_get(split), limit)
        require_files(self._images_folder, (entry.file_name for entry in self._images), _how_to_get(split))
        require_files(self._labels_folder, self._label_names, _how_to_get(split))
        self.image_ids: Sequence[str] = tuple(Path(entry.file_name).stem for entry in self._images)

    def _read(
        self, path: Path, how_to_get: str, limit: int
    ) -> tuple[tuple[ImageEntry, ...], tuple[str, ...], _Segments]:
        data = read_json_object(path, how_to_get)
        images = tuple(first_of(read_images(data, path), limit))
        check_categories(data, path, {**CATEGORY_NAMES, **_STUFF_NAMES})
        rows = _rows_by_image(data, path)
        names, writer = [], _SegmentWriter(class_ids_of(self.labels.detection))
        for entry in images:
            if entry.image_id not in rows:
                raise DatasetError(f"{path}: 'annotations': image {entry.image_id} has none")
            name, segments = rows[entry.image_id]
            writer.add(segments, entry.size_hw, f'{path}: image {entry.image_id}')
            names.append(name)
        return images, tuple(names), writer.finish()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its mask and boxes.

        Raises:
            DatasetError: a file is missing, damaged or does not fit the annotations; says which.
        """
        index = range(len(self))[index]
        entry, label_path = self._images[index], self._labels_folder / self._label_names[index]
        image = read_photo(self._images_folder / entry.file_name)
        check_size(self._images_folder / entry.file_name, image.shape[:2], entry.size_hw)
        colors = read_rgb(label_path).astype(np.int32)
        check_size(label_path, colors.shape[:2], entry.size_hw)
        rows = np.arange(self._segments.starts[index], self._segments.starts[index + 1])
        # Position of each pixel's segment among the image's, 0 being unlabeled.
        ids = np.concatenate(([0], self._segments.ids[rows])).astype(np.int32)
        segment_ids = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
        positions = np.searchsorted(ids, segment_ids).clip(max=len(ids) - 1)
        unknown = ids[positions] != segment_ids
        if unknown.any():
            raise DatasetError(f'{label_path}: segment {segment_ids[unknown][0]} is not in the annotation file')
        boxes = self._segments.boxes_xyxy[rows]
        boxed = (self._segments.class_ids[rows] != _NO_BOX) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        numbers = np.zeros(len(ids), np.uint16)
        numbers[1:][boxed] = np.arange(1, np.count_nonzero(boxed) + 1)
        return Sample(
            image=image,
            image_id=self.image_ids[index],
            semantic=np.concatenate(([IGNORE_ID], self._segments.semantic_ids[rows])).astype(np.uint8)[positions],
            boxes_xyxy=boxes[boxed],
            class_ids=self._segments.class_ids[rows][boxed],
            is_crowd=self._segments.is_crowd[rows][boxed],
            instances=numbers[positions] if self._with_instances else None,
        )
