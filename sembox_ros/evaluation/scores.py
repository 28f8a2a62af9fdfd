"""What the metrics find, as plain numbers: for a file, and as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class SemanticScores:
    """Agreement of masks with their ground truth; a number without anything to measure is NaN.

    Attributes:
        miou: mean of `iou_per_class` over the classes that are not NaN, 0..1.
        iou_per_class: class name -> intersection over union, 0..1; NaN where neither side has the class.
        pixel_accuracy: share of the labeled pixels whose class was found, 0..1.
    """

    miou: float
    iou_per_class: Mapping[str, float]
    pixel_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, None for NaN."""
        return _json_ready(asdict(self))


@dataclass(frozen=True)
class BoxScores:
    """COCO's average precisions, 0..1; a number without any ground truth to measure is NaN.

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55 ... 0.95 and over the classes that have ground truth.
        ap50: at IoU 0.50.
        ap75: at IoU 0.75.
        ap_small: `ap` of boxes below 32 x 32 pixels of the image.
        ap_medium: of boxes from 32 x 32 to 96 x 96 pixels.
        ap_large: of boxes above 96 x 96 pixels.
        ap_per_class: class name -> `ap` of this class.
        ap50_per_class: class name -> `ap50` of this class.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ap_per_class: Mapping[str, float]
    ap50_per_class: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, None for NaN."""
        return _json_ready(asdict(self))


@dataclass(frozen=True)
class PanopticScores:
    """Panoptic, segmentation and recognition quality, 0..1; a number without anything to measure is NaN.

    A class counts where either side has a segment of it; PQ = SQ x RQ holds for each class, not for the means.

    Attributes:
        pq: mean of `pq_per_class` over the classes that are not NaN.
        sq: of `sq_per_class`.
        rq: of `rq_per_class`.
        pq_things: mean over the countable classes alone; likewise `sq_things` and `rq_things`.
        sq_things: see `pq_things`.
        rq_things: see `pq_things`.
        pq_stuff: mean over the other classes; likewise `sq_stuff` and `rq_stuff`.
        sq_stuff: see `pq_stuff`.
        rq_stuff: see `pq_stuff`.
        pq_per_class: class name -> the sum of the IoUs of its matches / (matches + half of its wrong and missed
            segments).
        sq_per_class: class name -> mean IoU of its matches; 0 where there are segments but no match.
        rq_per_class: class name -> its matches / (matches + half of its wrong and missed segments).
    """

    pq: float
    sq: float
    rq: float
    pq_things: float
    sq_things: float
    rq_things: float
    pq_stuff: float
    sq_stuff: float
    rq_stuff: float
    pq_per_class: Mapping[str, float]
    sq_per_class: Mapping[str, float]
    rq_per_class: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, None for NaN."""
        return _json_ready(asdict(self))


@dataclass(frozen=True)
class DepthScores:
    """Errors of depth up to 80 m, each the mean over images; NaN without any.

    Attributes:
        abs_rel: mean relative error of the pixels, from 0.
        rmse_m: root of their mean square error, metres.
        delta1: share of the pixels that are less than 1.25 times too near or too far, 0..1.
    """

    abs_rel: float
    rmse_m: float
    delta1: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, None for NaN."""
        return _json_ready(asdict(self))


