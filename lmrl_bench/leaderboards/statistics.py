"""Statistics over seeds: Student-t intervals of a mean, Welch intervals of a difference.

The sample is the training run, never the episode. Intervals are parametric because at three to five
seeds a percentile bootstrap covers far less than it promises (75 to 83 % in place of 95 %, normal
values), while Student's t keeps its level; runs that collapse break both, so they are shown apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
MINIMUM_SEEDS = 3


class Interval(NamedTuple):
    """A point estimate and the bounds of its interval."""

    mean: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """True if the value lies inside, bounds included."""
        return self.low <= value <= self.high


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Returns mean ± t(n-1) · sd / √n over `S` seeds.

    Args:
        values: `(S,)`, one number per training run.
        level: Nominal coverage.

    Raises:
        ValueError: Fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("an interval needs at least two values")
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    error = float(sample.std(ddof=1)) / np.sqrt(len(sample))
    return _around(mean, error, len(sample) - 1, level)


def prediction_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Returns mean ± t(n-1) · sd · √(1 + 1/n): where one more run of the same kind is expected.

    Args:
        values: `(S,)`, one number per training run; the new run is none of them.
        level: Nominal coverage.

    Raises:
        ValueError: Fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("an interval needs at least two values")
    sample = np.asarray(values, dtype=np.float64)
    error = float(sample.std(ddof=1)) * np.sqrt(1 + 1 / len(sample))
    return _around(float(sample.mean()), error, len(sample) - 1, level)


def difference_interval(
    first: Sequence[float], second: Sequence[float], level: float = LEVEL
) -> Interval:
    """Returns Welch's interval of mean(first) - mean(second); variances may differ.

    The degrees of freedom are Welch and Satterthwaite's. Two rows without any spread give an
    interval of width zero.

    Raises:
        ValueError: Fewer than two values on one side.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("an interval needs at least two values on each side")
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean = float(a.mean() - b.mean())
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    total = float(parts.sum())
    if total == 0.0:
        return Interval(mean, mean, mean)
    shares = parts / total  # normalised first: tiny variances must not underflow when squared
    freedom = 1.0 / float((shares**2 / np.array([len(a) - 1, len(b) - 1])).sum())
    return _around(mean, float(np.sqrt(total)), freedom, level)


def overlap(first: Interval, second: Interval) -> bool:
    """True if the two intervals share a point."""
    return first.low <= second.high and second.low <= first.high


def _around(mean: float, error: float, freedom: float, level: float) -> Interval:
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * float(error)
    return Interval(mean, mean - half, mean + half)
