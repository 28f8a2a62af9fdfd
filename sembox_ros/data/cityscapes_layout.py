"""Writes labelled images in the folder layout and the encodings of Cityscapes, which its own tools read unchanged.

Facts of the layout follow the public cityscapesScripts (github.com/mcordts/cityscapesScripts): file names, label ids,
instance ids (`label id * 1000 + number` for things), colours, and polygons that are painted one over the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sembox_ros.atomic import write_whole
from sembox_ros.data.geometry_files import GEOMETRY_FILES, camera_file, encode_disparity, encode_flow
from sembox_ros.errors import DatasetError
from sembox_ros.label_ids import LABEL_IDS, label_id_table
from sembox_ros.labels import CITYSCAPES_19, IGNORE_ID

UNLABELED_ID = 0
EGO_VEHICLE_ID = 1
MAX_INSTANCES = 1000  # per class and image; more do not fit the encoding

_NAMES = {label_id: CITYSCAPES_19.names[train_id] for train_id, label_id in enumerate(LABEL_IDS)} | {
    UNLABELED_ID: 'unlabeled',
    EGO_VEHICLE_ID: 'ego vehicle',
}
_THING_IDS = {label_id for train_id, label_id in enumerate(LABEL_IDS) if CITYSCAPES_19.is_thing[train_id]}
_LEAST_STUFF_AREA = 2.0  # smaller specks of stuff get no polygon; what surrounds them covers them
# Filtering by the row above and run lengths: far faster than the defaults, and hardly larger.
_PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
if hasattr(cv2, 'IMWRITE_PNG_FILTER'):  # since OpenCV 4.12
    _PNG_OPTIONS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]

BASELINE_M = 0.21  # about that of the cameras of Cityscapes

Parts = list[np.ndarray]  # outlines of one object, (n, 2) int32 xy each


def _color_table() -> np.ndarray:
    table = np.zeros((256, 4), np.uint8)
    table[..., 3] = 255
    table[:, :3] = CITYSCAPES_19.color_table()
    return np.ascontiguousarray(table[:, (2, 1, 0, 3)])  # OpenCV writes blue first


_TO_LABEL_ID, _TO_BGRA = label_id_table(CITYSCAPES_19), _color_table()


@dataclass(frozen=True)
class FrameName:
    """Where one labelled image belongs.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        city: folder and start of the file name, without underscores.
        sequence: 0..999999.
        frame: 0..999999.
    """

    split: str
    city: str
    sequence: int
    frame: int = 0

    def paths(self, root: Path, *, geometry: bool = False) -> dict[str, Path]:
        """All files of this image: the image under ``leftImg8bit``, its labels under their suffix in the file name.

        Args:
            root: folder of the dataset.
            geometry: also those of depth, flow and motion, under the name of their folder.
        """
        stem = f'{self.city}_{self.sequence:06d}_{self.frame:06d}'
        labels = root / 'gtFine' / self.split / self.city
        names = ('labelIds.png', 'instanceIds.png', 'labelTrainIds.png', 'color.png', 'polygons.json')
        files = {name: labels / f'{stem}_gtFine_{name}' for name in names}
        for folder, suffix in GEOMETRY_FILES.items() if geometry else ():
            files[folder] = root / folder / self.split / self.city / f'{stem}_{folder}.{suffix}'
        # The image comes last, here and when the files are written: where there is an image, there are its labels.
        files['leftImg8bit'] = root / 'leftImg8bit' / self.split / self.city / f'{stem}_leftImg8bit.png'
        return files


@dataclass(frozen=True)
class CityscapesLabels:
    """The label files of one image.

    Attributes:
        label_ids: (H, W) uint8 label ids; 0 unlabeled, 1 ego vehicle.
        instance_ids: (H, W) uint16 label id * 1000 + number for things, the label id otherwise. Instances of a class
            are numbered in the order of their polygons.
        train_ids: (H, W) uint8 0..18, 255 for what is not one of the 19 classes.
        polygons: content of the polygons file, painted one over the other.
    """

    label_ids: np.ndarray
    instance_ids: np.ndarray
    train_ids: np.ndarray
    polygons: dict[str, Any]


def _name(label_id: int, track: int) -> str:
    """Name of a polygon's class, with the ending that marks things that are not told apart."""
    is_group = not track and label_id in _THING_IDS
    return _NAMES[label_id] + ('group' if is_group else '')


