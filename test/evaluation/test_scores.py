"""The table of scores, line by line."""

from __future__ import annotations

import dataclasses
import math

from sembox_ros.evaluation.scores import (
    BoxScores,
    DepthScores,
    GradeScores,
    MotionScores,
    PanopticScores,
    SemanticScores,
    depth_line,
    fusions_table,
    motion_line,
    scores_table,
    sizes_line,
)

SEMANTIC = SemanticScores(miou=0.6255, iou_per_class={'road': 0.951, 'car': 0.3, 'sky': math.nan}, pixel_accuracy=0.9)
BOXES = BoxScores(
    ap=0.25, ap50=0.5, ap75=math.nan, ap_small=0, ap_medium=0, ap_large=0,
    ap_per_class={'car': 0.25, 'person': math.nan}, ap50_per_class={'car': 0.5, 'person': math.nan},
)  # fmt: skip
PANOPTIC = PanopticScores(
    pq=0.3, sq=0.6, rq=0.5, pq_things=0.2, sq_things=0.4, rq_things=0.5, pq_stuff=0.4, sq_stuff=0.8, rq_stuff=math.nan,
    pq_per_class={'road': 0.4, 'car': 0.2, 'sky': math.nan}, sq_per_class={'road': 0.8, 'car': 0.4, 'sky': math.nan},
    rq_per_class={'road': 0.5, 'car': 0.5, 'sky': math.nan},
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


def test_panoptic_columns_have_means_of_things_and_of_stuff():
    assert scores_table(SEMANTIC, BOXES, PANOPTIC).splitlines() == [
        'class      IoU      AP    AP50      PQ      SQ      RQ',
        'road      95.1       -       -    40.0    80.0    50.0',
        'car       30.0    25.0    50.0    20.0    40.0    50.0',
        'sky          -       -       -       -       -       -',
        'person       -       -       -       -       -       -',
        'mean      62.5    25.0    50.0    30.0    60.0    50.0',
        'things       -       -       -    20.0    40.0    50.0',
        'stuff        -       -       -    40.0    80.0       -',
    ]
    assert scores_table(None, None, PANOPTIC).splitlines()[-1].split() == ['stuff', '40.0', '80.0', '-']


def test_fusions_side_by_side():
    fusions = {'boxes': GradeScores(SEMANTIC, BOXES, PANOPTIC), 'efficientps': GradeScores(SEMANTIC, None, None)}
    assert fusions_table(fusions).splitlines() == [
        'fusion           PQ      SQ      RQ  things   stuff      AP',
        'boxes          30.0    60.0    50.0    20.0    40.0    25.0',
        'efficientps       -       -       -       -       -       -',
    ]


def test_scores_as_json():
    found = GradeScores(SEMANTIC, None, PANOPTIC).to_dict()
    assert list(found) == ['semantic', 'boxes', 'panoptic', 'depth', 'motion']
    assert found['depth'] is found['motion'] is None
    assert found['boxes'] is None
    assert found['panoptic']['rq_stuff'] is None
    assert found['panoptic']['pq_per_class'] == {'road': 0.4, 'car': 0.2, 'sky': None}
    assert found['semantic']['miou'] == 0.6255


def test_sizes_in_one_line():
    line = sizes_line(dataclasses.replace(BOXES, ap_small=0.123, ap_medium=math.nan, ap_large=1.0).to_dict())
    assert line == 'AP by size: 12.3 below 32x32 px, - up to 96x96 px, 100.0 above'


def test_depth_and_motion_in_one_line():
    assert depth_line(DepthScores(abs_rel=0.1234, rmse_m=4.567, delta1=0.5)) == (
        'depth: mean relative error 12.3, RMSE 4.57 m, less than 1.25 times off 50.0'
    )
    assert depth_line(DepthScores(math.nan, math.nan, math.nan)) == 'depth: -'
    line = motion_line(MotionScores(motion_miou=1.0, moving_iou=math.nan, static_iou=1.0))
    assert line == 'motion: IoU - of what moves, 100.0 of the rest, mean 100.0'


def test_one_side_alone():
    assert scores_table(SEMANTIC, None).splitlines()[0].split() == ['class', 'IoU']
    assert scores_table(None, BOXES).splitlines()[-1].split() == ['mean', '25.0', '50.0']
    assert [line.split()[0] for line in scores_table(None, BOXES).splitlines()] == ['class', 'car', 'person', 'mean']
