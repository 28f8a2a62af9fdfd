"""One labelled image, whatever dataset it came from, and what a dataset is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sembox_ros.errors import DatasetError
from sembox_ros.labels import SceneLabels
from sembox_ros.panoptic import compose_truth
from sembox_ros.types import MAX_INSTANCE


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it; a part that the dataset lacks is None.

    Attributes:
        image: (H, W, 3) uint8 rgb.
        image_id: its name within the dataset, unique there.
        semantic: (H, W) uint8 class ids of the semantic label set, 255 = ignored.
        boxes_xyxy: (N, 4) float32, x0 y0 x1 y1 in pixels of the image.
        class_ids: (N,) int64 ids of the detection label set.
        is_crowd: (N,) bool; True where a box covers a group: neither object nor background.
        instances: (H, W) uint16, k = pixels of the object of box k - 1, 0 = of none; of a box whose object others hide
            there are no pixels.
        depth: (H, W) float32 metres along the optical axis, 0 = unknown.
        flow: (H, W, 2) float32 dx, dy in pixels: where the same point was in the frame before, minus where it is;
            0 where unknown.
        motion: (H, W) uint8, 1 = moves in the world, whatever the camera does; 0 = does not; 255 = ignored.

    Raises:
        DatasetError: shapes or dtypes do not fit each other, or instances are of boxes that there are not.
    """

    image: np.ndarray
    image_id: str
    semantic: np.ndarray | None = None
    boxes_xyxy: np.ndarray | None = None
    class_ids: np.ndarray | None = None
    is_crowd: np.ndarray | None = None
    instances: np.ndarray | None = None
    depth: np.ndarray | None = None
    flow: np.ndarray | None = None
    motion: np.ndarray | None = None

    def __post_init__(self) -> None:
        size_hw = self.image.shape[:2]
        count = 0 if self.boxes_xyxy is None else len(self.boxes_xyxy)
        wanted = {
            'image': ((*size_hw, 3), np.uint8),
            'semantic': (size_hw, np.uint8),
            'boxes_xyxy': ((count, 4), np.float32),
            'class_ids': ((count,), np.int64),
            'is_crowd': ((count,), np.bool_),
            'instances': (size_hw, np.uint16),
            'depth': (size_hw, np.float32),
            'flow': ((*size_hw, 2), np.float32),
            'motion': (size_hw, np.uint8),
        }
        for name, (shape, dtype) in wanted.items():
            array = getattr(self, name)
            if array is not None and (array.shape != shape or array.dtype != dtype):
                raise DatasetError(
                    f'{self.image_id}: {name}: expected {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}'
                )
        parts = (self.boxes_xyxy, self.class_ids, self.is_crowd)
        if len({part is None for part in parts}) > 1:
            raise DatasetError(f'{self.image_id}: boxes_xyxy, class_ids and is_crowd must come together')
        if self.instances is not None:
            self._check_instances(self.instances, count)

    def compose_panoptic(self, labels: SceneLabels) -> tuple[np.ndarray, tuple[int, ...]] | None:
        """(H, W) int32 panoptic ids, and those of crowds, by `panoptic.compose_truth`; None where a part is not known.

        Args:
            labels: of the dataset.
        """
        if self.semantic is None or self.instances is None or self.class_ids is None or self.is_crowd is None:
            return None
        return compose_truth(self.semantic, self.instances, self.class_ids, self.is_crowd, labels)

    def _check_instances(self, instances: np.ndarray, count: int) -> None:
        if count > MAX_INSTANCE:
            raise DatasetError(f'{self.image_id}: instances: expected at most {MAX_INSTANCE} boxes, got {count}')
        largest = int(instances.max(initial=0))
        if largest > count:
            raise DatasetError(
                f'{self.image_id}: instances: expected numbers 0..{count}, one for each box and 0, got {largest}'
            )


class Dataset(Protocol):
    """A sequence of samples; `torch.utils.data.DataLoader` takes it as it is.

    Attributes:
        labels: what the ids in its samples mean.
        image_ids: the name of each sample, in order.
    """

    @property
    def labels(self) -> SceneLabels:
        """What the ids in its samples mean."""
        ...

    @property
    def image_ids(self) -> Sequence[str]:
        """The name of each sample, in order."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