def encode_labels(semantic: np.ndarray, instance: np.ndarray, ego: np.ndarray) -> CityscapesLabels:
    """Encode the labels of one image.

    Args:
        semantic: (H, W) uint8 train ids, 255 = unlabeled.
        instance: (H, W) int32 distinct numbers above 0 for the pixels of each thing, 0 elsewhere; pixels of a countable
            class that have 0 belong to a group.
        ego: (H, W) bool, the camera's own car; it must be unlabeled in `semantic`.

    Raises:
        DatasetError: a class has more than 1000 instances, or an instance has no or several classes.
    """
    label_ids = np.take(_TO_LABEL_ID, semantic)
    label_ids[ego] = EGO_VEHICLE_ID
    instance_ids = label_ids.astype(np.uint16)
    objects: list[tuple[float, int, int, Parts]] = []  # covered area, label id, instance or 0, outlines
    stuff = np.where(instance > 0, np.uint8(IGNORE_ID), label_ids)
    for label_id in np.flatnonzero(np.bincount(stuff.ravel(), minlength=256)[:IGNORE_ID]).tolist():
        for part in _outlines((stuff == label_id).view(np.uint8)):
            area = cv2.contourArea(part) + len(part) / 2
            if area >= _LEAST_STUFF_AREA:
                objects.append((area, label_id, 0, [part]))
    windows = _windows(instance)
    for track, window in windows.items():
        mask = instance[window] == track
        classes = np.unique(label_ids[window][mask])
        if len(classes) != 1 or classes[0] < LABEL_IDS[CITYSCAPES_19.is_thing.index(True)]:
            raise DatasetError(f'instance {track}: expected one thing class, got label ids {classes.tolist()}')
        parts = _outlines(mask.view(np.uint8), offset=(window[1].start, window[0].start))
        area = sum(cv2.contourArea(part) + len(part) / 2 for part in parts)
        objects.append((area, int(classes[0]), track, parts))
    # Large to small: whatever shows through a hole of an object is smaller than that object, and painted later.
    objects.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    counts: dict[int, int] = {}
    for _, label_id, track, _ in objects:
        if track:
            number = counts.get(label_id, 0)
            if number >= MAX_INSTANCES:
                raise DatasetError(f"'{_NAMES[label_id]}': more than {MAX_INSTANCES} instances in one image")
            counts[label_id] = number + 1
            window = windows[track]
            instance_ids[window][instance[window] == track] = label_id * 1000 + number
    painted = [{'label': _name(label_id, track), 'polygon': _join(parts)} for _, label_id, track, parts in objects]
    polygons = {'imgHeight': semantic.shape[0], 'imgWidth': semantic.shape[1], 'objects': painted}
    return CityscapesLabels(label_ids, instance_ids, semantic, polygons)


def _windows(instance: np.ndarray) -> dict[int, tuple[slice, slice]]:
    """Rows and columns that each instance reaches."""
    ys, xs = np.nonzero(instance)
    tracks, index = np.unique(instance[ys, xs], return_inverse=True)
    low, high = np.full((2, len(tracks)), np.iinfo(np.int64).max), np.zeros((2, len(tracks)), np.int64)
    for axis, places in enumerate((ys, xs)):
        np.minimum.at(low[axis], index, places)
        np.maximum.at(high[axis], index, places + 1)
    return {
        int(track): (slice(int(low[0, i]), int(high[0, i])), slice(int(low[1, i]), int(high[1, i])))
        for i, track in enumerate(tracks)
    }


