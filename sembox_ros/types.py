"""Result types, checked when they are built, so that a wrong shape is caught where it arises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sembox_ros.errors import InputError


def check_array(name: str, array: np.ndarray, shape: tuple[int | None, ...], dtype: type | np.dtype) -> None:
    """Raise an `InputError` that names the argument unless it is such an array; None in `shape` stands for any size."""
    if not isinstance(array, np.ndarray):
        raise InputError(f'{name}: expected a numpy array, got {type(array).__name__}')
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = tuple('any' if s is None else s for s in shape)
        raise InputError(f'{name}: expected shape {wanted}, got {array.shape}')
    if array.dtype != dtype:
        raise InputError(f'{name}: expected dtype {np.dtype(dtype)}, got {array.dtype}')


# The parts of a scene that have a value for every pixel.
PLANES = {
    'semantic': np.uint8, 'confidence': np.uint8, 'instances': np.uint16, 'panoptic': np.int32, 'depth': np.float32,
    'motion': np.bool_,
}  # fmt: skip
MAX_INSTANCE = 65535  # instances are numbered in 16 bits
_IN_ORDER = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Segments:
    """The segments of a panoptic scene, a row each, by ascending id.

    Attributes:
        ids: (M,) int32, the values of `Scene.panoptic` (see `panoptic`), void left out.
        class_ids: (M,) int64, ids of the semantic label set.
        scores: (M,) float32 in 0..1, those of the detections; 1 for stuff.
        areas: (M,) int64, pixels.
        boxes_xyxy: (M, 4) float32 around the pixels, in pixels of the image.

    Raises:
        InputError: shapes or dtypes do not fit.
    """

    ids: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    boxes_xyxy: np.ndarray

    def __post_init__(self) -> None:
        check_array('ids', self.ids, (None,), np.int32)
        count = len(self.ids)
        for name, dtype in (('class_ids', np.int64), ('scores', np.float32), ('areas', np.int64)):
            check_array(name, getattr(self, name), (count,), dtype)
        check_array('boxes_xyxy', self.boxes_xyxy, (count, 4), np.float32)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Detections:
    """Boxes of one image, best score first.

    Attributes:
        boxes_xyxy: (N, 4) float32, x0 y0 x1 y1 in pixels of the input image, 0 <= x0 <= x1 <= width.
        class_ids: (N,) int64, ids of the detection label set.
        scores: (N,) float32 in 0..1.
        ids: (N,) int64 in 1..65535, unique: which pixels of `Scene.instances` are whose. Left out: 1, 2, ... N.

    Raises:
        InputError: shapes, dtypes, box corners or ids do not fit.
    """

    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    ids: np.ndarray = field(default_factory=lambda: _IN_ORDER)

    def __post_init__(self) -> None:
        check_array('boxes_xyxy', self.boxes_xyxy, (None, 4), np.float32)
        count = len(self.boxes_xyxy)
        if self.ids is _IN_ORDER:
            object.__setattr__(self, 'ids', np.arange(1, count + 1))
        check_array('ids', self.ids, (count,), np.int64)
        if count and not (self.ids.min() >= 1 and self.ids.max() <= MAX_INSTANCE and len(np.unique(self.ids)) == count):
            raise InputError(f'ids: expected different numbers in 1..{MAX_INSTANCE}, got {self.ids.tolist()!s:.80}')
        check_array('class_ids', self.class_ids, (count,), np.int64)
        check_array('scores', self.scores, (count,), np.float32)
        if count and not np.isfinite(self.boxes_xyxy).all():
            raise InputError('boxes_xyxy: expected finite coordinates, got NaN or infinity')
        if count and (self.boxes_xyxy[:, 2:] < self.boxes_xyxy[:, :2]).any():
            raise InputError('boxes_xyxy: expected x0 <= x1 and y0 <= y1, got a box with swapped corners')

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score_threshold: float) -> Detections:
        """Those with at least this score."""
        return self.only(self.scores >= score_threshold)

    def only(self, rows: np.ndarray) -> Detections:
        """Those of the rows, (N,) bool or their numbers, under the ids that they have."""
        return Detections(self.boxes_xyxy[rows], self.class_ids[rows], self.scores[rows], self.ids[rows])

    @classmethod
    def empty(cls) -> Detections:
        """No boxes at all."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Scene:
    """What the network saw in one image.

    A part that was not asked for is None (the node asks only for what somebody subscribes to).

    Attributes:
        size_hw: height and width of the input image, in pixels.
        semantic: (H, W) uint8 class ids of the semantic label set at the input image's size.
        confidence: (H, W) uint8, probability of the pixel's class times 255.
        detections: boxes in pixels of the input image.
        instances: (H, W) uint16, `ids` of the detection that has the pixel; 0 = stuff or none.
        panoptic: (H, W) int32 segment ids: class times 65536 plus the value in `instances`; see `panoptic.VOID`.
        segments: the table of `panoptic`.
        depth: (H, W) float32 metres along the optical axis.
        motion: (H, W) bool, what moves in the world, not by the camera's own motion.
        timings_ms: stage name -> milliseconds spent for the batch that this image was in.

    Raises:
        InputError: a part does not fit `size_hw`.
    """

    size_hw: tuple[int, int]
    semantic: np.ndarray | None = None
    confidence: np.ndarray | None = None
    detections: Detections | None = None
    instances: np.ndarray | None = None
    panoptic: np.ndarray | None = None
    segments: Segments | None = None
    depth: np.ndarray | None = None
    motion: np.ndarray | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in PLANES.items():
            array = getattr(self, name)
            if array is not None:
                check_array(name, array, self.size_hw, dtype)
