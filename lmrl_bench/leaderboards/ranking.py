"""Who is best, who ties with the best, and what a row gains over the supervised policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final, Literal

from lmrl_bench.leaderboards.spec import ReferenceRows
from lmrl_bench.leaderboards.table import Comparison, Row, Summary, significant
from lmrl_bench.records.record import TaskInfo
from lmrl_bench.stats.intervals import difference_interval, mean_interval, overlap

SPLIT: Final = "test"
UNMASKED: Final = "test-unmasked"


def ranked(
    rows: Sequence[Row], info: TaskInfo | None, lower: set[str], reference: ReferenceRows
) -> list[Row]:
    """Returns the rows with their marks and comparisons filled in; the order stays the board's."""
    if info is None:
        return list(rows)
    measures = ["reward", info.primary_metric, *info.held_out_metrics]
    best = {name: best_labels(rows, name, lower=name in lower) for name in measures}
    return [
        row.model_copy(
            update={
                "best": [name for name in measures if row.label in best[name]],
                "comparisons": _comparisons(row, rows, info.primary_metric, lower, reference),
            }
        )
        for row in rows
    ]


def measured(row: Row, measure: str, decoding: str = SPLIT) -> Summary | None:
    """Returns the row's test summary of the reward or of a metric; None if it was not measured."""
    split = row.splits.get(decoding)
    if split is None:
        return None
    return split.reward if measure == "reward" else split.metrics.get(measure)


def best_labels(rows: Sequence[Row], measure: str, *, lower: bool) -> set[str]:
    """Returns the row with the best mean, and all rows that cannot be told from it.

    The best row is the fixed anchor: another row shares the mark if Welch's 95 % interval of its
    difference to the anchor contains 0. Rows with a seed that did not complete take no part.
    """
    candidates = {
        row.label: found.points
        for row in rows
        if row.complete and (found := measured(row, measure)) is not None and found.mean is not None
    }
    if not candidates:
        return set()
    means = {label: sum(points) / len(points) for label, points in candidates.items()}
    anchor = (min if lower else max)(means, key=lambda label: means[label])
    return {
        label
        for label, points in candidates.items()
        if difference_interval(points, candidates[anchor]).contains(0.0)
    }


def _comparisons(
    row: Row, rows: Sequence[Row], primary: str, lower: set[str], reference: ReferenceRows
) -> list[Comparison]:
    """The row against the supervised policy, on the reward and on the primary metric.

    A row that acts through its own mask is compared without it as well.
    """
    other = next((r for r in rows if r.label == reference.supervised), None)
    if other is None or other.label == row.label:
        return []
    found = []
    decodings: tuple[Literal["test", "test-unmasked"], ...] = (SPLIT, UNMASKED)
    for decoding, measure in product(decodings, dict.fromkeys(["reward", primary])):
        mine, theirs = measured(row, measure, decoding), measured(other, measure)
        if mine is None or theirs is None or mine.mean is None or theirs.mean is None:
            continue
        compared = _compare(measure, other.label, mine, theirs, lower=measure in lower)
        found.append(compared.model_copy(update={"decoding": decoding}))
    return found


def _compare(
    measure: str, reference: str, mine: Summary, theirs: Summary, *, lower: bool
) -> Comparison:
    difference = difference_interval(mine.points, theirs.points)
    verdict: Literal["better", "worse", "not separated"] = "not separated"
    if not difference.contains(0.0):
        verdict = "better" if (difference.mean > 0) != lower else "worse"
    return Comparison(
        measure=measure,
        reference=reference,
        difference=significant(difference.mean),
        interval=(significant(difference.low), significant(difference.high)),
        intervals_overlap=overlap(mean_interval(mine.points), mean_interval(theirs.points)),
        verdict=verdict,
    )
