"""KITTI's semantic (Alhaija et al. 2018) and road (Fritsch et al. 2013) benchmarks.

Neither has a public validation split, so one is made of the training images: in the order of their names, every fifth
one, beginning with the first, is 'val', the others are 'train'.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from sembox_ros.data.files import check_option, first_of, list_folder, require_files
from sembox_ros.data.image_files import check_size, read_ids, read_rgb
from sembox_ros.data.sample import Sample
from sembox_ros.label_ids import NO_BOX, semantic_table, things_table
from sembox_ros.labels import (
    CITYSCAPES_THINGS_8,
    COCO_90,
    IGNORE_ID,
    KITTI_19,
    KITTI_LANE_2,
    KITTI_ROAD_2,
    load_scene_labels,
)
from sembox_ros.panoptic import tight_boxes

SPLITS = ('train', 'val', 'trainval')
AREAS = {'road': KITTI_ROAD_2, 'lane': KITTI_LANE_2}
VALIDATION_STEP = 5

_INSTANCE_FACTOR = 256  # instance files: label id * 256 + number of the object, from 1; 0: not told apart

_GET_SEMANTICS = (
    'Unpack data_semantics.zip (semantics benchmark on the KITTI site); root is the folder that then holds training/, '
    'or the one above it'
)
_GET_ROAD = (
    'Unpack data_road.zip ("base kit" of the road benchmark on the KITTI site); root is the folder that then holds '
    'training/, or the one above it'
)


def split_names(names: Sequence[str], split: str) -> list[str]:
    """Those of the sorted names that belong to a split."""
    if split == 'trainval':
        return list(names)
    return [name for index, name in enumerate(names) if (index % VALIDATION_STEP == 0) == (split == 'val')]


def _training_folder(root: str | Path, archive: str) -> Path:
    """The folder training/, in the root or in what the archive unpacks to."""
    root = Path(root).expanduser()
    return root / archive / 'training' if (root / archive).is_dir() else root / 'training'


class KittiSemantics:
    """KITTI street images with a mask in Cityscapes' classes, and boxes (and pixels) of the eight countable ones.

    A region of a countable class whose objects were not told apart becomes one box with `is_crowd`.

    Args:
        root: folder that holds training/ of data_semantics.zip.
        split: 'train' (160 images), 'val' (40) or 'trainval'; see the module about which are which.
        with_instances: also give `Sample.instances`, groups among them.
        limit: use only the first so many images by name; 0 uses all.

    Attributes:
        labels: masks of KITTI_19, boxes of CITYSCAPES_THINGS_8.
        image_ids: such as '000000_10', in order.

    Raises:
        ConfigError: unknown split, or a negative limit.
        DatasetError: files are missing; says which and where they come from.
    """

    def __init__(self, *, root: str | Path, split: str = 'train', with_instances: bool = False, limit: int = 0) -> None:
        check_option('split', split, SPLITS)
        self.labels = load_scene_labels(f'{KITTI_19.name}+{CITYSCAPES_THINGS_8.name}')
        self._with_instances = with_instances
        self._semantic_table, self._box_table = semantic_table(), things_table()
        self._folder = _training_folder(root, 'data_semantics')
        files = first_of(split_names(list_folder(self._folder / 'image_2', '.png', _GET_SEMANTICS), split), limit)
        for kind in ('semantic', 'instance'):
            require_files(self._folder / kind, files, _GET_SEMANTICS)
        self.image_ids: Sequence[str] = tuple(name.removesuffix('.png') for name in files)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its mask and boxes.

        Raises:
            DatasetError: a file is missing, damaged or does not fit the others; says which.
        """
        name = self.image_ids[index]
        paths = {kind: self._folder / kind / f'{name}.png' for kind in ('image_2', 'semantic', 'instance')}
        image = read_rgb(paths['image_2'])
        label_ids = read_ids(paths['semantic'], np.uint8)
        instance_ids = read_ids(paths['instance'], np.uint16)
        check_size(paths['semantic'], label_ids.shape, image.shape[:2])
        check_size(paths['instance'], instance_ids.shape, image.shape[:2])
        values = np.flatnonzero(np.bincount(instance_ids.ravel()))
        values = values[self._box_table[values // _INSTANCE_FACTOR] != NO_BOX]
        table = np.zeros(1 << 16, np.uint16)
        table[values] = np.arange(1, len(values) + 1)
        instances = table[instance_ids]
        return Sample(
            image=image,
            image_id=name,
            semantic=cv2.LUT(label_ids, self._semantic_table),
            boxes_xyxy=tight_boxes(instances, len(values)),
            class_ids=self._box_table[values // _INSTANCE_FACTOR],
            is_crowd=values % _INSTANCE_FACTOR == 0,
            instances=instances if self._with_instances else None,
        )


class KittiRoad:
    """KITTI street images with a mask of the road or of the ego lane, without boxes.

    Red marks what is judged, blue the road or lane; what is not red is ignored.

    Args:
        root: folder that holds training/ of data_road.zip, or data_road/ itself.
        split: 'train' (231 images; with the lane 76), 'val' (58; 19) or 'trainval'; see the module about which are
            which.
        area: 'road', or 'lane', which the images of marked roads ('um') have alone.
        limit: use only the first so many images by name; 0 uses all.

    Attributes:
        labels: masks of KITTI_ROAD_2 or KITTI_LANE_2; the box label set is COCO_90, and nothing has boxes.
        image_ids: such as 'um_000000', in order.

    Raises:
        ConfigError: unknown split or area, or a negative limit.
        DatasetError: files are missing; says which and where they come from.
    """

    def __init__(self, *, root: str | Path, split: str = 'train', area: str = 'road', limit: int = 0) -> None:
        check_option('split', split, SPLITS)
        check_option('area', area, AREAS)
        self.labels = load_scene_labels(f'{AREAS[area].name}+{COCO_90.name}')
        self._area = area
        self._folder = _training_folder(root, 'data_road')
        names = [name.removesuffix('.png') for name in list_folder(self._folder / 'image_2', '.png', _GET_ROAD)]
        if area == 'lane':
            names = [name for name in names if name.startswith('um_')]
        self.image_ids: Sequence[str] = tuple(first_of(split_names(names, split), limit))
        require_files(self._folder / 'gt_image_2', (self._truth(name).name for name in self.image_ids), _GET_ROAD)

    def _truth(self, image_id: str) -> Path:
        """um_000000 -> gt_image_2/um_road_000000.png."""
        scene, _, number = image_id.rpartition('_')
        return self._folder / 'gt_image_2' / f'{scene}_{self._area}_{number}.png'

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its mask.

        Raises:
            DatasetError: a file is missing, damaged or does not fit the other; says which.
        """
        name = self.image_ids[index]
        image = read_rgb(self._folder / 'image_2' / f'{name}.png')
        colors = read_rgb(self._truth(name))
        check_size(self._truth(name), colors.shape[:2], image.shape[:2])
        semantic = (colors[..., 2] > 0).astype(np.uint8)  # 1 is the road or the lane
        semantic[colors[..., 0] == 0] = IGNORE_ID
        return Sample(image=image, image_id=name, semantic=semantic)
