"""Cityscapes (Cordts et al. 2016) as its archives unpack: leftImg8bit/ beside gtFine/ or gtCoarse/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from sembox_ros.data.files import check_option, first_of
from sembox_ros.data.geometry_files import GEOMETRY_FILES, read_depth, read_flow, read_motion
from sembox_ros.data.image_files import check_size, read_ids, read_rgb
from sembox_ros.data.sample import Sample
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.label_ids import NO_BOX, semantic_table, things_table
from sembox_ros.label_tables import CITYSCAPES_CATEGORY_IDS
from sembox_ros.labels import IGNORE_ID, SceneLabels, load_scene_labels
from sembox_ros.panoptic import tight_boxes
from sembox_ros.types import MAX_INSTANCE

# Split -> folder and file infix of its annotations.
SPLITS = {'train': 'gtFine', 'val': 'gtFine', 'test': 'gtFine', 'train_extra': 'gtCoarse'}

VOID_20 = 19  # the 20-class set trains what the others ignore as a class of its own
INSTANCE_FACTOR = 1000  # instanceIds: labelId * 1000 + k for object k, the labelId alone for everything else

_HOW_TO_GET = (
    'Unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (train_extra: leftImg8bit_trainextra.zip and '
    'gtCoarse.zip), which the Cityscapes site gives after registration, into one folder; or render a stand-in with '
    '`python -m sembox_ros streets --out FOLDER`'
)
_HOW_TO_GET_GEOMETRY = (
    'Unpack disparity_trainvaltest.zip and camera_trainvaltest.zip (train_extra: disparity_trainextra.zip and '
    'camera_trainextra.zip) of the Cityscapes site into the same folder, which has depth and neither flow nor motion; '
    'or render all of it with `python -m sembox_ros streets --geometry --out FOLDER`'
)


def _class_table(classes: int) -> np.ndarray:
    """(256,) uint8: labelId -> id of the semantic label set."""
    if classes == 8:
        return semantic_table(CITYSCAPES_CATEGORY_IDS)
    if classes == 7:
        return semantic_table([category - 1 if category else IGNORE_ID for category in CITYSCAPES_CATEGORY_IDS])
    table = semantic_table()
    if classes == 20:
        table[table == IGNORE_ID] = VOID_20
    return table


def _require_each(folder: Path, names: Sequence[str], suffix: str, how_to_get: str) -> None:
    """Check that for every 'city/image id' there is a file; one listing of each city.

    Raises:
        DatasetError: some are missing; names the first one and says how many.
    """
    present = {f'{path.parent.name}/{path.name}' for path in folder.glob(f'*/*_{suffix}')}
    missing = [name for name in (f'{name}_{suffix}' for name in names) if name not in present]
    if missing:
        kind = suffix.rpartition('.')[0].rpartition('_')[2]
        lacking = f'{len(missing)} of {len(names)} images lack their {kind}'
        raise DatasetError(f'{folder}/{missing[0]}: no such file; {lacking}. {how_to_get}')


class Cityscapes:
    """Street images with class ids of every pixel and boxes (and pixels) of the eight countable classes.

    A region of a countable class whose objects were not told apart (a group) becomes a box with `is_crowd`; the regions
    of one class, which all have one id, become a box each, as one around them all would cover what is between them.

    Args:
        root: folder that holds leftImg8bit and gtFine (or gtCoarse).
        split: 'train', 'val', 'test' (its labels are withheld: everything is ignored) or 'train_extra' (coarse).
        classes: semantic classes: 19; 20, which adds void; 8, the categories, of which 0 is void; or 7, without void.
        with_instances: also give `Sample.instances`, groups among them.
        with_depth: also give `Sample.depth`, of the files in disparity/ and camera/.
        with_flow: also give `Sample.flow`, of the files in flow/, which only rendered streets have.
        with_motion: also give `Sample.motion`, of the files in motion/, which only rendered streets have.
        limit: use only the first so many images by name; 0 uses all.

    Attributes:
        labels: semantic label set by `classes`, boxes of CITYSCAPES_THINGS_8.
        image_ids: such as 'aachen_000000_000019', in order.

    Raises:
        ConfigError: unknown split or number of classes, or a negative limit.
        DatasetError: files are missing; says which and where they come from.
    """

    def __init__(
        self, *, root: str | Path, split: str = 'train', classes: int = 19, with_instances: bool = False,
        with_depth: bool = False, with_flow: bool = False, with_motion: bool = False, limit: int = 0,
    ) -> None:  # fmt: skip
        check_option('split', split, SPLITS)
        if classes not in (19, 20, 8, 7):
            raise ConfigError(f'classes: expected 19, 20, 8 or 7, got {classes}')
        if not isinstance(root, (str, Path)) or not str(root):
            raise ConfigError(f'root: expected the folder of the dataset, got {root!r}')
        self.labels: SceneLabels = load_scene_labels(f'cityscapes_{classes}+cityscapes_things_8')
        self._with_instances = with_instances
        self._with_depth, self._with_flow, self._with_motion = with_depth, with_flow, with_motion
        self._semantic_table = _class_table(classes)
        self._box_table = things_table()
        self._root = Path(root).expanduser()
        self._split, self._truth = split, SPLITS[split]
        self._names = first_of(self._find(split), limit)
        self._files = [self._paths(split, name) for name in self._names]
        self.image_ids: Sequence[str] = tuple(name.rpartition('/')[2] for name in self._names)
        asked = {'disparity': with_depth, 'camera': with_depth, 'flow': with_flow, 'motion': with_motion}
        for folder in (folder for folder, is_asked in asked.items() if is_asked):
            suffix = f'{folder}.{GEOMETRY_FILES[folder]}'
            _require_each(self._root / folder / split, self._names, suffix, _HOW_TO_GET_GEOMETRY)

    def _find(self, split: str) -> list[str]:
        """'city/image id' of every image of the split, sorted; each has its two label files."""
        images = self._root / 'leftImg8bit' / split
        truth = self._root / self._truth / split
        for folder in (images, truth):
            if not folder.is_dir():
                raise DatasetError(f'{folder}: there is no such folder. {_HOW_TO_GET}')
        names = sorted(
            f'{path.parent.name}/{path.name.removesuffix("_leftImg8bit.png")}'
            for path in images.glob('*/*_leftImg8bit.png')
        )
        if not names:
            raise DatasetError(f'{images}: expected <city>/*_leftImg8bit.png, found none. {_HOW_TO_GET}')
        for kind in ('labelIds', 'instanceIds'):
            _require_each(truth, names, f'{self._truth}_{kind}.png', _HOW_TO_GET)
        return names

    def _paths(self, split: str, name: str) -> tuple[Path, Path, Path]:
        image = self._root / 'leftImg8bit' / split / f'{name}_leftImg8bit.png'
        truth = self._root / self._truth / split / f'{name}_{self._truth}_'
        return image, Path(f'{truth}labelIds.png'), Path(f'{truth}instanceIds.png')

    def _geometry_path(self, folder: str, index: int) -> Path:
        return self._root / folder / self._split / f'{self._names[index]}_{folder}.{GEOMETRY_FILES[folder]}'

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its labels.

        Raises:
            DatasetError: a file is missing, damaged or does not fit the others; says which.
        """
        image_path, label_path, instance_path = self._files[index]
        image = read_rgb(image_path)
        label_ids = read_ids(label_path, np.uint8)
        instance_ids = read_ids(instance_path, np.uint16)
        for path, ids in ((label_path, label_ids), (instance_path, instance_ids)):
            check_size(path, ids.shape, image.shape[:2])
        instances, class_ids, is_crowd = self._objects(instance_ids)
        if len(class_ids) > MAX_INSTANCE:
            raise DatasetError(
                f'{instance_path}: expected at most {MAX_INSTANCE} objects and regions of groups, got {len(class_ids)}'
            )
        instances = instances.astype(np.uint16)
        depth, flow, motion = self._geometry(index, image.shape[:2])
        return Sample(
            image=image,
            image_id=self.image_ids[index],
            semantic=cv2.LUT(label_ids, self._semantic_table),
            boxes_xyxy=tight_boxes(instances, len(class_ids)),
            class_ids=class_ids,
            is_crowd=is_crowd,
            instances=instances if self._with_instances else None,
            depth=depth,
            flow=flow,
            motion=motion,
        )

    def _geometry(
        self, index: int, size_hw: tuple[int, ...]
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """Depth, flow and motion of an image, each None unless asked for."""
        depth = flow = motion = None
        if self._with_depth:
            files = self._geometry_path('disparity', index), self._geometry_path('camera', index)
            depth = read_depth(*files, size_hw, _HOW_TO_GET_GEOMETRY)
        if self._with_flow:
            flow = read_flow(self._geometry_path('flow', index), size_hw)
        if self._with_motion:
            motion = read_motion(self._geometry_path('motion', index), size_hw)
        return depth, flow, motion

    def _objects(self, instance_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What has a box in (H, W) uint16 `instance_ids`: objects by ascending id, then the regions of groups.

        Returns:
            (H, W) int32 numbers 1..N of them, 0 = none; (N,) int64 detection class ids; (N,) bool, True for a region.
        """
        values = np.flatnonzero(np.bincount(instance_ids.ravel()))
        # 66 and above are no labels; 0, unlabeled, has no box either.
        alone = np.where(values < len(self._box_table), values, 0)
        class_ids = self._box_table[np.where(values < INSTANCE_FACTOR, alone, values // INSTANCE_FACTOR)]
        is_object = (values >= INSTANCE_FACTOR) & (class_ids != NO_BOX)
        found = [class_ids[is_object]]
        objects = last = int(is_object.sum())
        table = np.zeros(1 << 16, np.int32)
        table[values[is_object]] = np.arange(1, objects + 1)
        instances = table[instance_ids]
        for value, class_id in zip(values.tolist(), class_ids.tolist(), strict=True):
            if value < INSTANCE_FACTOR and class_id != NO_BOX:
                count, regions = cv2.connectedComponents((instance_ids == value).view(np.uint8), connectivity=8)
                inside = regions > 0
                instances[inside] = regions[inside] + last
                found.append(np.full(count - 1, class_id, np.int64))
                last += count - 1
        return instances, np.concatenate(found), np.arange(last) >= objects
