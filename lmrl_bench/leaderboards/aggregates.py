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


def once(scores: FloatArray) -> FloatArray:
    """Returns the counts `(K, S)` of scores `(S, K)` that are taken as they are."""
    return np.ones(scores.T.shape)


def running_totals(counts: Counts) -> Counts:
    """Returns the sums of the first rows of `(N, …)`, of none to all of them: `(N + 1, …)`."""
    totals = np.zeros((len(counts) + 1, *counts.shape[1:]), counts.dtype)
    for row, count in enumerate(counts):  # of long rows eight times as fast as cumsum
        totals[row + 1] = totals[row] + count
    return totals


def mean_score(scores: FloatArray, counts: Counts) -> FloatArray:
    """Returns the mean over seeds and tasks: of scores `(S, K)`, each as often as it counts `(K, S, …)`, `(…)`."""
    return np.asarray(np.tensordot(scores.T, counts, axes=2) / scores.size)


def interquartile_mean(scores: FloatArray, counts: Counts) -> FloatArray:
    """As `mean_score`, of the middle half of all seeds of all tasks.

    A quarter of the values, rounded down, is cut off on each side; of fewer than four none is, and
    the result is the mean.
    """
    size, cut = scores.size, scores.size // 4
    order = scores.T.argsort(axis=None)
    # How many values there are up to each one, as far as they are in the middle, and so how often it stands there.
    reached = running_totals(counts.reshape(size, *counts.shape[2:])[order])
    middle = np.diff(reached.clip(cut, size - cut), axis=0)
    return np.asarray(scores.T.ravel()[order] @ middle / (size - 2 * cut))


def optimality_gap(scores: FloatArray, counts: Counts) -> FloatArray:
    """Returns how far scores stay below 1 on average, as `mean_score`; less is better.

    What lies above does not make up for what lies below.
    """
    return 1.0 - mean_score(np.minimum(scores, 1.0), counts)


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
