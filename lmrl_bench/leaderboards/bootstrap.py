"""The stratified bootstrap over seeds: runs are drawn again within each task, so no task gains weight.

Percentile intervals of few seeds are too narrow (82 to 86 % coverage in place of 95 % at three
seeds): they are widened by √(n/(n-1)), the factor by which a resampled variance falls short. The
stream of random numbers depends on the table and the row alone, so everyone computes the same
interval, in whatever order seeds, tasks or rows come.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lmrl_bench.leaderboards.aggregates import (
    FloatArray,
    probability_of_improvement,
    wins,
)
from lmrl_bench.leaderboards.statistics import LEVEL, Interval
from lmrl_bench.seeding import generator

REPLICATES = 20_000
Statistic = Callable[[FloatArray], FloatArray]


def stream(table_digest: str, *names: str) -> np.random.Generator:
    """Returns the generator of a row or a pair of rows in the table with this digest (hex)."""
    return generator(int(table_digest[:15], 16), "bootstrap", *names)


def resampled(
    scores: FloatArray, rng: np.random.Generator, replicates: int = REPLICATES
) -> FloatArray:
    """Draws the seeds of each task again, with replacement.

    Args:
        scores: `(S, K)`; the order of the seeds does not matter.
        rng: The row's stream.
        replicates: How many, `R`.

    Returns:
        `(R, S, K)`.
    """
    seeds, tasks = scores.shape
    drawn = rng.integers(seeds, size=(replicates, seeds, tasks))
    return np.asarray(np.sort(scores, axis=0)[drawn, np.arange(tasks)])


def bootstrap_interval(
    scores: FloatArray, statistic: Statistic, rng: np.random.Generator, replicates: int = REPLICATES
) -> Interval:
    """Returns a statistic of the scores `(S, K)` with its widened percentile interval.

    Raises:
        ValueError: Fewer than two seeds.
    """
    drawn = statistic(resampled(scores, rng, replicates))
    return widened(float(statistic(scores)), drawn, len(scores))


def improvement_interval(
    first: FloatArray, second: FloatArray, rng: np.random.Generator, replicates: int = REPLICATES
) -> Interval:
    """Returns the probability of improvement of `(S, K)` over `(S', K)` with its interval, in [0, 1].

    Raises:
        ValueError: Fewer than two seeds on one side.
    """
    table = wins(np.sort(first, axis=0), np.sort(second, axis=0))
    shares = [_shares(len(side), (replicates, table.shape[0]), rng) for side in (first, second)]
    drawn = np.einsum("rka,kab,rkb->r", shares[0], table, shares[1]) / table.shape[0]
    point = probability_of_improvement(first, second)
    found = widened(point, drawn, min(len(first), len(second)))
    return Interval(point, max(found.low, 0.0), min(found.high, 1.0))


def widened(point: float, drawn: FloatArray, seeds: int, level: float = LEVEL) -> Interval:
    """Returns the percentile interval of the replicates, widened about the point by √(n/(n-1)).

    Raises:
        ValueError: Fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError("an interval needs at least two seeds")
    low, high = map(float, np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2]))
    factor = math.sqrt(seeds / (seeds - 1))
    # An interval contains its point, also where a skew statistic's replicates all lie on one side.
    below, above = max(point - low, 0.0), max(high - point, 0.0)
    return Interval(point, point - factor * below, point + factor * above)


def _shares(seeds: int, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """How often each seed is drawn: `(R, K, S)`, in shares of one."""
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=shape) / seeds
