"""Aggregates scores over tasks: IQM, mean, optimality gap, profile, probability of improvement.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice". Scores
are normalized, higher is better. Axes: `R` bootstrap replicates, `S` seeds, `K` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Counts = NDArray[np.float32] | NDArray[np.float64]


def running_totals(counts: Counts) -> Counts:
    """Returns cumulative sums of `(N, …)` along the first axis, starting with 0: `(N + 1, …)`."""
    totals = np.zeros((len(counts) + 1, *counts.shape[1:]), counts.dtype)
    for row, count in enumerate(counts):  # faster than cumsum for long rows
        totals[row + 1] = totals[row] + count
    return totals


def mean_score(scores: FloatArray, counts: Counts | None = None) -> FloatArray:
    """Returns the mean over seeds and tasks.

    Args:
        scores: `(S, K)`.
        counts: How often each score was drawn, `(K, S, R)`; by default once each.

    Returns:
        `(R,)`, or a single number.
    """
    if counts is None:
        return np.asarray(scores.mean())
    return _weighted_sum(scores.T.ravel(), counts.reshape(scores.size, -1)) / scores.size


def interquartile_mean(scores: FloatArray, counts: Counts | None = None) -> FloatArray:
    """Like `mean_score`, for the middle half of the scores of all seeds and tasks.

    Drops a quarter of the values (rounded down) on each side; with fewer than four values none is
    dropped, and the result is the mean.
    """
    cut, end = scores.size // 4, scores.size - scores.size // 4
    if counts is None:
        return np.asarray(np.sort(scores, axis=None)[cut:end].mean())
    order = scores.T.argsort(axis=None)
    # Cumulative counts, clipped to the middle half: their differences are the weights in it.
    reached = running_totals(counts.reshape(scores.size, -1)[order]).clip(cut, end)
    return _weighted_sum(scores.T.ravel()[order], np.diff(reached, axis=0)) / (end - cut)


def optimality_gap(scores: FloatArray, counts: Counts | None = None) -> FloatArray:
    """Returns the mean shortfall of scores below 1, like `mean_score`; lower is better.

    Scores above 1 do not compensate for scores below.
    """
    return 1.0 - mean_score(np.minimum(scores, 1.0), counts)


def _weighted_sum(values: FloatArray, weights: Counts) -> FloatArray:
    """Returns the sum `(R,)` of values `(N,)` times weights `(N, R)`; BLAS rounds by processor."""
    return np.asarray((values[:, None] * weights).sum(axis=0))


def performance_profile(scores: FloatArray, thresholds: Sequence[float]) -> FloatArray:
    """Returns the share of scores `(S, K)` above each threshold."""
    return np.array([(scores > threshold).mean() for threshold in thresholds])


def wins(first: FloatArray, second: FloatArray) -> FloatArray:
    """Compares all pairs of runs: 1 if the first is better, ½ for a tie.

    Args:
        first: `(S, K)`.
        second: `(S', K)`.

    Returns:
        `(K, S, S')`.
    """
    mine, theirs = first.T[:, :, None], second.T[:, None, :]
    return np.asarray((mine > theirs) + 0.5 * (mine == theirs))


def probability_of_improvement(first: FloatArray, second: FloatArray) -> float:
    """Returns the probability that a run of the first, `(S, K)`, beats one of the second.

    Averaged over tasks; ties count one half.
    """
    return float(wins(first, second).mean())
