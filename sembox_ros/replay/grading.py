"""What a replay is worth: grades against the truth where there is one, steadiness where there is none."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.errors import InputError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.evaluation.latency import summarize_ms
from sembox_ros.evaluation.stability import Stability
from sembox_ros.labels import SceneLabels
from sembox_ros.panoptic import MIN_STUFF_SHARE, compose_panoptic
from sembox_ros.replay.parts import FrameRecord
from sembox_ros.replay.truth import Truth, TruthSource
from sembox_ros.types import Scene

BINS = 120  # of the timeline, at most
LEAST_BIN_S = 0.5
LARGEST_CLASSES = 10  # in the timeline
HISTOGRAM_BINS = 40
WORST = 8
MOST_REASONS = 20  # why frames were skipped, by name: a reason may hold a number that differs in each frame
WORST_GAP_S = 1.0  # neighbours in time look alike: one of them is enough


@dataclass(frozen=True)
class FrameRow:
    """What the report remembers of every frame; a number that does not exist is NaN.

    Attributes:
        index: its number among the images of the input.
        camera: name of its camera.
        stamp_ns: stamp of its header.
        received_ns: when it was recorded in the input.
        answered_ns: when its answer was recorded in the outputs; offline the same.
        problem: why there is no answer; empty if there is one.
        total_ms: what it took, of all stages together.
        boxes: number of boxes that were published; NaN from a network that finds none.
        miou: of its mask, 0..1.
        pq: of its panoptic scene, 0..1.
        mask_agreement: share of the pixels that have the class of the frame before, 0..1.
        abs_rel: mean relative error of its depth, from 0.
        motion_miou: of its mask of what moves, 0..1.
    """

    index: int
    camera: str
    stamp_ns: int
    received_ns: int
    answered_ns: int
    problem: str
    total_ms: float = math.nan
    boxes: float = math.nan
    miou: float = math.nan
    pq: float = math.nan
    mask_agreement: float = math.nan
    abs_rel: float = math.nan
    motion_miou: float = math.nan


class ReplayGrader:
    """Takes the frames of a replay one by one.

    Args:
        labels: label sets of the network.
        truth: what is to be seen; None if nothing is known.
        score_threshold: least score of the boxes that count as published.
        start_ns: when the first message of the input was recorded.
        duration_s: from then to the last one, seconds.

    Attributes:
        rows: of every frame so far.
        start_ns: as given.
        grade: against the truth; None without any.
    """

    def __init__(
        self,
        labels: SceneLabels,
        truth: TruthSource | None,
        *,
        score_threshold: float,
        start_ns: int,
        duration_s: float,
    ) -> None:
        self.labels, self.truth = labels, truth
        self.grade = SceneGrade(labels, truth.labels) if truth is not None else None
        self.rows: list[FrameRow] = []
        self._threshold = score_threshold
        self._stability = Stability(labels, score_threshold=score_threshold)
        self.start_ns = start_ns
        self._bin_s = max(LEAST_BIN_S, duration_s / BINS)
        self._class_pixels: dict[int, np.ndarray] = {}  # bin -> (K,) pixels
        self._stages: dict[str, list[float]] = {}
        self._digest = hashlib.sha256()
        self._unmatched = 0
        self._finds_boxes = False

    def add(self, record: FrameRecord, scene: Scene | None) -> None:
        """Count one frame; `scene` is None for one that was skipped."""
        if scene is None:
            self.rows.append(
                FrameRow(record.index, record.camera, record.stamp_ns, record.received_ns, 0, record.problem)
            )
            return
        self._finds_boxes |= scene.detections is not None
        self._hash(record, scene)
        for stage, value in record.timings_ms.items():
            self._stages.setdefault(stage, []).append(value)
        agreement = self._stability.update(record.camera, record.received_ns * 1e-9, scene)
        if record.confidence is not None:
            self._stability.add_confidence(np.array(record.confidence, np.int64))
        if scene.semantic is not None:
            self._count_pixels(record, scene.semantic)
        scores = self._compare(record, scene)
        self.rows.append(
            FrameRow(
                record.index,
                record.camera,
                record.stamp_ns,
                record.received_ns,
                record.answered_ns or record.received_ns,
                '',
                total_ms=sum(record.timings_ms.values()) if record.timings_ms else math.nan,
                boxes=math.nan if scene.detections is None else len(scene.detections.above(self._threshold)),
                mask_agreement=math.nan if agreement is None else agreement,
                **scores,
            )
        )

    def digest(self) -> str:
        """Sha256 over stamps, masks, boxes and instances of all frames in the order of the recording."""
        return self._digest.hexdigest()

    def accuracy(self) -> dict[str, Any] | None:
        """Section `accuracy` of the report; None without truth."""
        if self.grade is None or self.truth is None:
            return None
        scores = self.grade.compute()
        semantic, boxes, panoptic = scores.semantic, scores.boxes, scores.panoptic
        notes = list(self.grade.notes)
        if not self._finds_boxes:
            notes.append('no AP and no PQ: the network finds no boxes')
        elif self.grade.has_panoptic and panoptic is None:
            notes.append('no PQ: no image of instances in the ground truth')
        if self._unmatched:
            notes.append(f'{self._unmatched} frames without ground truth of their stamp are not graded')
        unusable = _most_common(Counter(self.truth.unusable))
        notes += [f'{count} x ground truth that cannot be used: {reason}' for reason, count in unusable.items()]
        confusion = None
        if semantic is not None and self.truth.labels.semantic is not None:
            counts = self.grade.confusion()
            assert counts is not None
            confusion = {'names': list(self.truth.labels.semantic.names), 'counts': counts.tolist()}
        curves = None
        if boxes is not None:
            precision = {name: values.tolist() for name, values in (self.grade.precision_curves(0.5) or {}).items()}
            curves = {'iou': 0.5, 'recall': np.linspace(0, 1, 101).round(2).tolist(), 'precision': precision}
        return {
            'truth': self.truth.description,
            'masks': self.grade.masks,
            'images': self.grade.images,
            'scenes': self.grade.scenes,
            'depths': self.grade.depths,
            'motions': self.grade.motions,
            **scores.to_dict(),
            'confusion': confusion,
            'pr_curves': curves,
            'notes': notes,
        }

    def stability(self) -> dict[str, Any] | None:
        """Section `stability` of the report; None without any frame."""
        return self._stability.compute() if any(not row.problem for row in self.rows) else None

    def frames(self, in_bag: int, lost: int) -> dict[str, Any]:
        """Section `frames` of the report."""
        skipped = Counter(row.problem for row in self.rows if row.problem)
        return {
            'in_bag': in_bag,
            'processed': len(self.rows) - skipped.total(),
            'skipped': _most_common(skipped),
            'stamps': count_stamps(self.rows),
            'lost': lost,
        }

    def latencies(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Percentiles of every stage and of the total, and a histogram of the total, in milliseconds per frame."""
        totals = [row.total_ms for row in self.rows if math.isfinite(row.total_ms)]
        if not totals:
            return {}, None
        stages = {name: summarize_ms(values) for name, values in self._stages.items()}
        return {**stages, 'total': summarize_ms(totals)}, latency_histogram('total', totals)

    def timeline(self, drawn_ms: Mapping[int, float] | None = None) -> dict[str, Any]:
        """Section `timeline` of the report.

        Args:
            drawn_ms: index -> latency to show in place of the frame's total.
        """
        places: dict[int, list[FrameRow]] = {}
        for row in self.rows:
            places.setdefault(self._bin(row.received_ns), []).append(row)
        bins = [places.get(i, []) for i in range(max(places, default=-1) + 1)]

        def latency(row: FrameRow) -> float:
            return row.total_ms if drawn_ms is None else drawn_ms.get(row.index, math.nan)

        return {
            't_s': [round(i * self._bin_s, 3) for i in range(len(bins))],
            'bin_s': round(self._bin_s, 3),
            'processed': [sum(not row.problem for row in rows) for rows in bins],
            'skipped': [sum(bool(row.problem) for row in rows) for rows in bins],
            'latency_ms': [_middle([latency(row) for row in rows]) for rows in bins],
            'miou': [_mean([row.miou for row in rows]) for rows in bins],
            'pq': [_mean([row.pq for row in rows]) for rows in bins],
            'mask_agreement': [_mean([row.mask_agreement for row in rows]) for rows in bins],
            'boxes': [_mean([row.boxes for row in rows if not row.problem]) for rows in bins],
            'class_share': self._class_shares(len(bins)),
        }

    def worst(self) -> list[tuple[FrameRow, str, float]]:
        """The worst frames, no two of them within a second, with what is bad about them: measure and its value."""
        measure = 'mIoU' if any(math.isfinite(row.miou) for row in self.rows) else 'mask agreement'
        name = 'miou' if measure == 'mIoU' else 'mask_agreement'
        ranked = sorted(
            (row for row in self.rows if math.isfinite(getattr(row, name))), key=lambda row: getattr(row, name)
        )
        chosen: list[tuple[FrameRow, str, float]] = []
        for row in ranked:
            if len(chosen) == WORST:
                break
            if all(abs(row.received_ns - other.received_ns) >= WORST_GAP_S * 1e9 for other, _, _ in chosen):
                chosen.append((row, measure, getattr(row, name)))
        return chosen

    def _hash(self, record: FrameRecord, scene: Scene) -> None:
        self._digest.update(f'{record.camera}\n{record.stamp_ns}\n{record.received_ns}\n{scene.size_hw}\n'.encode())
        arrays, found = [scene.semantic, scene.instances], scene.detections
        if found is not None:
            arrays[1:1] = [found.boxes_xyxy, found.class_ids, found.scores, found.ids]
        for array in arrays:
            if array is not None:
                self._digest.update(np.ascontiguousarray(array).data)

    def _compare(self, record: FrameRecord, scene: Scene) -> dict[str, float]:
        """Grade one frame; returns the scores of its row, as far as it has them."""
        scores: dict[str, float] = {}
        if self.truth is None or self.grade is None:
            return scores
        truth = self.truth.find(record.camera, record.stamp_ns)
        if truth is None:
            self._unmatched += 1
            return scores
        with _noting_misfits(self.grade.notes):
            scores['miou'] = add_to_grade(self.grade, record, scene, truth)
            pred, known = compose_scene(scene, self.labels), truth.compose_panoptic(self.truth.labels)
            if pred is not None and known is not None:
                scores['pq'] = self.grade.add_panoptic(pred, *known)
        with _noting_misfits(self.grade.notes):
            if scene.depth is not None and truth.depth is not None:
                scores['abs_rel'] = self.grade.add_depth(scene.depth, truth.depth)
        with _noting_misfits(self.grade.notes):
            if scene.motion is not None and truth.motion is not None:
                scores['motion_miou'] = self.grade.add_motion(scene.motion, truth.motion)
        return scores

    def _bin(self, received_ns: int) -> int:
        return min(BINS - 1, max(0, int((received_ns - self.start_ns) * 1e-9 / self._bin_s)))

    def _count_pixels(self, record: FrameRecord, semantic: np.ndarray) -> None:
        place = self._bin(record.received_ns)
        counts = np.bincount(semantic[::4, ::4].ravel(), minlength=256)
        before = self._class_pixels.get(place)
        self._class_pixels[place] = counts if before is None else before + counts

    def _class_shares(self, bins: int) -> dict[str, list[float | None]]:
        if not self._class_pixels:
            return {}
        total = np.sum(list(self._class_pixels.values()), axis=0)
        names = self.labels.semantic_names
        largest = [int(i) for i in np.argsort(-total, kind='stable')[:LARGEST_CLASSES] if i < len(names) and total[i]]
        return {
            names[k]: [
                None if (pixels := self._class_pixels.get(i)) is None else round(float(pixels[k] / pixels.sum()), 4)
                for i in range(bins)
            ]
            for k in largest
        }


