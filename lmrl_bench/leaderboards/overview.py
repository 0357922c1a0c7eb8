"""A leaderboard as a whole: aggregates with intervals, pairs of entries, groups of ties, ranks.

Every number is a function of the table's scores: nothing else moves it, not even the order of entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from lmrl_bench.core.digests import digest
from lmrl_bench.core.errors import RecordError
from lmrl_bench.core.wording import counted
from lmrl_bench.leaderboards.estimates import (
    EntryOverview,
    Estimate,
    Improvement,
    LeaderboardOverview,
    ScaleInfo,
    WelchTest,
)
from lmrl_bench.leaderboards.power import leaderboard_power
from lmrl_bench.leaderboards.scores import Scale, ScoredEntry, scale_of, scored_entries
from lmrl_bench.leaderboards.table import LeaderboardTable, significant
from lmrl_bench.stats.aggregates import (
    FloatArray,
    interquartile_mean,
    mean_score,
    optimality_gap,
)
from lmrl_bench.stats.bootstrap import (
    Resamples,
    affordable_replicates,
    bounds,
    improvement_interval,
    profile_intervals,
    resample,
    statistic_interval,
    stream,
)
from lmrl_bench.stats.comparisons import holm, rank_intervals, tie_groups, welch_p_values
from lmrl_bench.stats.intervals import LEVEL, MINIMUM_SEEDS, Interval

RANKED_SEEDS = 5
PAIRED_ENTRIES = 15
_THRESHOLDS = 61


def with_statistics(table: LeaderboardTable) -> LeaderboardTable:
    """Returns the table with its overview and power; where there can be none, with the reason."""
    found: dict[str, object] = {}
    try:
        found["overview"] = overview(table)
    except RecordError as error:
        found["no_overview"] = str(error)
    try:
        found["power"] = leaderboard_power(table)
    except RecordError:
        found["power"] = []
    return table.model_copy(update=found)


def overview(leaderboard: LeaderboardTable, replicates: int | None = None) -> LeaderboardOverview:
    """Returns the statistics of a leaderboard over all its tasks.

    Args:
        leaderboard: The leaderboard.
        replicates: Of the bootstrap; None for as many as its size affords.

    Raises:
        RecordError: Fewer than three seeds, a task without a scale or without a completed run.
    """
    if len(leaderboard.seeds) < MINIMUM_SEEDS:
        raise RecordError(
            f"leaderboard '{leaderboard.name}' has {counted(len(leaderboard.seeds), 'seed')}; "
            f"statistics need {MINIMUM_SEEDS}"
        )
    scales = {task.task: scale_of(task, leaderboard) for task in leaderboard.tasks}
    entries = scored_entries(leaderboard, scales)
    tasks = sorted(scales)
    complete = {entry.name: m for entry in entries if (m := entry.matrix(tasks)) is not None}
    canonical = {entry.name: _canonical(entry) for entry in entries}
    key = digest(canonical)
    replicates = replicates or affordable_replicates(sum(m.size for m in complete.values()))
    drawn = {n: resample(m, stream(key, n), replicates) for n, m in complete.items()}
    iqms = {name: float(interquartile_mean(m)) for name, m in complete.items()}
    ranked = [entry.name for entry in entries if entry.ranked and entry.name in complete]
    order = sorted(ranked, key=lambda name: (-iqms[name], name))
    behind = _differences(iqms, drawn)

    def beats(first: str, second: str) -> bool:
        return behind[first, second].low > 0

    groups = tie_groups(order, beats)
    ranks = rank_intervals(ranked, beats)
    thresholds = _thresholds({name: complete[name] for name in ranked})
    summed = {
        name: {
            "iqm": _estimate(statistic_interval(drawn[name], interquartile_mean)),
            "mean": _estimate(statistic_interval(drawn[name], mean_score)),
            "optimality_gap": _estimate(_gap(drawn[name])),
            "behind": _estimate(behind[order[0], name]) if order and name != order[0] else None,
            "profile": [_estimate(found) for found in profile_intervals(drawn[name], thresholds)],
            "rank": ranks.get(name),
            "group": next((n for n, group in enumerate(groups, start=1) if name in group), None),
        }
        for name in complete
    }
    return LeaderboardOverview(
        leaderboard=leaderboard.name,
        seeds=len(leaderboard.seeds),
        provisional=len(leaderboard.seeds) < RANKED_SEEDS,
        digest=key,
        replicates=replicates,
        scales=[_scale_info(leaderboard, task, scale) for task, scale in scales.items()],
        thresholds=thresholds,
        entries=[
            EntryOverview(
                name=entry.name,
                entry=entry.entry,
                title=entry.title,
                ranked=entry.ranked,
                collapsed=entry.collapsed,
                missing=entry.missing,
                scores=canonical[entry.name],
                **summed.get(entry.name, {}),
            )
            for entry in entries
        ],
        groups=groups,
        improvements=_improvements(sorted(order[:PAIRED_ENTRIES]), drawn),
        tests=_tests([entry for entry in entries if entry.ranked], tasks),
    )


def _canonical(entry: ScoredEntry) -> dict[str, list[float] | None]:
    """The scores as far as every platform agrees on them."""
    return {
        task: None if scores is None else [significant(score) for score in scores]
        for task, scores in entry.scores.items()
    }


def _differences(
    iqms: Mapping[str, float], drawn: Mapping[str, Resamples]
) -> dict[tuple[str, str], Interval]:
    """The difference of the IQMs of every pair of entries, first minus second, with its interval."""
    if not drawn:
        return {}
    names = list(drawn)
    replicates = np.array([drawn[name].replicates(interquartile_mean) for name in names])
    points = np.array([iqms[name] for name in names])
    seeds = min(len(entry.scores) for entry in drawn.values())
    found = {}
    for index, name in enumerate(names):
        difference = points[index] - points
        low, high = bounds(difference, replicates[index] - replicates, seeds)
        for other, *numbers in zip(names, difference, low, high, strict=True):
            found[name, other] = Interval(*map(float, numbers))
    return found


def _gap(entry: Resamples) -> Interval:
    found = statistic_interval(entry, optimality_gap)
    return Interval(found.mean, max(found.low, 0.0), found.high)  # it cannot be negative


def _thresholds(complete: Mapping[str, FloatArray]) -> list[float]:
    """From the floor to a quarter above the best score, and to the ceiling at least."""
    best = max((float(matrix.max()) for matrix in complete.values()), default=1.0)
    top = max(1.0, math.ceil(4 * best) / 4)
    return [significant(float(value)) for value in np.linspace(0.0, top, _THRESHOLDS)]


def _improvements(names: Sequence[str], drawn: Mapping[str, Resamples]) -> list[Improvement]:
    return [
        Improvement(
            first=first,
            second=second,
            probability=_estimate(improvement_interval(drawn[first], drawn[second])),
        )
        for first, second in combinations(names, 2)
    ]


def _tests(entries: list[ScoredEntry], tasks: list[str]) -> list[WelchTest]:
    """Every pair of entries in every task; Holm's correction is over all of them together."""
    pairs = [
        (task, first, second, mine, theirs)
        for task in tasks
        for first, second in combinations(sorted(entries, key=lambda entry: entry.name), 2)
        if (mine := first.scores[task]) is not None and (theirs := second.scores[task]) is not None
    ]
    if not pairs:
        return []
    left, right = np.array([p[3] for p in pairs]), np.array([p[4] for p in pairs])
    p_values = welch_p_values(left, right)
    differences = left.mean(axis=1) - right.mean(axis=1)
    numbers = zip(pairs, differences, p_values, holm(p_values), strict=True)
    return [
        WelchTest(
            task=task,
            first=first.name,
            second=second.name,
            difference=significant(float(difference)),
            p=significant(float(p)),
            p_holm=significant(float(adjusted)),
        )
        for (task, first, second, _, _), difference, p, adjusted in numbers
    ]


def _scale_info(leaderboard: LeaderboardTable, task: str, scale: Scale) -> ScaleInfo:
    info = next(table.info for table in leaderboard.tasks if table.task == task)
    return ScaleInfo(
        task=task,
        metric=info.primary_metric if info else "",
        floor=significant(scale.floor),
        ceiling=significant(scale.ceiling),
        source=scale.source,
    )


def _estimate(interval: Interval) -> Estimate:
    return Estimate(
        value=significant(interval.mean),
        low=significant(interval.low),
        high=significant(interval.high),
    )


def significant_tests(found: LeaderboardOverview) -> list[WelchTest]:
    """Returns the tests whose corrected p-value is below 0.05."""
    return [test for test in found.tests if test.p_holm < 1 - LEVEL]
