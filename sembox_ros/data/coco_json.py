"""COCO's annotation files, checked value by value and packed into a few arrays.

118287 images with 860001 objects as Python dicts take gigabytes, and every worker of a data loader would copy them as
soon as it touches them; as arrays they are small and shared.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from pycocotools import mask as coco_mask

from sembox_ros.data.files import first_of, read_json_object
from sembox_ros.data.image_files import MAX_PIXELS
from sembox_ros.errors import DatasetError

_LARGEST_NUMBER = 1e6  # pixels; nothing in an image is further out


class ImageEntry(NamedTuple):
    """One image of an annotation file."""

    image_id: int
    file_name: str
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Shapes:
    """Outlines of M objects: polygons, or run lengths of their masks.

    Attributes:
        values: (V,) float64; x0 y0 x1 y1 ... of one polygon after the other, or lengths of runs.
        ring_starts: (R + 1,) int64 where each polygon (or list of runs) starts in `values`.
        object_starts: (M + 1,) int64 where each object's polygons start in `ring_starts`.
        is_runs: (M,) bool; True for run lengths, which are the only ring of their object.
    """

    values: np.ndarray
    ring_starts: np.ndarray
    object_starts: np.ndarray
    is_runs: np.ndarray

    def mask(self, index: int, size_hw: tuple[int, int]) -> np.ndarray:
        """(H, W) bool mask of one object, as COCO's own tools draw it."""
        height, width = size_hw
        first, stop = self.object_starts[index], self.object_starts[index + 1]
        rings = [self.values[self.ring_starts[r] : self.ring_starts[r + 1]] for r in range(first, stop)]
        if not rings:
            return np.zeros(size_hw, bool)
        if self.is_runs[index]:
            lengths = rings[0].astype(np.int64)
            # Runs go down the columns, the first one outside of the object.
            pixels = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
            return pixels.reshape(width, height).T
        encoded = coco_mask.frPyObjects([ring.tolist() for ring in rings], height, width)
        return coco_mask.decode(coco_mask.merge(encoded)).astype(bool)


@dataclass(frozen=True)
class Instances:
    """The objects of all images, in the order of `images`.

    Attributes:
        images: sorted by their id.
        starts: (len(images) + 1,) int64; objects of image i are starts[i] up to starts[i + 1].
        boxes_xyxy: (M, 4) float32, within the image.
        class_ids: (M,) int64.
        is_crowd: (M,) bool.
        shapes: outlines of the M objects, or None.
    """

    images: tuple[ImageEntry, ...]
    starts: np.ndarray
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    is_crowd: np.ndarray
    shapes: Shapes | None

    def of_image(self, index: int) -> np.ndarray:
        """(N,) indices of one image's objects."""
        return np.arange(self.starts[index], self.starts[index + 1])


class _ShapeWriter:
    """Collects the outlines of objects one by one."""

    def __init__(self) -> None:
        self._values = array('d')
        self._ring_starts = array('q', [0])
        self._object_starts = array('q', [0])
        self._is_runs: list[bool] = []

    def add(self, segmentation: Any, size_hw: tuple[int, int], where: str) -> None:
        """Append one object's `segmentation`.

        Raises:
            DatasetError: it is neither a list of polygons nor the run lengths of a mask of the image's size.
        """
        if isinstance(segmentation, dict):
            rings: list[list[Any]] = [_run_lengths(segmentation, size_hw, where)]
        elif isinstance(segmentation, list):
            rings = [_polygon(ring, size_hw, where) for ring in segmentation]
            rings = [ring for ring in rings if len(ring) >= 6]  # two points enclose nothing
        else:
            raise DatasetError(f'{where}: segmentation: expected a list of polygons or run lengths')
        for ring in rings:
            self._values.extend(ring)
            self._ring_starts.append(len(self._values))
        self._object_starts.append(len(self._ring_starts) - 1)
        self._is_runs.append(isinstance(segmentation, dict))

    def finish(self) -> Shapes:
        return Shapes(
            np.array(self._values, np.float64),
            np.array(self._ring_starts, np.int64),
            np.array(self._object_starts, np.int64),
            np.array(self._is_runs, bool),
        )


