"""Scores of a network on ground truth whose label sets may be others than its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.evaluation.arrays import load_arrays, pack_json, save_arrays, unpack_json
from sembox_ros.evaluation.coco_ap import BoxAP, check_class_ids
from sembox_ros.evaluation.miou import SemanticIoU, check_mask
from sembox_ros.evaluation.scores import BoxScores, SemanticScores
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.types import Detections

FORMAT, VERSION = 'sembox_ros/grade', 1  # of `SceneGrade.to_arrays`


class SceneGrade:
    """Collects mIoU and AP in the ground truth's classes; a class is the same where its name is.

    Masks need a network that knows every class of the ground truth. Boxes are graded in the classes that both sides
    know: objects and detections of other classes do not count. `notes` says in words what is left out.

    Args:
        pred: the network's label sets.
        gt: the ground truth's label sets.

    Attributes:
        notes: a sentence for every part or class that is not graded.
        masks: how many masks were counted.
        images: how many images' boxes were counted.
    """

    def __init__(self, pred: SceneLabels, gt: SceneLabels) -> None:
        self.notes: list[str] = []
        self.masks = self.images = 0
        self._pred, self._gt = pred, gt
        self._semantic = self._plan_semantic(pred.semantic, gt.semantic)
        self._boxes = self._plan_boxes(pred.detection, gt.detection)

    @property
    def has_masks(self) -> bool:
        """Whether masks are graded."""
        return self._semantic is not None

    @property
    def has_boxes(self) -> bool:
        """Whether boxes are graded."""
        return self._boxes is not None

    def _plan_semantic(self, pred: LabelSet | None, gt: LabelSet | None) -> SemanticIoU | None:
        if pred is None or gt is None:
            reason = 'the network only detects' if pred is None else 'the ground truth has no masks'
            self.notes.append(f'no mIoU: {reason}')
            return None
        missing = [name for name in gt.names if name not in pred.names]
        if missing:
            self.notes.append(f"no mIoU: the network's classes '{pred.name}' lack {_listed(missing)} of '{gt.name}'")
            return None
        self._to_gt_semantic = np.full(256, gt.ignore_id, np.uint8)
        for index, name in enumerate(gt.names):
            self._to_gt_semantic[pred.names.index(name)] = index
        return SemanticIoU(gt)

    def _plan_boxes(self, pred: LabelSet, gt: LabelSet) -> BoxAP | None:
        missing = [name for name in gt.names if name not in pred.names]
        if len(missing) == len(gt):
            self.notes.append(f"no AP: the boxes' classes '{pred.name}' and '{gt.name}' have no name in common")
            return None
        if missing:
            self.notes.append(f"AP without {_listed(missing)}, which the network's '{pred.name}' lacks")
        self._to_gt_class = np.array([gt.names.index(n) if n in gt.names else -1 for n in pred.names], np.int64)
        self._gt_known = np.array([name in pred.names for name in gt.names], np.bool_)
        return BoxAP(gt)

    def add_mask(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Count one mask, where masks are graded.

        Args:
            pred: (H, W) uint8 ids of the network's semantic label set.
            gt: (H, W) uint8 ids of the ground truth's.

        Returns:
            The mIoU of this mask alone, see `SemanticIoU.update`; NaN where masks are not graded.

        Raises:
            InputError: shapes or dtypes do not fit, or the ground truth has an unknown id.
        """
        if self._semantic is None:
            return math.nan
        check_mask('pred', pred)
        miou = self._semantic.update(self._to_gt_semantic[pred], gt)
        self.masks += 1
        return miou

    def add_boxes(
        self,
        image_id: str,
        pred: Detections,
        *,
        gt_boxes_xyxy: np.ndarray,
        gt_class_ids: np.ndarray,
        gt_is_crowd: np.ndarray,
    ) -> None:
        """Take one image's boxes, where boxes are graded.

        Args:
            image_id: name of the image, each at most once.
            pred: boxes with ids of the network's detection label set.
            gt_boxes_xyxy: (N, 4) float32 in pixels of the image.
            gt_class_ids: (N,) int64 ids of the ground truth's detection label set.
            gt_is_crowd: (N,) bool.

        Raises:
            InputError: shapes, dtypes or ids do not fit, or the image was there before.
        """
        if self._boxes is None:
            return
        check_class_ids(f"pred.class_ids of '{image_id}'", pred.class_ids, self._pred.detection)
        check_class_ids(f"gt_class_ids of '{image_id}'", gt_class_ids, self._gt.detection)
        class_ids = self._to_gt_class[pred.class_ids]
        keep, known = class_ids >= 0, self._gt_known[gt_class_ids]
        self._boxes.update(
            image_id,
            Detections(pred.boxes_xyxy[keep], class_ids[keep], pred.scores[keep]),
            gt_boxes_xyxy=gt_boxes_xyxy[known],
            gt_class_ids=gt_class_ids[known],
            gt_is_crowd=gt_is_crowd[known],
        )
        self.images += 1

    def merge(self, other: SceneGrade) -> None:
        """Take over what another one of the same label sets counted, of other images.

        Raises:
            InputError: it has other label sets, or an image that was here before.
        """
        if (other._pred, other._gt) != (self._pred, self._gt):
            raise InputError('other: expected a grade between the same label sets')
        # Boxes first: only they can refuse, and then nothing has changed yet.
        if self._boxes is not None and other._boxes is not None:
            self._boxes.merge(other._boxes)
        if self._semantic is not None and other._semantic is not None:
            self._semantic.merge(other._semantic)
        self.masks += other.masks
        self.images += other.images

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything it knows, its label sets included, for a file; the inverse of `from_arrays`."""
        header = {
            'format': FORMAT,
            'version': VERSION,
            'pred': self._pred.to_dict(),
            'gt': self._gt.to_dict(),
            'masks': self.masks,
        }
        arrays = {'header': pack_json(header)}
        if self._semantic is not None:
            arrays['confusion'] = self._semantic.confusion()
        if self._boxes is not None:
            arrays |= self._boxes.to_arrays()
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], *, prefix: str = '') -> SceneGrade:
        """Build from `to_arrays`'s form; merging it is as good as merging the original.

        Args:
            arrays: of any label sets; `merge` refuses others than its own.
            prefix: goes before the names of its images, so that those of several bags differ.

        Raises:
            InputError: they are none, or do not fit each other.
        """
        header = unpack_json('header', arrays['header']) if 'header' in arrays else None
        if not isinstance(header, dict) or (header.get('format'), header.get('version')) != (FORMAT, VERSION):
            raise InputError(f'header: expected that of {FORMAT} version {VERSION}, got {header!r:.80}')
        try:
            grade = cls(SceneLabels.from_dict(header.get('pred')), SceneLabels.from_dict(header.get('gt')))
        except ConfigError as error:
            raise InputError(f'header: expected label sets pred and gt; {error}') from error
        expected = {'header'}
        expected |= {'confusion'} if grade.has_masks else set()
        expected |= set(BoxAP.ARRAYS) if grade.has_boxes else set()
        if arrays.keys() != expected:
            raise InputError(f'arrays: expected {sorted(expected)}, got {sorted(arrays)}')
        masks = header.get('masks')
        if not isinstance(masks, int) or masks < 0:
            raise InputError(f'header: expected masks to be a count, got {masks!r:.80}')
        grade.masks = masks
        if grade._semantic is not None:
            grade._semantic.restore(arrays['confusion'])
        if grade._boxes is not None:
            grade._boxes.restore(arrays, prefix=prefix)
            grade.images = len(arrays['boxes_per_image'])
        return grade

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz file, which appears whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        save_arrays(self.to_arrays(), path)

    @classmethod
    def load(cls, path: str | Path, *, prefix: str = '') -> SceneGrade:
        """Read a file of `save`; see `from_arrays`.

        Raises:
            InputError: it is missing, damaged or something else.
        """
        arrays = load_arrays(path)
        try:
            return cls.from_arrays(arrays, prefix=prefix)
        except InputError as error:
            raise InputError(f'{path}: {error}') from error

    def confusion(self) -> np.ndarray | None:
        """`SemanticIoU.confusion` in the ground truth's classes; None where no mask was graded."""
        return self._semantic.confusion() if self._semantic is not None and self.masks else None

    def precision_curves(self, iou: float = 0.5) -> dict[str, np.ndarray] | None:
        """`BoxAP.precision_curves` of the ground truth's classes; None where no image's boxes were graded.

        Raises:
            InputError: it is none of COCO's IoU thresholds.
        """
        return self._boxes.precision_curves(iou) if self._boxes is not None and self.images else None

    def compute(self) -> tuple[SemanticScores | None, BoxScores | None]:
        """The scores so far; None for a part that is not graded or of which nothing came."""
        return (
            self._semantic.compute() if self._semantic is not None and self.masks else None,
            self._boxes.compute() if self._boxes is not None and self.images else None,
        )


def _listed(names: list[str]) -> str:
    return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
