"""A row's scores on all tasks as one number: IQM, mean, optimality gap, profile, probability of improvement.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice". Scores
are normalised, higher is better. Axes: `R` bootstrap replicates, `S` seeds, `K` tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def mean_score(scores: FloatArray) -> FloatArray:
    """Returns the mean over seeds and tasks: `(…, S, K)` to `(…)`."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Returns the mean of the middle half of all seeds of all tasks: `(…, S, K)` to `(…)`.

    A quarter of the values, rounded down, is cut off on each side; of fewer than four none is, and
    the result is the mean.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    cut, end = flat.shape[-1] // 4, flat.shape[-1] - flat.shape[-1] // 4
    middle = np.sort(flat, axis=-1)[..., cut:end]  # faster than np.partition, which has two bounds
    return np.asarray(middle.mean(axis=-1))


def optimality_gap(scores: FloatArray, target: float = 1.0) -> FloatArray:
    """Returns how far scores stay below the target on average: `(…, S, K)` to `(…)`; less is better.

    What lies above the target does not make up for what lies below.
    """
    return np.asarray(target - np.minimum(scores, target).mean(axis=(-2, -1)))


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
