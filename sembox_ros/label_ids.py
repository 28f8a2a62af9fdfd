"""The ids in Cityscapes' label files, which KITTI uses too, and the class ids of label sets: both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sembox_ros.errors import ConfigError
from sembox_ros.label_tables import CITYSCAPES_TRAIN_IDS
from sembox_ros.labels import CITYSCAPES_19, CITYSCAPES_THINGS_8, IGNORE_ID, LabelSet

NO_BOX = -1
# Label id of each of the 19 train ids.
LABEL_IDS = tuple(CITYSCAPES_TRAIN_IDS.index(train_id) for train_id in range(len(CITYSCAPES_19)))


def semantic_table(class_ids: Sequence[int] = CITYSCAPES_TRAIN_IDS) -> np.ndarray:
    """(256,) uint8: label id -> its entry in `class_ids`; `IGNORE_ID` beyond them."""
    table = np.full(256, IGNORE_ID, np.uint8)
    table[: len(class_ids)] = class_ids
    return table


def things_table() -> np.ndarray:
    """(256,) int64: label id -> id of CITYSCAPES_THINGS_8, or `NO_BOX`."""
    table = np.full(256, NO_BOX, np.int64)
    for name, is_thing, label_id in zip(CITYSCAPES_19.names, CITYSCAPES_19.is_thing, LABEL_IDS, strict=True):
        if is_thing:
            table[label_id] = CITYSCAPES_THINGS_8.names.index(name)
    return table


def has_label_ids(labels: LabelSet) -> bool:
    """True if the label set has all of Cityscapes' evaluated classes, so that its masks can be written as theirs."""
    return set(CITYSCAPES_19.names) <= set(labels.names)


def label_id_table(labels: LabelSet) -> np.ndarray:
    """(256,) uint8: id of the label set -> `id` in *_labelIds.png, by name; 0 (unlabeled) for all other ids.

    Raises:
        ConfigError: the label set lacks one of Cityscapes' evaluated classes.
    """
    missing = [name for name in CITYSCAPES_19.names if name not in labels.names]
    if missing:
        raise ConfigError(
            f"label set '{labels.name}': expected all of Cityscapes' 19 classes to write its label ids, "
            f'{missing[0]} and {len(missing) - 1} more are missing; use a network that was trained on them'
        )
    table = np.zeros(256, np.uint8)
    for name, label_id in zip(CITYSCAPES_19.names, LABEL_IDS, strict=True):
        table[labels.names.index(name)] = label_id
    return table
