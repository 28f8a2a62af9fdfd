"""Panoptic scenes as files: COCO's panoptic format, in which Cityscapes' evaluator wants them too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sembox_ros.atomic import write_whole
from sembox_ros.errors import InputError
from sembox_ros.label_ids import LABEL_IDS
from sembox_ros.label_tables import (
    CITYSCAPES_CATEGORIES,
    CITYSCAPES_CATEGORY_IDS,
    COCO_90_NAMES,
    COCO_PANOPTIC_STUFF,
)
from sembox_ros.labels import CITYSCAPES_19, COCO_80, COCO_133, LabelSet
from sembox_ros.panoptic import INSTANCES, list_segments
from sembox_ros.types import Detections

OBJECT_FACTOR = 1000  # segment id: category * 1000 + k for object k, the category alone for everything else
VOID_SEGMENT = 0  # segment id of pixels that belong to nothing


def category_ids(labels: LabelSet) -> tuple[int, ...]:
    """Class id -> category id of the dataset's own numbering; `VOID_SEGMENT` for a class void.

    Cityscapes has its labelIds and COCO its 1..90, or 1..200 with stuff; elsewhere it is the class id + 1, so that 0
    stays free.
    """
    official = dict(zip(CITYSCAPES_19.names, LABEL_IDS, strict=True))
    if labels.name in (COCO_80.name, COCO_133.name):
        official = {name: index + 1 for index, name in enumerate(COCO_90_NAMES)}
        official |= {name: category for category, name, _ in COCO_PANOPTIC_STUFF}
    elif not set(labels.names) <= {*official, 'void'}:
        official = {name: index + 1 for index, name in enumerate(labels.names)}
    return tuple(VOID_SEGMENT if name == 'void' else official[name] for name in labels.names)


class PanopticWriter:
    """Writes `folder`/`name`/*.png and at the end `folder`/`name`.json.

    A pixel of a PNG is R + 256 G + 65536 B: the category id for stuff and for a crowd, 1000 times that plus k for the
    k-th object of the category in the image, 0 for void. A segment of a thing class without a number is a crowd.

    Args:
        folder: where to write; made if need be.
        labels: the classes of the scenes.
        name: of the json file and of the folder of PNG files.
        use_train_id: give class ids as category ids, not the dataset's own numbers; segment ids stay the same.
    """

    def __init__(
        self, folder: Path, labels: LabelSet, *, name: str = 'panoptic', use_train_id: bool = False
    ) -> None:
        self._labels, self._json, self._pngs = labels, folder / f'{name}.json', folder / name
        self._numbers = category_ids(labels)
        self._written = tuple(range(len(labels))) if use_train_id else self._numbers
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(
        self, image_id: str, panoptic: np.ndarray, *, image_name: str | None = None, png_name: str | None = None
    ) -> None:
        """Write one image's PNG.

        Args:
            image_id: its name, each at most once; digits alone become a number, as COCO's are.
            panoptic: (H, W) int32 panoptic ids (see `sembox_ros.panoptic`).
            image_name: name of the image's file; IMAGE_ID.png if None.
            png_name: name of the file to write; IMAGE_ID_panoptic.png if None.

        Raises:
            InputError: the ids are none of the label set, a class has too many objects, `png_name` is none for a file,
                or it cannot be written.
        """
        png_name = f'{image_id}_panoptic.png' if png_name is None else png_name
        if Path(png_name).name != png_name:
            raise InputError(f"{image_id}: expected an image id that makes a file name, got '{png_name}'")
        segments = list_segments(panoptic, Detections.empty())
        numbers = self._segment_numbers(image_id, segments.ids)
        # Pixels of no segment, which are void, find the one at the end.
        known, written = np.append(segments.ids, -1), np.append(numbers, VOID_SEGMENT).astype(np.int32)
        positions = np.searchsorted(segments.ids, panoptic)
        _write_ids(self._pngs / png_name, np.where(known[positions] == panoptic, written[positions], VOID_SEGMENT))
        infos = []
        boxes = segments.boxes_xyxy.astype(int).tolist()
        for number, segment, area, (x0, y0, x1, y1) in zip(
            numbers, segments.ids.tolist(), segments.areas.tolist(), boxes, strict=True
        ):
            if number == VOID_SEGMENT:
                continue
            class_id, instance = divmod(segment, INSTANCES)
            infos.append(
                {
                    'id': number,
                    'category_id': self._written[class_id],
                    'area': area,
                    'bbox': [x0, y0, x1 - x0, y1 - y0],
                    'iscrowd': int(self._labels.is_thing[class_id] and not instance),
                }
            )
        height, width = panoptic.shape
        key = int(image_id) if image_id.isdecimal() else image_id
        file_name = f'{image_id}.png' if image_name is None else image_name
        self._images.append({'id': key, 'file_name': file_name, 'height': height, 'width': width})
        self._annotations.append({'image_id': key, 'file_name': png_name, 'segments_info': infos})

    def finish(self) -> None:
        """Write the json file.

        Raises:
            InputError: it cannot be written.
        """
        content = {
            'images': self._images,
            'annotations': self._annotations,
            'categories': _categories(self._labels, self._numbers, self._written),
        }
        write_whole(self._json, json.dumps(content).encode(), InputError)

    def _segment_numbers(self, image_id: str, ids: np.ndarray) -> list[int]:
        """Number in the file of each panoptic id, (M,) int32 ascending."""
        counts: dict[int, int] = {}
        numbers = []
        for class_id, instance in zip((ids // INSTANCES).tolist(), (ids % INSTANCES).tolist(), strict=True):
            if class_id >= len(self._labels):
                raise InputError(
                    f"{image_id}: panoptic: expected classes 0..{len(self._labels) - 1} of '{self._labels.name}', "
                    f'got {class_id}'
                )
            number = self._numbers[class_id]
            if instance and number != VOID_SEGMENT:
                count = counts.get(class_id, 0)
                if count == OBJECT_FACTOR:
                    raise InputError(
                        f"{image_id}: expected at most {OBJECT_FACTOR} objects of '{self._labels.names[class_id]}'"
                    )
                counts[class_id] = count + 1
                number = number * OBJECT_FACTOR + count
            numbers.append(number)
        return numbers


def _categories(labels: LabelSet, numbers: tuple[int, ...], written: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = zip(numbers, written, labels.names, labels.palette, labels.is_thing, strict=True)
    group = _cityscapes_category if set(labels.names) <= {*CITYSCAPES_19.names, 'void'} else str
    return [
        {'id': category, 'name': name, 'color': list(color), 'supercategory': group(name), 'isthing': int(thing)}
        for number, category, name, color, thing in rows
        if number != VOID_SEGMENT
    ]


def _cityscapes_category(name: str) -> str:
    """Category of a class of CITYSCAPES_19; void for void."""
    if name not in CITYSCAPES_19.names:
        return name
    return CITYSCAPES_CATEGORIES[CITYSCAPES_CATEGORY_IDS[LABEL_IDS[CITYSCAPES_19.names.index(name)]]][0]


def _write_ids(path: Path, segments: np.ndarray) -> None:
    """A PNG file with R + 256 G + 65536 B the segment id."""
    blue_green_red = np.stack((segments >> 16, segments >> 8, segments), axis=2).astype(np.uint8)  # OpenCV's order
    write_whole(path, cv2.imencode('.png', blue_green_red)[1].tobytes(), InputError)
