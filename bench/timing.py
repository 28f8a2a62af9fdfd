"""Measuring side by side: every candidate once per round, in an order that changes from round to round.

Nothing here knows what is measured; `run.py` and `gpu.py` share it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

Sample = Mapping[str, float]  # what one run gave: measure -> value, e.g. {'ms': 12.5}
Candidate = Callable[[], Sample]


class Summary(NamedTuple):
    """Quantiles of one measure over the rounds, in its own unit."""

    median: float
    p10: float
    p90: float
    rounds: int


def timed(run: Callable[[], object]) -> Candidate:
    """A candidate whose one measure, `ms`, is the wall time of `run`."""

    def sample() -> Sample:
        start = time.perf_counter()
        run()
        return {'ms': (time.perf_counter() - start) * 1e3}

    return sample


def order_of_round(names: Sequence[str], number: int) -> list[str]:
    """The names in the order of that round: shuffled, but the same in every run.

    A fixed or merely rotated order would give each candidate the same predecessor, whose data is still in the cache.
    """
    return random.Random(number).sample(list(names), len(names))


def measure_rounds(
    candidates: Mapping[str, Candidate],
    samples: dict[str, list[Sample]],
    *,
    rounds: int,
    warmup: int = 1,
    pause_s: float = 0.0,
    title: str = '',
) -> None:
    """Run every candidate `warmup` times unmeasured, then once per round.

    Args:
        candidates: name -> what gives one sample.
        samples: name -> samples, one per round; filled in place, so that an interrupted measurement keeps its rounds.
        rounds: measured runs of each.
        warmup: runs of each before them.
        pause_s: idle time before each run, in which the threads of the last candidate stop spinning for more work.
        title: words before the progress bar.
    """
    samples.update({name: [] for name in candidates})
    with tqdm(total=(warmup + rounds) * len(candidates), desc=title, unit='run', leave=False) as bar:
        for number in range(-warmup, rounds):
            for name in order_of_round(list(candidates), number):
                bar.set_postfix_str(name)
                time.sleep(pause_s)
                sample = candidates[name]()
                if number >= 0:
                    samples[name].append(sample)
                bar.update()


def summarise(values: Sequence[float]) -> Summary:
    """Median and the 10th and 90th percentile.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError('values: expected at least one, got none')
    p10, p90 = np.percentile(values, (10, 90))
    return Summary(statistics.median(values), float(p10), float(p90), len(values))


def speed_ratio(reference: Sequence[Sample], own: Sequence[Sample], measure: str = 'ms') -> float | None:
    """How many times faster than the reference: the median over rounds of reference / own; None without a common round.

    Both sides of each quotient come from one round, so that what slows a whole round down cancels out.
    """
    quotients = [a[measure] / b[measure] for a, b in zip(reference, own, strict=False)]
    return statistics.median(quotients) if quotients else None
