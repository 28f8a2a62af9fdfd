"""Percentiles worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sembox_ros.errors import InputError
from sembox_ros.evaluation.latency import summarize_ms


def test_by_hand():
    # 0..100 has its percentiles at their own values; the order makes no difference.
    assert summarize_ms(list(range(100, -1, -1))) == {'p50': 50, 'p95': 95, 'p99': 99, 'mean': 50, 'max': 100}
    assert summarize_ms(np.array([1, 2], np.float32)) == pytest.approx(
        {'p50': 1.5, 'p95': 1.95, 'p99': 1.99, 'mean': 1.5, 'max': 2}
    )
    assert set(map(type, summarize_ms(np.ones(1, np.float32)).values())) == {float}  # of Python, for JSON


@pytest.mark.parametrize('values', [[], [1.0, math.nan], [math.inf], np.ones((2, 2))])
def test_refused(values):
    with pytest.raises(InputError, match='values: expected one or more finite milliseconds, got'):
        summarize_ms(values)