def shown(value: Any) -> str:
    """A value for an error message, whatever its size."""
    return type(value).__name__ if isinstance(value, (list, dict)) else repr(value)[:60]


def is_number(value: Any) -> TypeGuard[float]:
    """True for a finite number that can be a coordinate."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER
    )


def is_id(value: Any) -> TypeGuard[int]:
    """True for a whole number that can be an id."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _polygon(ring: Any, size_hw: tuple[int, int], where: str) -> list[float]:
    """Coordinates of one polygon; none may be further outside the image than the image is large."""
    if not isinstance(ring, list) or len(ring) % 2 or not all(is_number(v) for v in ring):
        raise DatasetError(f'{where}: segmentation: expected polygons of numbers x0, y0, x1, y1, ...')
    # Far corners would make the drawing of one small file's polygons take any amount of memory.
    for values, size in ((ring[0::2], size_hw[1]), (ring[1::2], size_hw[0])):
        if values and not -size <= min(values) <= max(values) <= 2 * size:
            raise DatasetError(
                f'{where}: segmentation: expected corners near the image, got {min(values)}..{max(values)}'
            )
    return ring


def _run_lengths(segmentation: dict[str, Any], size_hw: tuple[int, int], where: str) -> list[int]:
    """Lengths of the runs of a mask, which cover the image exactly."""
    counts = segmentation.get('counts')
    if segmentation.get('size') != list(size_hw):
        raise DatasetError(
            f'{where}: segmentation: expected size {list(size_hw)}, got {shown(segmentation.get("size"))}'
        )
    if isinstance(counts, str):
        counts = _decode_runs(counts, where)
    if not isinstance(counts, list) or not all(is_id(v) for v in counts) or sum(counts) != size_hw[0] * size_hw[1]:
        raise DatasetError(f'{where}: segmentation: expected run lengths that cover {size_hw[0]}x{size_hw[1]} pixels')
    return counts