def _outlines(mask: np.ndarray, offset: tuple[int, int] = (0, 0)) -> Parts:
    """Outer outlines of all pieces of a mask (h, w) uint8, those inside of holes too; the holes have none."""
    found, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
    return [part[:, 0] for part, links in zip(found, hierarchy[0], strict=True) if links[3] < 0]


def _join(parts: Parts) -> list[list[int]]:
    """One polygon of all pieces: out to each from the first point of the largest, around it, and back."""
    ordered = sorted(parts, key=len, reverse=True)
    start = ordered[0][:1]
    pieces = [ordered[0], start]
    for part in ordered[1:]:
        pieces += [part, part[:1], start]
    # One piece is closed by definition; points of one pixel are repeated, because a polygon needs three.
    points = np.concatenate(pieces) if len(ordered) > 1 else ordered[0]
    return points.tolist() if len(points) > 2 else np.repeat(points, 2, axis=0).tolist() * 2


@dataclass(frozen=True)
class CityscapesGeometry:
    """The files of one image that are not labels.

    Attributes:
        disparity: (H, W) uint16.
        camera: content of the camera file.
        flow: (H, W, 3) uint16 in KITTI's encoding; Cityscapes has none.
        motion: (H, W) uint8, 1 = moves in the world, 0 = does not, 255 = ignored; Cityscapes has none.
    """

    disparity: np.ndarray
    camera: dict[str, Any]
    flow: np.ndarray
    motion: np.ndarray


def encode_geometry(
    *, depth: np.ndarray, flow: np.ndarray, motion: np.ndarray, focal_px: float, principal_xy: tuple[float, float],
    height_m: float,
) -> CityscapesGeometry:  # fmt: skip
    """Encode depth, flow and motion of one image.

    Args:
        depth: (H, W) float32 metres along the optical axis, 0 = unknown.
        flow: (H, W, 2) float32 dx, dy in pixels.
        motion: (H, W) uint8 as in `CityscapesGeometry`.
        focal_px: focal length of the camera, pixels.
        principal_xy: its principal point, pixels.
        height_m: its height above the ground, metres.
    """
    camera = camera_file(focal_px=focal_px, principal_xy=principal_xy, baseline_m=BASELINE_M, height_m=height_m)
    return CityscapesGeometry(encode_disparity(depth, focal_px * BASELINE_M), camera, encode_flow(flow), motion)


def write_frame(
    root: Path, name: FrameName, image: np.ndarray, labels: CityscapesLabels, geometry: CityscapesGeometry | None = None
) -> None:
    """Write all files of one image; each appears whole or not at all, the image after all others.

    Args:
        root: folder of the dataset.
        name: where it belongs.
        image: (H, W, 3) uint8 rgb.
        labels: from `encode_labels`.
        geometry: from `encode_geometry`; its files are not written without it.

    Raises:
        DatasetError: a file cannot be written.
    """
    size_hw = labels.train_ids.shape
    pictures = {
        'labelIds.png': labels.label_ids,
        'instanceIds.png': labels.instance_ids,
        'labelTrainIds.png': labels.train_ids,
        'color.png': np.take(_TO_BGRA.view(np.uint32)[:, 0], labels.train_ids).view(np.uint8).reshape(*size_hw, 4),
        'leftImg8bit': cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
    }
    texts = {'polygons.json': labels.polygons}
    if geometry is not None:
        flow = cv2.cvtColor(geometry.flow, cv2.COLOR_RGB2BGR)
        pictures |= {'disparity': geometry.disparity, 'flow': flow, 'motion': geometry.motion}
        texts['camera'] = geometry.camera
    for kind, path in name.paths(root, geometry=geometry is not None).items():
        if kind in pictures:
            data = cv2.imencode('.png', pictures[kind], _PNG_OPTIONS)[1].tobytes()
        else:
            data = json.dumps(texts[kind]).encode()
        write_whole(path, data, DatasetError)
