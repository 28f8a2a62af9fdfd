from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from drives import LABELS
from hypothesis import given
from hypothesis import strategies as st

from sembox_ros.labels import SceneLabels
from sembox_ros.replay.grading import BINS, WORST, FrameRow, ReplayGrader, count_stamps, latency_histogram, write_rows
from sembox_ros.replay.parts import FrameRecord
from sembox_ros.replay.truth import Truth
from sembox_ros.types import Detections, Scene

SECOND = 10**9


def row(index: int, stamp_ns: int, camera: str = '', **values: object) -> FrameRow:
    received_ns = values.pop('received_ns', index)
    return FrameRow(index, camera, stamp_ns, received_ns, received_ns, values.pop('problem', ''), **values)


@pytest.mark.parametrize(
    ('stamps', 'expected'),
    [
        ([1, 2, 3], (0, 0, 0)),
        ([0, 0, 5, 0], (3, 0, 0)),
        ([5, 5, 6, 5], (0, 2, 0)),
        ([100, 3, 4, 5], (0, 0, 1)),  # one step back, however far
        ([-5, -4, -6], (0, 0, 1)),
    ],
)
def test_stamps_are_counted(stamps, expected):
    rows = [row(index, stamp) for index, stamp in enumerate(stamps)]
    assert tuple(count_stamps(reversed(rows)).values()) == expected


def test_cameras_have_stamps_of_their_own():
    rows = [row(0, 9, 'left'), row(1, 9, 'right'), row(2, 8, 'right'), row(3, 10, 'left')]
    assert count_stamps(rows) == {'zero': 0, 'duplicate': 0, 'backwards': 1}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_a_histogram_counts_every_value(values):
    found = latency_histogram('total', values)
    assert sum(found['counts']) == len(values)
    assert len(found['edges_ms']) == len(found['counts']) + 1
    assert found['edges_ms'] == sorted(found['edges_ms'])


def grader(duration_s: float) -> ReplayGrader:
    return ReplayGrader(LABELS, None, score_threshold=0.5, start_ns=SECOND, duration_s=duration_s)


def add(grader: ReplayGrader, index: int, at_s: float, *, value: int = 0, problem: str = '', ms: float = 8.0) -> None:
    received_ns = SECOND + round(at_s * SECOND)
    record = FrameRecord(index, '', received_ns, received_ns, problem, {} if problem else {'network': ms})
    boxes = Detections(np.zeros((2, 4), np.float32), np.zeros(2, np.int64), np.array([0.9, 0.1], np.float32))
    mask = np.full((8, 8), value, np.uint8)
    grader.add(record, None if problem else Scene((8, 8), semantic=mask, detections=boxes))


def test_the_timeline_is_in_bins_of_time():
    some = grader(2.0)
    for index, (at_s, problem, ms) in enumerate([(0, '', 4), (0.4, '', 6), (0.4, 'torn', 0), (1.6, '', 9)]):
        add(some, index, at_s, problem=problem, ms=ms, value=index)
    timeline = some.timeline()
    assert timeline['t_s'] == [0.0, 0.5, 1.0, 1.5]
    assert timeline['processed'] == [2, 0, 0, 1]
    assert timeline['skipped'] == [1, 0, 0, 0]
    assert timeline['latency_ms'] == [5.0, None, None, 9.0]
    assert timeline['boxes'] == [1.0, None, None, 1.0]  # those above the threshold
    assert timeline['miou'] == [None] * 4
    assert timeline['mask_agreement'][0] == 0.0
    shares = timeline['class_share']
    assert list(shares) == [LABELS.semantic.names[i] for i in (0, 1, 3)]
    assert shares['road'] == [0.5, None, None, 0.0]
    assert some.timeline({0: 70.0, 3: 90.0})['latency_ms'] == [70.0, None, None, 90.0]
    assert some.frames(5, 1) == {
        'in_bag': 5, 'processed': 3, 'skipped': {'torn': 1}, 'lost': 1,
        'stamps': {'zero': 0, 'duplicate': 1, 'backwards': 0},
    }  # fmt: skip


