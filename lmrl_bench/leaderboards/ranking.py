"""Ranking of entries: the best, its ties, and the gain of an entry over the SFT policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final, Literal

from lmrl_bench.leaderboards.spec import Baselines
from lmrl_bench.leaderboards.table import Comparison, EntryResults, Summary, significant
from lmrl_bench.records.record import TaskInfo
from lmrl_bench.stats.intervals import difference_interval, mean_interval, overlap

SPLIT: Final[Literal["test"]] = "test"
UNFILTERED: Final = "test-unfiltered"
DAGGER: Final = "\N{DAGGER}"


def entry_title(*tasks: EntryResults) -> str:
    """Returns the name of an entry on one or several tasks; a control is called one, and an oracle too."""
    if any(entry.oracle for entry in tasks):
        return f"{tasks[0].entry} (oracle)"
    return f"{tasks[0].entry} (control)" if tasks[0].control else tasks[0].entry


def filtered_title(entry_name: str) -> str:
    """Returns the name of an entry's numbers through its own token filter, as they stand on every page."""
    return f"{entry_name}, filtered {DAGGER}"


def ranked(
    entries: Sequence[EntryResults], info: TaskInfo | None, lower: set[str], baselines: Baselines
) -> list[EntryResults]:
    """Returns the entries with their marks and comparisons filled in; the order stays the leaderboard's."""
    if info is None:
        return list(entries)
    measures = ["reward", info.primary_metric, *info.held_out_metrics]
    best = {name: best_entries(entries, name, lower=name in lower) for name in measures}
    return [
        entry.model_copy(
            update={
                "best": [name for name in measures if entry.entry in best[name]],
                "comparisons": _comparisons(entry, entries, info.primary_metric, lower, baselines),
            }
        )
        for entry in entries
    ]


def measured(entry: EntryResults, measure: str, decoding: str | None = None) -> Summary | None:
    """Returns the entry's test summary of the reward or of a metric; None if it was not measured.

    Args:
        entry: The entry.
        measure: "reward" or a metric.
        decoding: Default: the one that the entry is ranked by.
    """
    split = entry.splits.get(decoding or entry.decoding)
    if split is None:
        return None
    return split.reward if measure == "reward" else split.metrics.get(measure)


def best_entries(entries: Sequence[EntryResults], measure: str, *, lower: bool) -> set[str]:
    """Returns the entry with the best mean, and all entries that cannot be distinguished from it.

    The best entry is the fixed anchor: another entry shares the mark if Welch's 95 % interval of its
    difference to the anchor contains 0. Controls, and entries with a seed that did not complete, take no part.
    """
    candidates = {
        entry.entry: found.points
        for entry in entries
        if entry.complete
        and entry.control is None
        and (found := measured(entry, measure)) is not None
        and found.mean is not None
    }
    if not candidates:
        return set()
    means = {entry_name: sum(points) / len(points) for entry_name, points in candidates.items()}
    anchor = (min if lower else max)(means, key=lambda entry_name: means[entry_name])
    return {
        entry_name
        for entry_name, points in candidates.items()
        if difference_interval(points, candidates[anchor]).contains(0.0)
    }


def _comparisons(
    entry: EntryResults,
    entries: Sequence[EntryResults],
    primary: str,
    lower: set[str],
    baselines: Baselines,
) -> list[Comparison]:
    """The entry against the SFT policy, on the reward and on the primary metric.

    An entry that acts through its own token filter is compared without it, and then with it.
    """
    other = next((r for r in entries if r.entry == baselines.sft), None)
    if other is None or other.entry == entry.entry:
        return []
    found = []
    decodings = dict.fromkeys([entry.decoding, SPLIT])
    for decoding, measure in product(decodings, dict.fromkeys(["reward", primary])):
        mine, theirs = measured(entry, measure, decoding), measured(other, measure)
        if mine is None or theirs is None or mine.mean is None or theirs.mean is None:
            continue
        compared = _compare(measure, other.entry, mine, theirs, lower=measure in lower)
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
        baseline=reference,
        difference=significant(difference.mean),
        interval=(significant(difference.low), significant(difference.high)),
        intervals_overlap=overlap(mean_interval(mine.points), mean_interval(theirs.points)),
        verdict=verdict,
    )
