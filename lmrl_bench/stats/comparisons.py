"""Multiple comparisons: corrected p-values, groups of ties, and rank intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from lmrl_bench.stats.aggregates import FloatArray

Beats = Callable[[str, str], bool]
"""Returns whether the first entry is better than the second beyond chance."""


def welch_p_values(first: FloatArray, second: FloatArray) -> FloatArray:
    """Returns two-sided p-values of Welch's t-tests for equal means, one per entry `(N,)`.

    Two samples without spread have p-value 1 if they are equal, and otherwise 0.

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
    """Returns p-values adjusted by Holm (1979), in the same order.

    Rejecting those below α keeps the probability of any false rejection below α.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[index])))
        adjusted[index] = largest
    return adjusted


def tie_groups(order: Sequence[str], beats: Beats) -> list[list[str]]:
    """Groups entries that cannot be distinguished from the first of their group, its fixed anchor.

    A moving anchor would chain together entries that clearly differ.

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
    """Returns best and worst rank per entry: below all that beat it, and above all that it beats."""
    others = {label: [other for other in labels if other != label] for label in labels}
    return {
        label: (
            1 + sum(beats(other, label) for other in others[label]),
            len(labels) - sum(beats(label, other) for other in others[label]),
        )
        for label in labels
    }
