"""The table of scores, line by line."""

from __future__ import annotations

import math

from sembox_ros.evaluation.scores import BoxScores, SemanticScores, scores_table

SEMANTIC = SemanticScores(miou=0.6255, iou_per_class={'road': 0.951, 'car': 0.3, 'sky': math.nan}, pixel_accuracy=0.9)
BOXES = BoxScores(
    ap=0.25, ap50=0.5, ap75=math.nan, ap_small=0, ap_medium=0, ap_large=0,
    ap_per_class={'car': 0.25, 'person': math.nan}, ap50_per_class={'car': 0.5, 'person': math.nan},
)  # fmt: skip


def test_classes_of_both_sides_share_a_table():
    assert scores_table(SEMANTIC, BOXES).splitlines() == [
        'class      IoU      AP    AP50',
        'road      95.1       -       -',
        'car       30.0    25.0    50.0',
        'sky          -       -       -',
        'person       -       -       -',
        'mean      62.5    25.0    50.0',
    ]


def test_one_side_alone():
    assert scores_table(SEMANTIC, None).splitlines()[0].split() == ['class', 'IoU']
    assert scores_table(None, BOXES).splitlines()[-1].split() == ['mean', '25.0', '50.0']
    assert [line.split()[0] for line in scores_table(None, BOXES).splitlines()] == ['class', 'car', 'person', 'mean']