def _decode_runs(text: str, where: str) -> list[int]:
    """COCO's compressed run lengths: groups of 5 bits, lowest first; from the fourth on, differences.

    Done here because pycocotools' own decoder trusts its input.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            raise DatasetError(f'{where}: segmentation: expected compressed run lengths, got other characters')
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def rows_of(data: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """The list of objects under a key.

    Raises:
        DatasetError: there is no such list.
    """
    rows = data.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{path}: '{key}': expected a list of objects; is it a COCO annotation file?")
    return rows


def is_plain_name(name: Any) -> TypeGuard[str]:
    """True for the name of a file without any folder."""
    return isinstance(name, str) and 0 < len(name) < 256 and not set(name) & set('/\\\0') and not name.startswith('.')


def read_images(data: Mapping[str, Any], path: Path) -> list[ImageEntry]:
    """The images of an annotation file, sorted by their id.

    Raises:
        DatasetError: an entry is not what COCO's are, or an id occurs twice.
    """
    entries = {}
    for index, row in enumerate(rows_of(data, 'images', path)):
        image_id, name, height, width = (row.get(key) for key in ('id', 'file_name', 'height', 'width'))
        if not is_id(image_id) or image_id in entries:
            raise DatasetError(f"{path}: images[{index}]: expected an 'id' of its own, got {shown(image_id)}")
        if not is_plain_name(name):
            raise DatasetError(f"{path}: images[{index}]: expected 'file_name' without folders, got {shown(name)}")
        if not is_id(height) or not is_id(width) or not 0 < height * width <= MAX_PIXELS:
            raise DatasetError(
                f"{path}: images[{index}]: expected 'height' and 'width' of 1 to {MAX_PIXELS} pixels together, "
                f'got {shown(height)} and {shown(width)}'
            )
        entries[image_id] = ImageEntry(image_id, name, (height, width))
    if not entries:
        raise DatasetError(f"{path}: 'images' is empty")
    return [entries[image_id] for image_id in sorted(entries)]


def check_categories(data: Mapping[str, Any], path: Path, names: Mapping[int, str]) -> None:
    """Check that category ids mean here what they mean in COCO.

    Raises:
        DatasetError: another name for an id: a file in COCO's format with classes of its own.
    """
    for row in rows_of(data, 'categories', path):
        category, name = row.get('id'), row.get('name')
        if not is_id(category) or names.get(category) != name:
            raise DatasetError(
                f'{path}: categories: {shown(category)} is {shown(name)} here, another class than in COCO; '
                'only the files of COCO itself can be read'
            )


def box_within(bbox: Any, size_hw: tuple[int, int], where: str) -> tuple[float, float, float, float]:
    """COCO's x, y, width, height as corners x0 y0 x1 y1, cut at the image's edges.

    Raises:
        DatasetError: not four numbers.
    """
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_number(v) for v in bbox):
        raise DatasetError(f"{where}: 'bbox': expected four numbers x, y, width, height, got {shown(bbox)}")
    x, y, width, height = bbox
    return max(x, 0.0), max(y, 0.0), min(x + width, float(size_hw[1])), min(y + height, float(size_hw[0]))


def crowd_flag(row: Mapping[str, Any], where: str) -> bool:
    """The `iscrowd` of an object; COCO writes 0 or 1.

    Raises:
        DatasetError: something else.
    """
    flag = row.get('iscrowd', 0)
    if not is_id(flag) or flag > 1:
        raise DatasetError(f"{where}: 'iscrowd': expected 0 or 1, got {shown(flag)}")
    return bool(flag)


def _in_image_order(
    rows: list[dict[str, Any]], all_images: list[ImageEntry], images: tuple[ImageEntry, ...], path: Path
) -> list[tuple[int, int]]:
    """(index of its image in `images`, index of its row) of each object in them, sorted."""
    known = {entry.image_id for entry in all_images}
    used = {entry.image_id: index for index, entry in enumerate(images)}
    order = []
    for index, row in enumerate(rows):
        image_id = row.get('image_id')
        if not is_id(image_id) or image_id not in known:
            raise DatasetError(
                f"{path}: annotations[{index}]: 'image_id' {shown(image_id)} is none of the file's images"
            )
        if image_id in used:
            order.append((used[image_id], index))
    return sorted(order)


def read_instances(
    path: Path,
    how_to_get: str,
    *,
    class_ids: Mapping[int, int],
    names: Mapping[int, str],
    with_shapes: bool,
    limit: int,
) -> Instances:
    """Read an instances_*.json file.

    Boxes without area are dropped; images without boxes are kept.

    Args:
        path: the file.
        how_to_get: remedy when it is missing or damaged.
        class_ids: category id -> class id.
        names: category id -> COCO's name of it.
        with_shapes: also keep the outlines.
        limit: how many images to keep, 0: all.

    Raises:
        DatasetError: missing, damaged, or not COCO's.
    """
    data = read_json_object(path, how_to_get)
    all_images = read_images(data, path)
    check_categories(data, path, names)
    rows = rows_of(data, 'annotations', path)
    images = tuple(first_of(all_images, limit))
    boxes, classes, crowds, owners = array('f'), array('q'), array('b'), array('q')
    shapes = _ShapeWriter() if with_shapes else None
    for owner, index in _in_image_order(rows, all_images, images, path):
        row, where = rows[index], f'{path}: annotations[{index}]'
        size_hw = images[owner].size_hw
        box = array('f', box_within(row.get('bbox'), size_hw, where))
        category = row.get('category_id')
        if not is_id(category) or category not in class_ids:
            raise DatasetError(f"{where}: 'category_id' {shown(category)} is no category of COCO")
        crowd = crowd_flag(row, where)
        if not (box[0] < box[2] and box[1] < box[3]):
            continue
        if shapes is not None:
            shapes.add(row.get('segmentation'), size_hw, where)
        boxes.extend(box)
        classes.append(class_ids[category])
        crowds.append(crowd)
        owners.append(owner)
    return Instances(
        images=images,
        starts=np.searchsorted(np.array(owners, np.int64), np.arange(len(images) + 1)),
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        class_ids=np.array(classes, np.int64),
        is_crowd=np.array(crowds, bool),
        shapes=shapes.finish() if shapes is not None else None,
    )
