"""What a sequence says without ground truth: how steady its masks and boxes are, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from sembox_ros.errors import ConfigError
from sembox_ros.evaluation.coco_ap import check_class_ids, to_xywh
from sembox_ros.evaluation.miou import check_mask
from sembox_ros.labels import SceneLabels
from sembox_ros.types import Detections, Scene

MAX_GAP_S = 1.0  # frames further apart are no neighbours
MATCH_IOU = 0.5
BINS = 20  # of the histograms, over 0..1
_CONFIDENCE_BIN = np.minimum(np.arange(256) * BINS // 255, BINS - 1)  # of each uint8 value


@dataclass
class _Frame:
    """What is kept of a frame until the two after it have come."""

    t_s: float
    mask: np.ndarray | None
    boxes: Detections | None
    has_earlier_partner: np.ndarray  # (N,) bool, of `boxes`, in the frame before


@dataclass
class _Share:
    """A part of a whole, both growing."""

    part: float = 0.0
    whole: float = 0.0

    def add(self, part: float, whole: float) -> None:
        self.part += part
        self.whole += whole

    def value(self) -> float | None:
        return self.part / self.whole if self.whole else None


class Stability:
    """Compares each frame with the two before it of the same camera; what it keeps does not grow with their number.

    Neighbours are frames that come one after the other from one camera, the later one at most `MAX_GAP_S` seconds
    after the earlier one and not before or at its time; anything else begins a new sequence. A frame that lacks masks
    or boxes, or whose mask has another size, is left out of the comparisons that need them.

    Masks are looked at on every second row and column: a quarter of the pixels says the same in a quarter of the time.

    Args:
        labels: of the network.
        score_threshold: 0..1, boxes below it count in the score histogram only.

    Raises:
        ConfigError: the threshold is outside 0..1.
    """

    def __init__(self, labels: SceneLabels, *, score_threshold: float = 0.3) -> None:
        if not 0 <= score_threshold <= 1:
            raise ConfigError(f'score_threshold: expected a value in 0..1, got {score_threshold}')
        self._labels, self._score_threshold = labels, score_threshold
        self._sequences: dict[str, tuple[_Frame, ...]] = {}  # camera -> its last two frames
        self._frame_pairs = 0
        self._mask_agreement, self._mask_flicker = _Share(), _Share()
        self._box_flicker, self._box_gaps = _Share(), _Share()
        self._pixels = np.zeros(256, np.int64)
        self._boxes = np.zeros(len(labels.detection), np.int64)
        self._frames_with_boxes = 0
        self._scores = np.zeros(BINS, np.int64)
        self._confidences = np.zeros(BINS, np.int64)

    def update(self, camera: str, t_s: float, scene: Scene) -> float | None:
        """Take the next frame of a camera.

        Args:
            camera: its name.
            t_s: time of the frame in seconds, from any origin.
            scene: what the network saw.

        Returns:
            The agreement of the mask with that of the frame before, 0..1; None where there is none to compare with.

        Raises:
            InputError: a detection's class is none of the label set's.
        """
        mask = None if scene.semantic is None else np.ascontiguousarray(scene.semantic[::2, ::2])
        boxes = None if scene.detections is None else self._count_boxes(scene.detections)
        if mask is not None:
            self._pixels += np.bincount(mask.ravel(), minlength=256)
        frame = _Frame(t_s, mask, boxes, np.zeros(0 if boxes is None else len(boxes), np.bool_))
        earlier = self._sequences.get(camera, ())
        if earlier and not 0 < t_s - earlier[-1].t_s <= MAX_GAP_S:
            earlier = ()
        self._sequences[camera] = (*earlier[-1:], frame)
        if not earlier:
            return None
        self._frame_pairs += 1
        self._compare_boxes((*earlier, frame))
        return self._compare_masks((*earlier, frame))

    def add_confidence(self, counts: np.ndarray) -> None:
        """Take the confidences of one frame, as `count_confidence` counts them: (20,) int64."""
        self._confidences += counts

    def compute(self) -> dict[str, Any]:
        """Everything so far, JSON-ready; None for a number without anything to measure.

        Returns:
            `frame_pairs`: how many pairs of neighbours there were.
            `mask_agreement`: share of pixels with the same class in two neighbours, mean over the pairs, 0..1.
            `mask_flicker`: share of pixels whose class differs from that of the frame before while the frames before
            and after agree (A-B-A), mean over all frames with two neighbours, 0..1. Motion hardly causes it.
            `box_flicker`: share of the boxes that have a partner neither in the frame before nor in the one after, of
            the boxes of all frames with two neighbours, 0..1. Partners have the same class and an IoU of at least
            `MATCH_IOU`; the pair with the largest IoU is made first, and each box has one partner per frame.
            `box_gaps`: share of the pairs of partners in the frames before and after a frame that have no box of
            their class with an IoU of at least `MATCH_IOU` with either of them in the frame itself, 0..1.
            `class_share`: class name -> share of all pixels, 0..1; empty without masks.
            `boxes_per_frame`: class name -> mean number of boxes in a frame; empty without boxes.
            `confidence_histogram`: None unless confidences were added.
            `score_histogram`: of all boxes, those below the threshold included.
            A histogram has 21 `edges` from 0 to 1 and 20 `counts`; the last edge belongs to the last bin.
        """
        pixels, frames = int(self._pixels.sum()), self._frames_with_boxes
        share = self._pixels / max(pixels, 1)
        means = self._boxes / max(frames, 1)
        names = self._labels.semantic_names
        return {
            'frame_pairs': self._frame_pairs,
            'mask_agreement': self._mask_agreement.value(),
            'mask_flicker': self._mask_flicker.value(),
            'box_flicker': self._box_flicker.value(),
            'box_gaps': self._box_gaps.value(),
            'class_share': dict(zip(names, share.tolist(), strict=False)) if pixels else {},
            'boxes_per_frame': dict(zip(self._labels.detection.names, means.tolist(), strict=True)) if frames else {},
            'confidence_histogram': _histogram(self._confidences) if self._confidences.any() else None,
            'score_histogram': _histogram(self._scores),
        }

    def _count_boxes(self, detections: Detections) -> Detections:
        """Count a frame's boxes; gives those at or above the threshold."""
        check_class_ids('scene.detections.class_ids', detections.class_ids, self._labels.detection)
        self._scores += np.histogram(detections.scores, bins=BINS, range=(0, 1))[0]
        keep = detections.scores >= self._score_threshold
        class_ids = detections.class_ids[keep]
        self._boxes += np.bincount(class_ids, minlength=len(self._boxes))
        self._frames_with_boxes += 1
        return Detections(detections.boxes_xyxy[keep], class_ids, detections.scores[keep])

    def _compare_masks(self, frames: tuple[_Frame, ...]) -> float | None:
        """Take two or three neighbours, the newest last; gives the agreement of the last two."""
        masks = [frame.mask for frame in frames]
        *_, before, now = masks
        if before is None or now is None or before.shape != now.shape or not now.size:
            return None
        same = before == now
        agreement = float(same.mean())
        self._mask_agreement.add(agreement, 1)
        first = masks[0]
        if len(masks) == 3 and first is not None and first.shape == now.shape:
            self._mask_flicker.add(float(((first == now) & ~same).mean()), 1)
        return agreement

    def _compare_boxes(self, frames: tuple[_Frame, ...]) -> None:
        """Take two or three neighbours, the newest last."""
        *_, before, now = frames
        if before.boxes is None or now.boxes is None:
            return
        later = _class_iou(before.boxes, now.boxes)
        pairs = _partners(later)
        now.has_earlier_partner[pairs[:, 1]] = True
        first = frames[0].boxes
        if len(frames) < 3 or first is None:
            return
        has_partner = before.has_earlier_partner.copy()
        has_partner[pairs[:, 0]] = True
        self._box_flicker.add(int((~has_partner).sum()), len(has_partner))
        earlier = _class_iou(first, before.boxes)
        around = _partners(_class_iou(first, now.boxes))
        between = (earlier[around[:, 0]] >= MATCH_IOU) | (later[:, around[:, 1]].T >= MATCH_IOU)  # (pairs, boxes)
        self._box_gaps.add(int((~between.any(axis=1)).sum()), len(around))