@given(st.floats(0, 1e5), st.lists(st.floats(-10, 2e5), min_size=1, max_size=20))
def test_the_timeline_has_so_many_bins_at_most(duration_s, times):
    some = grader(duration_s)
    for index, at_s in enumerate([*times, duration_s]):
        add(some, index, at_s)
    timeline = some.timeline()
    assert len(timeline['t_s']) <= BINS
    assert sum(timeline['processed']) == len(times) + 1
    assert {len(values) for name, values in timeline.items() if isinstance(values, list)} == {len(timeline['t_s'])}


@dataclass(frozen=True)
class OneTruth:
    """The same for every frame."""

    truth: Truth
    labels: SceneLabels = LABELS
    description: str = 'one'
    unusable: Mapping[str, int] = field(default_factory=dict)

    def find(self, camera: str, stamp_ns: int) -> Truth:  # noqa: ARG002
        return self.truth


def two_cars(numbers: tuple[int, int]) -> Scene:
    """Road with two cars side by side, which have these numbers."""
    road, car = (LABELS.semantic.names.index(name) for name in ('road', 'car'))
    instances = np.zeros((8, 8), np.uint16)
    instances[2:5, 1:4], instances[2:5, 4:7] = numbers
    mask = np.full((8, 8), road, np.uint8)
    mask[2:5, 1:7] = car
    boxes = np.array([[1, 2, 4, 5], [4, 2, 7, 5]], np.float32)
    detections = Detections(boxes, np.full(2, 2), np.array([0.9, 0.8], np.float32), np.array([30, 4]))
    return Scene((8, 8), mask, detections=detections, instances=instances)


def grade_cars(numbers: tuple[int, int], truth_numbers: tuple[int, int], **known: object) -> tuple[dict, FrameRow]:
    cars = two_cars(truth_numbers)
    boxes = cars.detections
    truth = Truth(cars.semantic, boxes.boxes_xyxy, boxes.class_ids, np.zeros(2, bool), cars.instances)
    source = OneTruth(dataclasses.replace(truth, **known))
    some = ReplayGrader(LABELS, source, score_threshold=0.5, start_ns=0, duration_s=1.0)
    some.add(FrameRecord(0, '', 5, 5), two_cars(numbers))
    return some.accuracy(), some.rows[0]


@pytest.mark.parametrize(
    ('numbers', 'car', 'pq'),
    [
        ((30, 4), 1.0, 1.0),
        ((4, 30), 1.0, 1.0),  # whose number is whose does not matter
        ((30, 30), 0.0, 0.5),  # one segment over both, IoU 0.5: one too many, two missed
        ((30, 0), 2 / 3, 5 / 6),  # a car without its pixels is missed
    ],
)
def test_scenes_are_graded_by_their_segments(numbers: tuple[int, int], car: float, pq: float):
    accuracy, row = grade_cars(numbers, (1, 2))
    assert accuracy['panoptic']['pq_per_class']['car'] == pytest.approx(car)
    assert accuracy['panoptic']['pq_things'] == pytest.approx(car)
    assert accuracy['panoptic']['pq'] == row.pq == pytest.approx(pq)
    assert accuracy['scenes'] == accuracy['masks'] == 1
    assert row.miou == 1


def test_ground_truth_without_instances_gives_no_pq():
    accuracy, row = grade_cars((30, 4), (1, 2), instances=None)
    assert (accuracy['panoptic'], accuracy['scenes'], accuracy['masks']) == (None, 0, 1)
    assert 'no PQ: no image of instances in the ground truth' in accuracy['notes']
    assert math.isnan(row.pq)
    assert row.miou == 1


def test_instances_that_do_not_fit_cost_only_the_pq_of_their_frame():
    accuracy, row = grade_cars((30, 4), (1, 2), instances=np.zeros((4, 4), np.uint16))
    assert accuracy['panoptic'] is None
    assert row.miou == 1
    assert any('does not fit its frame: instances: expected shape (8, 8), got (4, 4)' in n for n in accuracy['notes'])