def add_to_grade(grade: SceneGrade, record: FrameRecord, scene: Scene, truth: Truth) -> float:
    """Count one frame's boxes and mask, where both sides know them; returns the mIoU of the mask, NaN without one.

    Raises:
        InputError: the truth does not fit the frame.
    """
    found = scene.detections
    boxes, class_ids, is_crowd = truth.boxes_xyxy, truth.class_ids, truth.is_crowd
    if found is not None and boxes is not None and class_ids is not None and is_crowd is not None:
        grade.add_boxes(
            f'{record.index:09d}',
            found,
            gt_boxes_xyxy=boxes,
            gt_class_ids=class_ids,
            gt_is_crowd=is_crowd,
        )
    if truth.semantic is None or scene.semantic is None:
        return math.nan
    return grade.add_mask(scene.semantic, truth.semantic)


@contextmanager
def _noting_misfits(notes: list[str]) -> Iterator[None]:
    """What does not fit costs no more than what the body grades; `notes` says it once."""
    try:
        yield
    except InputError as error:
        note = f'ground truth that does not fit its frame: {error}'
        if note not in notes and len(notes) < MOST_REASONS:
            notes.append(note)


def compose_scene(scene: Scene, labels: SceneLabels) -> np.ndarray | None:
    """(H, W) int32 panoptic ids of what was seen, those of the predictor; None without masks or instances.

    Args:
        scene: with the detections of all its instances.
        labels: the network's.
    """
    if scene.semantic is None or scene.instances is None or scene.detections is None:
        return None
    min_area = int(MIN_STUFF_SHARE * scene.semantic.size)
    return compose_panoptic(scene.semantic, scene.instances, scene.detections, labels, min_stuff_area=min_area)


