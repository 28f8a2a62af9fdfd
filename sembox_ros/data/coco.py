"""COCO 2017 (Lin et al. 2014): boxes, and a mask of PASCAL VOC's classes made of the outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sembox_ros.data.coco_json import ImageEntry, Instances, Shapes, read_instances
from sembox_ros.data.files import check_option, require_files
from sembox_ros.data.image_files import check_size, read_photo
from sembox_ros.data.sample import Sample
from sembox_ros.labels import COCO_90, IGNORE_ID, VOC_21, LabelSet, SceneLabels, load_label_set, load_scene_labels

SPLITS = ('train', 'val')
BOX_LABELS = ('coco_90', 'coco_80')

# COCO's category ids are 1 to 90, ten of them unused.
CATEGORY_NAMES = {index + 1: name for index, name in enumerate(COCO_90.names)}


def class_ids_of(detection: LabelSet) -> dict[int, int]:
    """Category id -> class id of `coco_90` or `coco_80`."""
    ids = {name: index for index, name in enumerate(detection.names)}
    return {category: ids[name] for category, name in CATEGORY_NAMES.items() if name in ids}


def how_to_get(split: str) -> str:
    """Where a split's files come from."""
    return (
        f'Unpack {split}2017.zip and annotations_trainval2017.zip of the COCO site into one folder, which then holds '
        f'{split}2017/ and annotations/'
    )


def _read_split(root: Path, split: str, detection: LabelSet, *, with_shapes: bool, limit: int) -> Instances:
    """The objects of a split; all of its images are there."""
    instances = read_instances(
        root / 'annotations' / f'instances_{split}2017.json',
        how_to_get(split),
        class_ids=class_ids_of(detection),
        names=CATEGORY_NAMES,
        with_shapes=with_shapes,
        limit=limit,
    )
    require_files(root / f'{split}2017', (entry.file_name for entry in instances.images), how_to_get(split))
    return instances


def _read_image(folder: Path, entry: ImageEntry) -> np.ndarray:
    """(H, W, 3) uint8 rgb of an image, of the size that the annotations give."""
    image = read_photo(folder / entry.file_name)
    check_size(folder / entry.file_name, image.shape[:2], entry.size_hw)
    return image


class CocoDetection:
    """COCO's boxes of 80 classes, and their pixels on demand.

    Outlines may overlap, a pixel has one owner: of two objects the smaller has it, and any object rather than a crowd.

    Args:
        root: folder that holds annotations/, train2017/ and val2017/.
        split: 'train' or 'val'.
        detection: label set of the boxes: 'coco_90' (category id less one) or 'coco_80' (contiguous).
        with_instances: also give `Sample.instances`.
        limit: use only the first so many images by id; 0 uses all.

    Attributes:
        labels: no semantic label set, boxes of `detection`.
        image_ids: such as '000000000139', in order; images without any object are among them.

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
        self.labels = SceneLabels(semantic=None, detection=load_label_set(detection))
        root = Path(root).expanduser()
        self._instances = _read_split(root, split, self.labels.detection, with_shapes=with_instances, limit=limit)
        self._folder = root / f'{split}2017'
        self.image_ids: Sequence[str] = tuple(Path(entry.file_name).stem for entry in self._instances.images)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its boxes.

        Raises:
            DatasetError: the image is missing, damaged or not of the size that the annotations give.
        """
        index = range(len(self))[index]
        objects = self._instances.of_image(index)
        # Before the outlines, for whose image the annotations only claim a size.
        image = _read_image(self._folder, self._instances.images[index])
        return Sample(
            image=image,
            image_id=self.image_ids[index],
            boxes_xyxy=self._instances.boxes_xyxy[objects],
            class_ids=self._instances.class_ids[objects],
            is_crowd=self._instances.is_crowd[objects],
            instances=None if self._instances.shapes is None else self._paint(self._instances.shapes, index),
        )

    def _paint(self, shapes: Shapes, index: int) -> np.ndarray:
        """(H, W) uint16: 1 and up for the objects of one image, the smaller ones over the larger, crowds below all."""
        size_hw, objects = self._instances.images[index].size_hw, self._instances.of_image(index)
        instances = np.zeros(size_hw, np.uint16)
        sizes = np.full(len(objects) + 1, np.inf)
        for number, item in enumerate(objects, start=1):
            mask = shapes.mask(item, size_hw)
            sizes[number] = np.count_nonzero(mask) + (mask.size if self._instances.is_crowd[item] else 0)
            before = instances[mask]
            instances[mask] = np.where(sizes[before] > sizes[number], number, before)
        return instances


class Coco21:
    """COCO images with a mask of PASCAL VOC's 20 classes and background, beside all of COCO's boxes.

    The 21 classes are those of torchvision's segmentation references and of TI's edgeailite: an object of a class that
    PASCAL VOC also has is drawn with its outline, everything else is background. A pixel that two objects claim is
    ignored, as there; so are crowds, which are background there.

    Args:
        root: folder that holds annotations/, train2017/ and val2017/.
        split: 'train' or 'val'.
        detection: label set of the boxes: 'coco_90' (category id less one) or 'coco_80' (contiguous).
        limit: use only the first so many images by id; 0 uses all.

    Attributes:
        labels: masks of VOC_21, boxes of `detection`.
        image_ids: such as '000000000139', in order; images without any object are among them.

    Raises:
        ConfigError: unknown split or label set, or a negative limit.
        DatasetError: files are missing, damaged or not COCO's; says which and where they come from.
    """

    def __init__(self, *, root: str | Path, split: str = 'train', detection: str = 'coco_90', limit: int = 0) -> None:
        check_option('split', split, SPLITS)
        check_option('detection', detection, BOX_LABELS)
        self.labels = load_scene_labels(f'{VOC_21.name}+{detection}')
        root = Path(root).expanduser()
        self._instances = _read_split(root, split, self.labels.detection, with_shapes=True, limit=limit)
        self._folder = root / f'{split}2017'
        self.image_ids: Sequence[str] = tuple(Path(entry.file_name).stem for entry in self._instances.images)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its mask and boxes.

        Raises:
            DatasetError: the image is missing, damaged or not of the size that the annotations give.
        """
        index = range(len(self))[index]
        objects = self._instances.of_image(index)
        image = _read_image(self._folder, self._instances.images[index])  # first, as above
        return Sample(
            image=image,
            image_id=self.image_ids[index],
            semantic=self._paint(index),
            boxes_xyxy=self._instances.boxes_xyxy[objects],
            class_ids=self._instances.class_ids[objects],
            is_crowd=self._instances.is_crowd[objects],
        )

    def _paint(self, index: int) -> np.ndarray:
        """(H, W) uint8 ids of VOC_21."""
        size_hw, shapes = self._instances.images[index].size_hw, self._instances.shapes
        assert shapes is not None
        semantic = np.zeros(size_hw, np.uint8)
        claimed = np.zeros(size_hw, bool)
        for item in self._instances.of_image(index):
            semantic_id = self.labels.thing_links.get(int(self._instances.class_ids[item]))
            if semantic_id is None:
                continue
            mask = shapes.mask(item, size_hw)
            semantic[mask] = IGNORE_ID if self._instances.is_crowd[item] else semantic_id
            semantic[mask & claimed] = IGNORE_ID
            claimed |= mask
        return semantic
