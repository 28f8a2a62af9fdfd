"""From the network's class ids to the ids in Cityscapes' files."""

from __future__ import annotations

import numpy as np

from sembox_ros.errors import ConfigError
from sembox_ros.label_tables import CITYSCAPES_TRAIN_IDS
from sembox_ros.labels import CITYSCAPES_19, LabelSet


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
    for train_id, name in enumerate(CITYSCAPES_19.names):
        table[labels.names.index(name)] = CITYSCAPES_TRAIN_IDS.index(train_id)
    return table
