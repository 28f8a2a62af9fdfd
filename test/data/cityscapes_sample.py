"""A tiny dataset in the Cityscapes layout, with labels known by construction."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CITY = 'aachen'
SIZE_HW = (48, 96)
# Official label ids.
UNLABELED, STATIC, ROAD, PARKING, SKY, PERSON, RIDER, CAR, CARAVAN, BICYCLE = 0, 4, 7, 9, 23, 24, 25, 26, 29, 33


def street_labels() -> tuple[np.ndarray, np.ndarray]:
    """(H, W) uint8 label ids and uint16 instance ids: two cars, one person, a group of persons, a caravan."""
    label = np.full(SIZE_HW, ROAD, np.uint8)
    label[:20] = SKY
    label[40:, :10] = STATIC
    label[40:, 10:20] = PARKING
    label[:, 95] = UNLABELED
    instance = label.astype(np.uint16)
    for label_id, number, (x0, y0, x1, y1) in (
        (CAR, 0, (10, 15, 30, 35)),
        (CAR, 1, (25, 20, 50, 38)),  # in front of the first
        (PERSON, 0, (60, 10, 66, 30)),
        (PERSON, None, (70, 22, 90, 30)),
        (CARAVAN, 0, (52, 22, 58, 30)),
    ):
        label[y0:y1, x0:x1] = label_id
        instance[y0:y1, x0:x1] = label_id if number is None else label_id * 1000 + number
    return label, instance


def write_image(root: Path, image_id: str, label: np.ndarray, instance: np.ndarray, *, split: str = 'val') -> None:
    """One image of noise with its two label files."""
    truth = 'gtCoarse' if split == 'train_extra' else 'gtFine'
    city = image_id.split('_')[0]
    image = np.random.default_rng(sum(image_id.encode())).integers(0, 256, (*label.shape, 3), dtype=np.uint8)
    for folder, kind, pixels in (
        ('leftImg8bit', 'leftImg8bit', image),
        (truth, f'{truth}_labelIds', label),
        (truth, f'{truth}_instanceIds', instance),
    ):
        path = root / folder / split / city / f'{image_id}_{kind}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)


def write_cityscapes(root: Path, *, count: int = 3, split: str = 'val') -> Path:
    """`count` images with the labels of `street_labels`, each shifted by 5 columns more."""
    label, instance = street_labels()
    for index in range(count):
        shifted = (np.roll(array, 5 * index, axis=1) for array in (label, instance))
        write_image(root, f'{CITY}_{index:06d}_000019', *shifted, split=split)
    return root
