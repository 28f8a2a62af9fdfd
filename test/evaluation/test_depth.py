from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from sembox_ros.errors import InputError
from sembox_ros.evaluation.depth import DepthError

METRES = nps.arrays(np.float32, (3, 4), elements=st.floats(0, 120, width=32))


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_by_hand() -> None:
    metric = DepthError()
    metric.update(row(10.0, 24.0, 3.0, 7.0), row(10.0, 20.0, 0.0, 81.0))  # two are known: right, and a fifth too far
    scores = metric.compute()
    assert scores.abs_rel == pytest.approx(0.1, abs=1e-8)
    assert scores.rmse_m == pytest.approx(math.sqrt(8), abs=1e-8)
    assert scores.delta1 == 1.0
    metric.update(row(30.0, 500.0), row(10.0, 80.0))  # three times too far; clipped to what is graded
    scores = metric.compute()
    assert scores.abs_rel == pytest.approx((0.1 + 1.0) / 2, abs=1e-8)
    assert scores.rmse_m == pytest.approx((math.sqrt(8) + math.sqrt(200)) / 2, abs=1e-8)
    assert scores.delta1 == 0.75


def test_images_without_truth_count_as_none() -> None:
    metric = DepthError()
    metric.update(row(5.0), row(0.0))
    assert math.isnan(metric.compute().abs_rel)
    assert metric.compute().to_dict() == {'abs_rel': None, 'rmse_m': None, 'delta1': None}


@given(images=st.lists(st.tuples(METRES, METRES), max_size=6), cut=st.integers(0, 6))
def test_parts_merge_to_exactly_the_whole(images: list[tuple[np.ndarray, np.ndarray]], cut: int) -> None:
    whole, first, second = DepthError(), DepthError(), DepthError()
    for index, (pred, gt) in enumerate(images):
        whole.update(pred, gt)
        (first if index < cut else second).update(pred, gt)
    restored = DepthError()
    restored.restore(second.counts())
    restored.merge(first)
    np.testing.assert_array_equal(restored.counts(), whole.counts())
    scores = whole.compute()
    assert math.isnan(scores.abs_rel) or (scores.abs_rel >= 0 and scores.rmse_m >= 0 and 0 <= scores.delta1 <= 1)
    restored.reset()
    assert not restored.counts().any()


def test_what_does_not_fit_is_refused() -> None:
    metric = DepthError()
    with pytest.raises(InputError, match=r'pred: expected shape \(1, 2\)'):
        metric.update(row(1.0), row(1.0, 2.0))
    with pytest.raises(InputError, match='gt: expected dtype float32'):
        metric.update(row(1.0), row(1.0).astype(np.float64))
    with pytest.raises(InputError, match='pred: expected metres, got NaN'):
        metric.update(row(math.nan), row(1.0))
    for counts in (np.zeros(3, np.int64), np.zeros(4), np.array([1, -1, 0, 0])):
        with pytest.raises(InputError, match='depth: expected'):
            metric.restore(counts)
    assert not metric.counts().any()