def test_depth_and_motion_are_graded_where_both_sides_have_them():
    mask = np.zeros((2, 2), np.uint8)
    depth = np.array([[2, 4], [0, 10]], np.float32)  # one is unknown
    motion = np.array([[1, 0], [255, 0]], np.uint8)
    seen = Scene((2, 2), mask, depth=np.array([[3, 4], [9, 5]], np.float32), motion=np.array([[1, 1], [1, 0]], bool))
    truths = [Truth(mask, depth=depth, motion=motion), Truth(mask, depth=depth[:1], motion=motion), Truth(mask)]
    accuracies, rows = [], []
    for truth in truths:
        some = ReplayGrader(LABELS, OneTruth(truth), score_threshold=0.5, start_ns=0, duration_s=1.0)
        some.add(FrameRecord(0, '', 5, 5), seen)
        accuracies.append(some.accuracy())
        rows.append(some.rows[0])
    whole, misfit, without = accuracies
    assert (whole['depths'], whole['motions'], whole['masks']) == (1, 1, 1)
    assert whole['depth'] == pytest.approx({'abs_rel': (0.5 + 0 + 0.5) / 3, 'rmse_m': (26 / 3) ** 0.5, 'delta1': 1 / 3})
    assert whole['motion'] == pytest.approx({'motion_miou': 0.5, 'moving_iou': 0.5, 'static_iou': 0.5})
    assert (rows[0].abs_rel, rows[0].motion_miou) == (pytest.approx(1 / 3), 0.5)
    assert (misfit['depth'], misfit['motion'], misfit['masks']) == (None, whole['motion'], 1)
    assert any('does not fit its frame: pred: expected shape (1, 2)' in note for note in misfit['notes'])
    assert without['depth'] is without['motion'] is None
    assert (without['depths'], without['motions'], without['masks']) == (0, 0, 1)
    assert math.isnan(rows[2].abs_rel)
    assert math.isnan(rows[2].motion_miou)


def test_nothing_at_all_is_a_report_too():
    none = grader(0.0)
    assert none.latencies() == ({}, None)
    assert none.stability() is none.accuracy() is None
    assert none.worst() == []
    assert none.timeline()['t_s'] == []


@pytest.mark.parametrize('name', ['miou', 'mask_agreement'])
def test_the_worst_frames_are_a_second_apart(name):
    some = grader(100.0)
    for index in range(200):
        value = math.nan if index == 0 else abs(index - 100.25) / 200  # frame 100 is the worst
        some.rows.append(row(index, index, received_ns=index * SECOND // 10, **{name: value}))
    worst = some.worst()
    assert [found.index for found, _, _ in worst[:3]] == [100, 110, 90]
    assert len(worst) == WORST
    assert {measure for _, measure, _ in worst} == {'mIoU' if name == 'miou' else 'mask agreement'}
    times = sorted(found.received_ns for found, _, _ in worst)
    assert min(np.diff(times)) >= SECOND


def test_the_table_has_a_line_per_frame(tmp_path: Path):
    rows = [row(0, 5, 'left', boxes=3, miou=0.25, pq=0.5), row(1, 0, problem='torn, and\nmore')]
    write_rows(rows, tmp_path / 'frames.csv')
    with (tmp_path / 'frames.csv').open(newline='') as file:
        first, second = csv.DictReader(file)
    assert (first['camera'], first['stamp_ns'], first['boxes'], first['miou'], first['pq'], first['total_ms']) == (
        'left', '5', '3', '0.25', '0.5', '',
    )  # fmt: skip
    assert second['problem'] == 'torn, and\nmore'


def test_the_digest_is_that_of_every_box_and_pixel():
    digests = []
    for value, at_s in ((0, 0.0), (0, 0.0), (1, 0.0), (0, 0.1)):
        some = grader(1.0)
        add(some, 0, at_s, value=value)
        digests.append(some.digest())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    cars = []
    for numbers in ((30, 4), (30, 4), (4, 30)):
        some = grader(1.0)
        some.add(FrameRecord(0, '', 5, 5), two_cars(numbers))
        cars.append(some.digest())
    assert cars[0] == cars[1] != cars[2]