def count_confidence(confidence: np.ndarray) -> np.ndarray:
    """A histogram of a confidence mask, for `Stability.add_confidence`.

    Args:
        confidence: (H, W) uint8, probability of the pixel's class times 255.

    Returns:
        (20,) int64, pixels of every second row and column by their probability, in bins of equal width over 0..1.

    Raises:
        InputError: it is no such mask.
    """
    check_mask('confidence', confidence)
    counts = np.bincount(confidence[::2, ::2].ravel(), minlength=256)
    return np.bincount(_CONFIDENCE_BIN, weights=counts).astype(np.int64)


def _histogram(counts: np.ndarray) -> dict[str, list[float] | list[int]]:
    return {'edges': np.linspace(0, 1, BINS + 1).round(2).tolist(), 'counts': counts.tolist()}


def _class_iou(first: Detections, second: Detections) -> np.ndarray:
    """(N, M) float64 IoU of the boxes, 0 between boxes of different classes."""
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    iou = coco_mask.iou(to_xywh(first.boxes_xyxy), to_xywh(second.boxes_xyxy), [False] * len(second))
    return np.where(first.class_ids[:, None] == second.class_ids, iou, 0)


def _partners(iou: np.ndarray) -> np.ndarray:
    """(P, 2) int64 row and column of the pairs of at least `MATCH_IOU`, greedily, the largest first."""
    rows, columns = np.nonzero(iou >= MATCH_IOU)
    best_first = np.argsort(-iou[rows, columns], kind='stable')
    pairs: dict[int, int] = {}  # each row and each column at most once
    for row, column in zip(rows[best_first].tolist(), columns[best_first].tolist(), strict=True):
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return np.array(list(pairs.items()), np.int64).reshape(-1, 2)
