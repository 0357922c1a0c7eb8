"""Many rows compared at once: p-values corrected for their number, groups of ties, intervals of ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from lmrl_bench.stats.aggregates import FloatArray

Beats = Callable[[str, str], bool]
"""Whether the first row is better than the second, beyond what chance explains."""


def welch_p_values(first: FloatArray, second: FloatArray) -> FloatArray:
    """Returns the two-sided p-values of Welch's t-tests of equal means, one per row `(N,)`.

    Two samples without any spread are equal (1) or not (0).

    Args:
        first: `(N, S)`.
        second: `(N, S')`.

    Raises:
        ValueError: Fewer than two values on one side.
    """
    sizes = first.shape[1], second.shape[1]
    if min(sizes) < 2:
        raise ValueError("a test needs at least two values on each side")
    spread = np.ptp(first, axis=1) + np.ptp(second, axis=1) > 0
    found = np.asarray(first[:, 0] == second[:, 0], dtype=np.float64)
    a, b = first[spread], second[spread]
    found[spread] = stats.ttest_ind_from_stats(
        a.mean(axis=1), a.std(axis=1, ddof=1), sizes[0],
        b.mean(axis=1), b.std(axis=1, ddof=1), sizes[1], equal_var=False,
    ).pvalue  # fmt: skip
    return found


def holm(p_values: Sequence[float] | FloatArray) -> list[float]:
    """Returns Holm's (1979) adjusted p-values, in the same order.

    Rejecting those below α keeps the probability of one false rejection among all below α.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = largest
    return adjusted


def tie_groups(order: Sequence[str], beats: Beats) -> list[list[str]]:
    """Cuts rows into groups that cannot be told from the first of the group, its fixed anchor.

    A moving anchor would chain rows together that differ clearly.

    Args:
        order: Labels, best first.
        beats: The comparison with the anchor.
    """
    groups: list[list[str]] = []
    for label in order:
        if groups and not beats(groups[-1][0], label):
            groups[-1].append(label)
        else:
            groups.append([label])
    return groups


def rank_intervals(labels: Sequence[str], beats: Beats) -> dict[str, tuple[int, int]]:
    """Returns best and worst rank of each row: one below all that beat it, above all that it beats."""
    others = {label: [other for other in labels if other != label] for label in labels}
    return {
        label: (
            1 + sum(beats(other, label) for other in others[label]),
            len(labels) - sum(beats(label, other) for other in others[label]),
        )
        for label in labels
    }
