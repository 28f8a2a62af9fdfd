"""Latencies in the few numbers by which they compare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sembox_ros.errors import InputError


def summarize_ms(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Percentiles, mean and maximum of latencies.

    Args:
        values: (N,) milliseconds, at least one.

    Returns:
        `p50`, `p95`, `p99` (linear between the two nearest values), `mean` and `max`, milliseconds.

    Raises:
        InputError: there is no value, or one is NaN or infinite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InputError(f'values: expected one or more finite milliseconds, got {values!r:.80}')
    p50, p95, p99 = np.percentile(array, (50, 95, 99)).tolist()
    return {'p50': p50, 'p95': p95, 'p99': p99, 'mean': float(array.mean()), 'max': float(array.max())}