def count_stamps(rows: Iterable[FrameRow]) -> dict[str, int]:
    """How many stamps are zero, were there before in the same camera, or lie before the one that preceded them."""
    counts = {'zero': 0, 'duplicate': 0, 'backwards': 0}
    last: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    for row in sorted(rows, key=lambda r: (r.received_ns, r.index)):
        key = (row.camera, row.stamp_ns)
        if row.stamp_ns == 0:
            counts['zero'] += 1
        elif key in seen:
            counts['duplicate'] += 1
        elif row.stamp_ns < last.get(row.camera, row.stamp_ns):
            counts['backwards'] += 1
        if row.stamp_ns:
            seen.add(key)
            last[row.camera] = row.stamp_ns
    return counts


def latency_histogram(stage: str, values_ms: list[float]) -> dict[str, Any]:
    """Counts in equal bins from 0 to just above the 99.5th percentile; the last bin takes everything beyond."""
    top = max(float(np.percentile(values_ms, 99.5)) * 1.05, 1e-3)
    edges = np.linspace(0, top, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(np.minimum(values_ms, top), edges)
    return {'stage': stage, 'edges_ms': edges.round(4).tolist(), 'counts': counts.tolist()}


def write_rows(rows: Iterable[FrameRow], path: Path) -> None:
    """Write `frames.csv`: a line per frame, empty where a number does not exist."""
    names = list(FrameRow.__dataclass_fields__)
    with path.open('w', newline='', encoding='utf-8') as file:
        table = csv.writer(file)
        table.writerow(names)
        for row in rows:
            values = (getattr(row, name) for name in names)
            table.writerow('' if isinstance(v, float) and math.isnan(v) else v for v in values)


def _most_common(reasons: Counter[str]) -> dict[str, int]:
    """The commonest reasons and how often each was one; those beyond `MOST_REASONS` count as one."""
    shown = dict(reasons.most_common(MOST_REASONS))
    others = reasons.total() - sum(shown.values())
    return {**shown, 'other reasons': others} if others else shown


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return round(sum(finite) / len(finite), 4) if finite else None


def _middle(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return round(float(np.median(finite)), 3) if finite else None
