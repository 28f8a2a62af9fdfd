"""What the metrics find, as plain numbers: for a file, and as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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


def _json_ready(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_ready(part) for key, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def scores_table(semantic: SemanticScores | None, boxes: BoxScores | None) -> str:
    """Scores in percent, one class per line and the means at the end; '-' where there is nothing to measure.

    Args:
        semantic: gives the column IoU.
        boxes: gives the columns AP and AP50.

    Returns:
        Aligned lines without a line feed at the end.
    """
    columns: dict[str, Mapping[str, float]] = {}
    means: list[float] = []
    if semantic is not None:
        columns['IoU'] = semantic.iou_per_class
        means.append(semantic.miou)
    if boxes is not None:
        columns |= {'AP': boxes.ap_per_class, 'AP50': boxes.ap50_per_class}
        means += [boxes.ap, boxes.ap50]
    names = list(dict.fromkeys(name for values in columns.values() for name in values))
    width = max((len(name) for name in (*names, 'class')), default=0)
    rows = [(name, [values.get(name, math.nan) for values in columns.values()]) for name in names]
    lines = [f'{"class":<{width}}' + ''.join(f'{title:>8}' for title in columns)]
    for name, values in (*rows, ('mean', means)):
        lines.append(f'{name:<{width}}' + ''.join(f'{_percent(value):>8}' for value in values))
    return '\n'.join(lines)


def _percent(value: float) -> str:
    return '-' if math.isnan(value) else f'{100 * value:.1f}'
