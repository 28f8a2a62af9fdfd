"""Scores of a network on ground truth whose label sets may be others than its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.evaluation.arrays import load_arrays, pack_json, save_arrays, unpack_json
from sembox_ros.evaluation.coco_ap import BoxAP, check_class_ids
from sembox_ros.evaluation.depth import DepthError
from sembox_ros.evaluation.miou import SemanticIoU, check_mask
from sembox_ros.evaluation.motion import MotionIoU
from sembox_ros.evaluation.pq import PanopticQuality, check_panoptic
from sembox_ros.evaluation.scores import GradeScores
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.panoptic import INSTANCES, VOID
from sembox_ros.types import Detections

FORMAT, VERSION = 'sembox_ros/grade', 2  # of `SceneGrade.to_arrays`
_WITHOUT_PANOPTIC = 1  # the version before; its files are read too
_VOID_NAME = 'void'  # what label sets that make a class of it call what belongs to no class


class SceneGrade:
    """Collects mIoU, AP and PQ in the ground truth's classes, the same where their names are; and depth and motion.

    Masks and panoptic scenes need a network that knows every class of the ground truth; scenes also need, on either
    side, boxes whose classes are those of masks. Boxes are graded in the classes that both sides know: objects and
    detections of other classes do not count. `notes` says in words what is left out.

    Args:
        pred: the network's label sets.
        gt: the ground truth's label sets.

    Attributes:
        notes: a sentence for every part or class that is not graded.
        masks: how many masks were counted.
        images: how many images' boxes were counted.
        scenes: how many panoptic scenes were counted.
        depths: how many depth maps were counted.
        motions: how many masks of motion were counted.
    """

    def __init__(self, pred: SceneLabels, gt: SceneLabels) -> None:
        self.notes: list[str] = []
        self.masks = self.images = self.scenes = self.depths = self.motions = 0
        self._pred, self._gt = pred, gt
        self._semantic = self._plan_semantic(pred.semantic, gt.semantic)
        self._boxes = self._plan_boxes(pred.detection, gt.detection)
        self._panoptic = self._plan_panoptic(pred, gt)
        self._depth, self._motion = DepthError(), MotionIoU()

    @property
    def has_masks(self) -> bool:
        """Whether masks are graded."""
        return self._semantic is not None

    @property
    def has_boxes(self) -> bool:
        """Whether boxes are graded."""
        return self._boxes is not None

    @property
    def has_panoptic(self) -> bool:
        """Whether panoptic scenes are graded."""
        return self._panoptic is not None

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

    def _plan_panoptic(self, pred: SceneLabels, gt: SceneLabels) -> PanopticQuality | None:
        if self._semantic is None or pred.semantic is None or gt.semantic is None:
            self.notes.append('no PQ: masks are not graded')
            return None
        for side, labels in (('network', pred), ('ground truth', gt)):
            if not labels.has_instances:
                self.notes.append(f"no PQ: no class of the {side}'s boxes is a countable class of its masks")
                return None
        found = {pred.semantic.names[index] for index in pred.thing_links.values()}
        missed = [name for name in _things(gt.semantic) if name in _things(pred.semantic) and name not in found]
        if missed:
            self.notes.append(f"PQ counts every {_listed(missed)} as missed: the network's boxes have no such class")
        self._pred_segments = _Segments(pred.semantic, gt.semantic)
        self._gt_segments = _Segments(gt.semantic, gt.semantic)
        return PanopticQuality(gt.semantic)

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

    def add_panoptic(self, pred: np.ndarray, gt: np.ndarray, gt_crowd: Collection[int]) -> float:
        """Count one panoptic scene, where those are graded.

        Args:
            pred: (H, W) int32 panoptic ids in the network's semantic classes.
            gt: (H, W) int32 panoptic ids in the ground truth's, see `panoptic.compose_truth`.
            gt_crowd: ids of `gt` that are groups.

        Returns:
            The PQ of this scene alone, see `PanopticQuality.update`; NaN where scenes are not graded.

        Raises:
            InputError: shapes, dtypes or ids do not fit.
        """
        if self._panoptic is None:
            return math.nan
        check_panoptic('pred', pred)
        check_panoptic('gt', gt)
        pq = self._panoptic.update(self._pred_segments.rename(pred), self._gt_segments.rename(gt), gt_crowd=gt_crowd)
        self.scenes += 1
        return pq

    def add_depth(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Count one depth map.

        Args:
            pred: (H, W) float32 metres.
            gt: (H, W) float32 metres, 0 = unknown.

        Returns:
            The mean relative error of this map alone, see `DepthError.update`.

        Raises:
            InputError: shapes or dtypes do not fit, or a prediction is no number.
        """
        abs_rel = self._depth.update(pred, gt)
        self.depths += 1
        return abs_rel

    def add_motion(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Count one mask of what moves.

        Args:
            pred: (H, W) bool.
            gt: (H, W) uint8, 1 = moves, 0 = does not, 255 = ignored.

        Returns:
            The mean IoU of this mask alone, see `MotionIoU.update_mask`.

        Raises:
            InputError: shapes or dtypes do not fit, or the ground truth has another number.
        """
        miou = self._motion.update_mask(pred, gt)
        self.motions += 1
        return miou

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
        if self._panoptic is not None and other._panoptic is not None:
            self._panoptic.merge(other._panoptic)
        self._depth.merge(other._depth)
        self._motion.merge(other._motion)
        self.depths += other.depths
        self.motions += other.motions
        self.masks += other.masks
        self.images += other.images
        self.scenes += other.scenes

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything it knows, its label sets included, for a file; the inverse of `from_arrays`."""
        header = {
            'format': FORMAT,
            'version': VERSION,
            'pred': self._pred.to_dict(),
            'gt': self._gt.to_dict(),
            'masks': self.masks,
            'scenes': self.scenes,
        }
        if self.depths or self.motions:
            header |= {'depths': self.depths, 'motions': self.motions}
        arrays = {'header': pack_json(header)}
        if self._semantic is not None:
            arrays['confusion'] = self._semantic.confusion()
        if self._boxes is not None:
            arrays |= self._boxes.to_arrays()
        if self._panoptic is not None:
            arrays['panoptic'] = self._panoptic.counts()
        if self.depths or self.motions:
            arrays |= {'depth': self._depth.counts(), 'motion': self._motion.confusion()}
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
        known = ((FORMAT, VERSION), (FORMAT, _WITHOUT_PANOPTIC))
        if not isinstance(header, dict) or (header.get('format'), header.get('version')) not in known:
            raise InputError(f'header: expected that of {FORMAT} version {VERSION} or older, got {header!r:.80}')
        try:
            grade = cls(SceneLabels.from_dict(header.get('pred')), SceneLabels.from_dict(header.get('gt')))
        except ConfigError as error:
            raise InputError(f'header: expected label sets pred and gt; {error}') from error
        with_panoptic = grade.has_panoptic and header['version'] != _WITHOUT_PANOPTIC
        expected = {'header'}
        expected |= {'confusion'} if grade.has_masks else set()
        expected |= set(BoxAP.ARRAYS) if grade.has_boxes else set()
        expected |= {'panoptic'} if with_panoptic else set()
        with_maps = 'depths' in header
        expected |= {'depth', 'motion'} if with_maps else set()
        if arrays.keys() != expected:
            raise InputError(f'arrays: expected {sorted(expected)}, got {sorted(arrays)}')
        grade.masks = _count_in(header, 'masks')
        if grade._semantic is not None:
            grade._semantic.restore(arrays['confusion'])
        if grade._boxes is not None:
            grade._boxes.restore(arrays, prefix=prefix)
            grade.images = len(arrays['boxes_per_image'])
        if grade._panoptic is not None and with_panoptic:
            grade._panoptic.restore(arrays['panoptic'])
            grade.scenes = _count_in(header, 'scenes')
        if with_maps:
            grade._depth.restore(arrays['depth'])
            grade._motion.restore(arrays['motion'])
            grade.depths, grade.motions = _count_in(header, 'depths'), _count_in(header, 'motions')
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

    def compute(self) -> GradeScores:
        """The scores so far; None for a part that is not graded or of which nothing came."""
        return GradeScores(
            semantic=self._semantic.compute() if self._semantic is not None and self.masks else None,
            boxes=self._boxes.compute() if self._boxes is not None and self.images else None,
            panoptic=self._panoptic.compute() if self._panoptic is not None and self.scenes else None,
            depth=self._depth.compute() if self.depths else None,
            motion=self._motion.scores() if self.motions else None,
        )


class _Segments:
    """What segments of one label set are in another: by name; void where it has no such class, or none but 'void'.

    Segments of a class that is stuff in the other set become one.
    """

    def __init__(self, own: LabelSet, other: LabelSet) -> None:
        self._is_same = (own.names, own.is_thing) == (other.names, other.is_thing) and _VOID_NAME not in own.names
        self._classes = np.full(256, VOID, np.int32)
        self._kept_bits = np.zeros(256, np.int32)  # of the instance's number
        for index, name in enumerate(own.names):
            if name in other.names and name != _VOID_NAME:
                target = other.names.index(name)
                self._classes[index] = target * INSTANCES
                self._kept_bits[index] = INSTANCES - 1 if other.is_thing[target] else 0

    def rename(self, panoptic: np.ndarray) -> np.ndarray:
        """(H, W) int32 panoptic ids in the other set's classes."""
        if self._is_same:
            return panoptic
        classes = panoptic // INSTANCES
        return self._classes[classes] + (panoptic & self._kept_bits[classes])


def _things(labels: LabelSet) -> list[str]:
    return [name for name, is_thing in zip(labels.names, labels.is_thing, strict=True) if is_thing]


def _count_in(header: Mapping[str, object], name: str) -> int:
    count = header.get(name)
    if not isinstance(count, int) or count < 0:
        raise InputError(f'header: expected {name} to be a count, got {count!r:.80}')
    return count


def _listed(names: list[str]) -> str:
    return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
