"""Any dataset with instances as COCO files: objects, and panoptic as Cityscapes' own createPanopticImgs writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from sembox_ros.atomic import write_whole
from sembox_ros.data.sample import Dataset, Sample
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.panoptic import compose_truth
from sembox_ros.panoptic_files import PanopticWriter, category_ids


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
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    write_whole(path, json.dumps(content).encode(), ConfigError)


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
        DatasetError: an image has no semantic labels or no instances.
        InputError: an image's id does not make a file name, or a file cannot be written.
    """
    if dataset.labels.semantic is None:
        raise DatasetError('panoptic export: expected a dataset with semantic labels, this one has boxes only')
    writer = PanopticWriter(folder, dataset.labels.semantic, name=name, use_train_id=use_train_id)
    for index in tqdm(range(len(dataset)), desc=name, unit='image', disable=None):
        sample = dataset[index]
        image_id = sample.image_id
        if sample.semantic is None:
            raise DatasetError(f'{image_id}: expected semantic labels, there are none')
        panoptic, _ = compose_truth(sample.semantic, *_objects(sample), dataset.labels)
        writer.add(image_id, panoptic, image_name=image_name(image_id), png_name=png_name(image_id))
    writer.finish()


def _objects(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Instances of a sample, and class ids and crowds of its boxes."""
    if sample.instances is None or sample.class_ids is None or sample.is_crowd is None:
        raise DatasetError(f'{sample.image_id}: expected instances, there are none; load the dataset with_instances')
    return sample.instances, sample.class_ids, sample.is_crowd
