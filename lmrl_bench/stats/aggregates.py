"""A row's scores on all tasks as one number: IQM, mean, optimality gap, profile, probability of improvement.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice". Scores
are normalised, higher is better. Axes: `R` bootstrap replicates, `S` seeds, `K` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Counts = NDArray[np.float32] | NDArray[np.float64]


def running_totals(counts: Counts) -> Counts:
    """Returns the sums of the first rows of `(N, …)`, of none to all of them: `(N + 1, …)`."""
    totals = np.zeros((len(counts) + 1, *counts.shape[1:]), counts.dtype)
    for row, count in enumerate(counts):  # faster than cumsum, where rows are long
        totals[row + 1] = totals[row] + count
    return totals


def mean_score(scores: FloatArray, counts: Counts | None = None) -> FloatArray:
    """Returns the mean over seeds and tasks.

    Args:
        scores: `(S, K)`.
        counts: `(K, S, R)`, how often each score was drawn; without it, each stands once.

    Returns:
        `(R,)`, or one number.
    """
    if counts is None:
        return np.asarray(scores.mean())
    return _weighted_sum(scores.T.ravel(), counts.reshape(scores.size, -1)) / scores.size


def interquartile_mean(scores: FloatArray, counts: Counts | None = None) -> FloatArray:
    """As `mean_score`, of the middle half of all seeds of all tasks.

    A quarter of the values, rounded down, is cut off on each side; of fewer than four none is, and
    the result is the mean.
    """
    cut, end = scores.size // 4, scores.size - scores.size // 4
    if counts is None:
        return np.asarray(np.sort(scores, axis=None)[cut:end].mean())
    order = scores.T.argsort(axis=None)
    # How many values there are up to each one, as far as they are in the middle, and so how often it stands there.
    reached = running_totals(counts.reshape(scores.size, -1)[order]).clip(cut, end)
    return _weighted_sum(scores.T.ravel()[order], np.diff(reached, axis=0)) / (end - cut)


def optimality_gap(scores: FloatArray, counts: Counts | None = None) -> FloatArray:
    """Returns how far scores stay below 1 on average, as `mean_score`; less is better.

    What lies above does not make up for what lies below.
    """
    return 1.0 - mean_score(np.minimum(scores, 1.0), counts)


def _weighted_sum(values: FloatArray, weights: Counts) -> FloatArray:
    """Returns the sum `(R,)` of values `(N,)` times weights `(N, R)`; BLAS would round as the processor likes."""
    return np.asarray((values[:, None] * weights).sum(axis=0))


def performance_profile(scores: FloatArray, thresholds: Sequence[float]) -> FloatArray:
    """Returns the share of the scores `(S, K)` above each threshold."""
    return np.array([(scores > threshold).mean() for threshold in thresholds])


def wins(first: FloatArray, second: FloatArray) -> FloatArray:
    """Compares every run with every run: 1 where the first is better, ½ where they are equal.

    Args:
        first: `(S, K)`.
        second: `(S', K)`.

    Returns:
        `(K, S, S')`.
    """
    mine, theirs = first.T[:, :, None], second.T[:, None, :]
    return np.asarray((mine > theirs) + 0.5 * (mine == theirs))


def probability_of_improvement(first: FloatArray, second: FloatArray) -> float:
    """Returns how probably a run of the first, `(S, K)`, beats one of the second on a random task.

    Ties count one half.
    """
    return float(wins(first, second).mean())