@dataclass(frozen=True)
class MotionScores:
    """Intersection over union of what moves and of what does not, 0..1; NaN where neither side has it.

    Attributes:
        motion_miou: mean of both.
        moving_iou: of the pixels that move.
        static_iou: of those that do not.
    """

    motion_miou: float
    moving_iou: float
    static_iou: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, None for NaN."""
        return _json_ready(asdict(self))


class GradeScores(NamedTuple):
    """All that a network scored; None for a part that was not graded."""

    semantic: SemanticScores | None = None
    boxes: BoxScores | None = None
    panoptic: PanopticScores | None = None
    depth: DepthScores | None = None
    motion: MotionScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: part.to_dict() if part else None for name, part in self._asdict().items()}


def sizes_line(boxes: Mapping[str, Any]) -> str:
    """AP by the size of the objects, in one line, from `BoxScores.to_dict`; '-' where there are none of a size."""
    small, medium, large = (boxes[f'ap_{size}'] for size in ('small', 'medium', 'large'))
    values = [_percent(math.nan if value is None else value) for value in (small, medium, large)]
    return f'AP by size: {values[0]} below 32x32 px, {values[1]} up to 96x96 px, {values[2]} above'


def depth_line(depth: DepthScores) -> str:
    """Errors of depth in one line; '-' without any."""
    if math.isnan(depth.abs_rel):
        return 'depth: -'
    rmse, near = f'{depth.rmse_m:.2f} m', _percent(depth.delta1)
    return f'depth: mean relative error {_percent(depth.abs_rel)}, RMSE {rmse}, less than 1.25 times off {near}'


def motion_line(motion: MotionScores) -> str:
    """IoU of what moves in one line; '-' where there is nothing to measure."""
    values = [_percent(value) for value in (motion.moving_iou, motion.static_iou, motion.motion_miou)]
    return f'motion: IoU {values[0]} of what moves, {values[1]} of the rest, mean {values[2]}'


def _json_ready(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_ready(part) for key, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def scores_table(
    semantic: SemanticScores | None, boxes: BoxScores | None, panoptic: PanopticScores | None = None
) -> str:
    """Scores in percent, one class per line and the means at the end; '-' where there is nothing to measure.

    Args:
        semantic: gives the column IoU.
        boxes: gives the columns AP and AP50.
        panoptic: gives the columns PQ, SQ and RQ, and their means over things and over stuff alone.

    Returns:
        Aligned lines without a line feed at the end.
    """
    columns: dict[str, Mapping[str, float]] = {}
    means: dict[str, list[float]] = {'mean': []}
    if semantic is not None:
        columns['IoU'] = semantic.iou_per_class
        means['mean'].append(semantic.miou)
    if boxes is not None:
        columns |= {'AP': boxes.ap_per_class, 'AP50': boxes.ap50_per_class}
        means['mean'] += [boxes.ap, boxes.ap50]
    if panoptic is not None:
        unmeasured = [math.nan] * len(columns)
        columns |= {'PQ': panoptic.pq_per_class, 'SQ': panoptic.sq_per_class, 'RQ': panoptic.rq_per_class}
        means['mean'] += [panoptic.pq, panoptic.sq, panoptic.rq]
        means['things'] = [*unmeasured, panoptic.pq_things, panoptic.sq_things, panoptic.rq_things]
        means['stuff'] = [*unmeasured, panoptic.pq_stuff, panoptic.sq_stuff, panoptic.rq_stuff]
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    width = max(len(name) for name in (*names, *means, 'class'))
    rows = [(name, [values.get(name, math.nan) for values in columns.values()]) for name in names]
    lines = [f'{"class":<{width}}' + ''.join(f'{title:>8}' for title in columns)]
    for name, values in (*rows, *means.items()):
        lines.append(f'{name:<{width}}' + ''.join(f'{_percent(value):>8}' for value in values))
    return '\n'.join(lines)


def fusions_table(fusions: Mapping[str, GradeScores]) -> str:
    """Panoptic qualities in percent, and AP, one fusion per line; '-' where there is nothing to measure."""
    width = max(len(name) for name in (*fusions, 'fusion'))
    lines = [f'{"fusion":<{width}}' + ''.join(f'{t:>8}' for t in ('PQ', 'SQ', 'RQ', 'things', 'stuff', 'AP'))]
    for name, scores in fusions.items():
        boxes, panoptic = scores.boxes, scores.panoptic
        values = [math.nan] * 5
        if panoptic is not None:
            values = [panoptic.pq, panoptic.sq, panoptic.rq, panoptic.pq_things, panoptic.pq_stuff]
        values.append(math.nan if boxes is None else boxes.ap)
        lines.append(f'{name:<{width}}' + ''.join(f'{_percent(value):>8}' for value in values))
    return '\n'.join(lines)


def _percent(value: float) -> str:
    return '-' if math.isnan(value) else f'{100 * value:.1f}'
