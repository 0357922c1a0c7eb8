"""Intervals over seeds: Student's t for a mean, Welch's for a difference.

The sample is the training run, never the episode. Intervals are parametric, because with three to
five seeds a percentile bootstrap covers far less than it promises (75 to 83 % instead of 95 % for
normal values), while Student's t keeps its level. Collapsed runs violate both, so they are shown
separately.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

LEVEL = 0.95
MINIMUM_SEEDS = 3


class Interval(NamedTuple):
    """A point estimate with the bounds of its interval."""

    mean: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Returns whether the value is inside, including the bounds."""
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
    mean, variance = _moments(values)
    return _around(mean, math.sqrt(variance / len(values)), len(values) - 1, level)


def prediction_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Returns mean ± t(n-1) · sd · √(1 + 1/n), the range expected for another run.

    Args:
        values: `(S,)`, one number per training run, without the new run.
        level: Nominal coverage.

    Raises:
        ValueError: Fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("an interval needs at least two values")
    mean, variance = _moments(values)
    error = math.sqrt(variance * (1 + 1 / len(values)))
    return _around(mean, error, len(values) - 1, level)


def difference_interval(
    first: Sequence[float], second: Sequence[float], level: float = LEVEL
) -> Interval:
    """Returns Welch's interval of mean(first) - mean(second); variances may differ.

    The degrees of freedom are Welch's and Satterthwaite's. Two samples without spread give an
    interval of width zero.

    Raises:
        ValueError: Fewer than two values on one side.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("an interval needs at least two values on each side")
    (a, variance_a), (b, variance_b) = _moments(first), _moments(second)
    parts = (variance_a / len(first), variance_b / len(second))
    total = sum(parts)
    if total == 0.0:
        return Interval(a - b, a - b, a - b)
    # Normalized first: tiny variances must not underflow when squared.
    shares = [part / total for part in parts]
    freedom = 1.0 / (shares[0] ** 2 / (len(first) - 1) + shares[1] ** 2 / (len(second) - 1))
    return _around(a - b, math.sqrt(total), freedom, level)


def overlap(first: Interval, second: Interval) -> bool:
    """Returns whether the two intervals share a point."""
    return first.low <= second.high and second.low <= first.high


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Returns mean and unbiased variance; for a few numbers this is faster than numpy."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _around(mean: float, error: float, freedom: float, level: float) -> Interval:
    # Same as stats.t.ppf, without its 0.3 ms of checks for every number of a table.
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    return Interval(mean, mean - half, mean + half)
