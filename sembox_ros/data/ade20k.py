"""ADE20K scene parsing (Zhou et al. 2017) as ADEChallengeData2016.zip unpacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from sembox_ros import label_tables
from sembox_ros.data.files import check_option, first_of, list_folder, require_files
from sembox_ros.data.image_files import read_index_image, read_photo
from sembox_ros.data.sample import Sample
from sembox_ros.errors import DatasetError
from sembox_ros.labels import ADE20K_32, ADE20K_150, COCO_90, IGNORE_ID, load_scene_labels

# Split -> its folder.
SPLITS = {'train': 'training', 'val': 'validation'}
LABEL_SETS = (ADE20K_150.name, ADE20K_32.name)

_OFFICIAL_CLASSES = len(ADE20K_150)  # ids 1..150 in the files, 0 is 'other'
_HOW_TO_GET = (
    'Unpack ADEChallengeData2016.zip of the MIT scene parsing site; root is the folder that then holds '
    'ADEChallengeData2016/'
)


def _table(semantic: str) -> np.ndarray:
    """(256,) uint8: id in the files -> class id."""
    if semantic == ADE20K_32.name:
        table = np.zeros(256, np.uint8)
        table[: label_tables.ADE20K_FREQUENT + 1] = np.arange(label_tables.ADE20K_FREQUENT + 1)
        return table
    table = np.full(256, IGNORE_ID, np.uint8)
    table[1 : _OFFICIAL_CLASSES + 1] = np.arange(_OFFICIAL_CLASSES)
    return table


class Ade20k:
    """Indoor and outdoor photographs with a mask, without boxes.

    Args:
        root: folder that holds ADEChallengeData2016/, or what that holds.
        split: 'train' (20210 images) or 'val' (2000).
        semantic: 'ade20k_150', where 'other' is ignored, or 'ade20k_32', where everything but the 31 most frequent
            classes is class 0, 'background'.
        limit: use only the first so many images by name; 0 uses all.

    Attributes:
        labels: masks of `semantic`; the box label set is COCO_90, and nothing has boxes.
        image_ids: such as 'ADE_val_00000001', in order.

    Raises:
        ConfigError: unknown split or label set, or a negative limit.
        DatasetError: files are missing; says which and where they come from.
    """

    def __init__(self, *, root: str | Path, split: str = 'train', semantic: str = 'ade20k_150', limit: int = 0) -> None:
        check_option('split', split, SPLITS)
        check_option('semantic', semantic, LABEL_SETS)
        self.labels = load_scene_labels(f'{semantic}+{COCO_90.name}')
        self._table = _table(semantic)
        root = Path(root).expanduser()
        folder = root if (root / 'images').is_dir() else root / 'ADEChallengeData2016'
        self._images = folder / 'images' / SPLITS[split]
        self._annotations = folder / 'annotations' / SPLITS[split]
        names = [name.removesuffix('.jpg') for name in list_folder(self._images, '.jpg', _HOW_TO_GET)]
        self.image_ids: Sequence[str] = tuple(first_of(names, limit))
        require_files(self._annotations, (f'{name}.png' for name in self.image_ids), _HOW_TO_GET)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one image with its mask.

        Raises:
            DatasetError: a file is missing, damaged or does not fit the other; says which.
        """
        name = self.image_ids[index]
        image = read_photo(self._images / f'{name}.jpg')
        path = self._annotations / f'{name}.png'
        ids = read_index_image(path, image.shape[:2])
        if ids.max() > _OFFICIAL_CLASSES:
            raise DatasetError(f'{path}: expected ids 0..{_OFFICIAL_CLASSES}, got {ids.max()}')
        return Sample(image=image, image_id=name, semantic=cv2.LUT(ids, self._table))
