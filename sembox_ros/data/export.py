"""Any dataset with instances as COCO files: objects, and panoptic as Cityscapes' own createPanopticImgs writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from sembox_ros.atomic import write_whole
from sembox_ros.data.sample import Dataset, Sample
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.label_tables import (
    CITYSCAPES_CATEGORIES,
    CITYSCAPES_CATEGORY_IDS,
    CITYSCAPES_TRAIN_IDS,
    COCO_90_NAMES,
)
from sembox_ros.labels import CITYSCAPES_19, COCO_80, IGNORE_ID, LabelSet

OBJECT_FACTOR = 1000  # segment id: category * 1000 + k for object k, the category alone for everything else
VOID = 0  # segment id of pixels that belong to nothing


def category_ids(labels: LabelSet) -> tuple[int, ...]:
    """Class id -> category id of the dataset's own numbering; `VOID` for a class void.

    Cityscapes has its labelIds and COCO its 1..90; elsewhere it is the class id + 1, so that 0 stays free.
    """
    official = {name: CITYSCAPES_TRAIN_IDS.index(index) for index, name in enumerate(CITYSCAPES_19.names)}
    if labels.name == COCO_80.name:
        official = {name: COCO_90_NAMES.index(name) + 1 for name in labels.names}
    elif not set(labels.names) <= {*official, 'void'}:
        official = {name: index + 1 for index, name in enumerate(labels.names)}
    return tuple(VOID if name == 'void' else official[name] for name in labels.names)


def write_coco(dataset: Dataset, path: Path, *, image_name: Callable[[str], str] = '{}.png'.format) -> None:
    """Write the objects as a COCO instances file, masks run-length encoded; shows its progress.

    An object without a pixel, which others hide, is left out.

    Args:
        dataset: with boxes and instances.
        path: json file to write.
        image_name: image id -> the image's file name for the json.

    Raises:
        DatasetError: an image has no instances.
        ConfigError: the file cannot be written.
    """
    detection = dataset.labels.detection
    numbers = category_ids(detection)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in tqdm(range(len(dataset)), desc=path.name, unit='image', disable=None):
        sample = dataset[index]
        height, width = sample.image.shape[:2]
        # pycocotools wants whole numbers as image ids.
        images.append({'id': index + 1, 'file_name': image_name(sample.image_id), 'height': height, 'width': width})
        instances, class_ids, is_crowd = _objects(sample)
        for number in np.unique(instances[instances > 0]).tolist():
            encoded = rle.encode(np.asfortranarray(instances == number, np.uint8))
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': index + 1,
                    'category_id': numbers[class_ids[number - 1]],
                    'segmentation': {'size': [height, width], 'counts': encoded['counts'].decode('ascii')},
                    'area': int(rle.area(encoded)),
                    'bbox': rle.toBbox(encoded).tolist(),
                    'iscrowd': int(is_crowd[number - 1]),
                }
            )
    categories = [{'id': number, 'name': name} for number, name in zip(numbers, detection.names, strict=True)]
    _write_json(path, {'images': images, 'annotations': annotations, 'categories': categories})


def write_panoptic(
    dataset: Dataset,
    folder: Path,
    *,
    name: str = 'panoptic',
    use_train_id: bool = False,
    image_name: Callable[[str], str] = '{}.png'.format,
    png_name: Callable[[str], str] = '{}_panoptic.png'.format,
) -> None:
    """Write `folder`/`name`.json and `folder`/`name`/*.png in COCO's panoptic format; shows its progress.

    A segment is an object, all pixels of a stuff class, or all pixels of a countable class outside its objects
    (a crowd). Its id is in the PNG as R + 256 G + 65536 B.

    Args:
        dataset: with semantic labels, boxes and instances.
        folder: where to write; made if need be.
        name: of the json file and of the folder of PNG files.
        use_train_id: give class ids as category ids, not the dataset's own numbers; segment ids stay the same.
        image_name: image id -> the image's file name for the json.
        png_name: image id -> the name of its PNG file.

    Raises:
        DatasetError: an image has no semantic labels or no instances, or its id does not make a file name.
        ConfigError: files cannot be written.
    """
    semantic = dataset.labels.semantic
    if semantic is None:
        raise DatasetError('panoptic export: expected a dataset with semantic labels, this one has boxes only')
    numbers = category_ids(semantic)
    written = dict(zip(numbers, range(len(semantic)) if use_train_id else numbers, strict=True))
    things = {number for number, thing in zip(numbers, semantic.is_thing, strict=True) if thing}
    pngs = folder / name
    try:
        pngs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'{pngs}: cannot be made: {error.strerror}') from error
    images, annotations = [], []
    for index in tqdm(range(len(dataset)), desc=name, unit='image', disable=None):
        sample = dataset[index]
        file_name = png_name(sample.image_id)
        if Path(file_name).name != file_name:
            raise DatasetError(f"{sample.image_id}: expected an image id that makes a file name, got '{file_name}'")
        segments = _segment_ids(sample, numbers, dataset.labels.thing_links)
        _write_ids(pngs / file_name, segments)
        height, width = segments.shape
        images.append(
            {'id': sample.image_id, 'file_name': image_name(sample.image_id), 'height': height, 'width': width}
        )
        infos = _segments_info(segments, written, things)
        annotations.append({'image_id': sample.image_id, 'file_name': file_name, 'segments_info': infos})
    categories = _panoptic_categories(semantic, numbers, written)
    _write_json(folder / f'{name}.json', {'images': images, 'annotations': annotations, 'categories': categories})


def _objects(sample: Sample) -> tuple[np.ndarray, list[int], list[bool]]:
    """Instances of a sample, and class ids and crowds of its boxes."""
    if sample.instances is None or sample.class_ids is None or sample.is_crowd is None:
        raise DatasetError(f'{sample.image_id}: expected instances, there are none; load the dataset with_instances')
    return sample.instances, sample.class_ids.tolist(), sample.is_crowd.tolist()


def _segment_ids(sample: Sample, numbers: Sequence[int], thing_links: Any) -> np.ndarray:
    """(H, W) int32: the segment that each pixel belongs to."""
    if sample.semantic is None:
        raise DatasetError(f'{sample.image_id}: expected semantic labels, there are none')
    table = np.full(IGNORE_ID + 1, VOID, np.int32)
    table[: len(numbers)] = numbers
    instances, class_ids, is_crowd = _objects(sample)
    objects = np.full(len(class_ids) + 1, VOID, np.int32)
    seen: dict[int, int] = {}
    for index, (class_id, crowd) in enumerate(zip(class_ids, is_crowd, strict=True), start=1):
        if crowd or class_id not in thing_links:
            continue  # stays with its class: a crowd, or stuff
        number = numbers[thing_links[class_id]]
        count = seen.get(number, 0)
        if count == OBJECT_FACTOR:
            raise DatasetError(f'{sample.image_id}: expected at most {OBJECT_FACTOR} objects of a class')
        objects[index] = number * OBJECT_FACTOR + count
        seen[number] = count + 1
    segments = objects[instances]
    return np.where(segments == VOID, table[sample.semantic], segments)


def _segments_info(segments: np.ndarray, written: dict[int, int], things: set[int]) -> list[dict[str, Any]]:
    infos = []
    areas = np.bincount(segments.ravel())
    for segment in np.flatnonzero(areas).tolist():
        if segment == VOID:
            continue
        number = segment if segment < OBJECT_FACTOR else segment // OBJECT_FACTOR
        infos.append(
            {
                'id': segment,
                'category_id': written[number],
                'area': int(areas[segment]),
                'bbox': list(cv2.boundingRect((segments == segment).view(np.uint8))),
                'iscrowd': int(segment < OBJECT_FACTOR and number in things),
            }
        )
    return infos


def _panoptic_categories(semantic: LabelSet, numbers: Sequence[int], written: dict[int, int]) -> list[dict[str, Any]]:
    rows = zip(numbers, semantic.names, semantic.palette, semantic.is_thing, strict=True)
    group = _cityscapes_category if set(semantic.names) <= {*CITYSCAPES_19.names, 'void'} else str
    return [
        {'id': written[number], 'name': name, 'color': list(color), 'supercategory': group(name), 'isthing': int(thing)}
        for number, name, color, thing in rows
        if number != VOID
    ]


def _cityscapes_category(name: str) -> str:
    """Category of a class of CITYSCAPES_19; void for void."""
    if name not in CITYSCAPES_19.names:
        return name
    label_id = CITYSCAPES_TRAIN_IDS.index(CITYSCAPES_19.names.index(name))
    return CITYSCAPES_CATEGORIES[CITYSCAPES_CATEGORY_IDS[label_id]][0]


def _write_ids(path: Path, segments: np.ndarray) -> None:
    """A PNG file with R + 256 G + 65536 B the segment id."""
    blue_green_red = np.stack((segments >> 16, segments >> 8, segments), axis=2).astype(np.uint8)  # OpenCV's order
    if not cv2.imwrite(str(path), blue_green_red):
        raise ConfigError(f'{path}: cannot be written')


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content).encode(), ConfigError)
