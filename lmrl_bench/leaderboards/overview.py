"""A board as a whole (`board statistics`): aggregates with intervals, pairs of rows, groups, ranks.

Every number is a function of the table's scores: nothing else moves it, not even the order of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lmrl_bench.digests import digest
from lmrl_bench.errors import RecordError
from lmrl_bench.leaderboards.aggregates import (
    FloatArray,
    interquartile_mean,
    mean_score,
    optimality_gap,
    performance_profile,
)
from lmrl_bench.leaderboards.bootstrap import (
    REPLICATES,
    Statistic,
    improvement_interval,
    resampled,
    stream,
    widened,
)
from lmrl_bench.leaderboards.comparisons import holm, rank_intervals, tie_groups, welch_p_value
from lmrl_bench.leaderboards.scores import Scale, ScoredRow, scale_of, scored_rows
from lmrl_bench.leaderboards.statistics import LEVEL, MINIMUM_SEEDS, Interval
from lmrl_bench.leaderboards.table import BoardTable, significant

THRESHOLDS = tuple(round(0.25 * step, 2) for step in range(9))
RANKED_SEEDS = 5


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Strict):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class RowOverview(_Strict):
    """A row over all tasks; without numbers while a run of it is missing."""

    row: str
    ranked: bool = Field(description="false for a row without its mask, shown beside itself")
    collapsed: int = Field(description="runs that failed or diverged; they score 0")
    missing: int = Field(description="runs that are not there; they have no score")
    iqm: Estimate | None = None
    mean: Estimate | None = None
    optimality_gap: Estimate | None = None
    profile: list[float] = Field(default_factory=list, description="share above each threshold")
    rank: tuple[int, int] | None = None


class Improvement(_Strict):
    """How probably a run of `first` beats one of `second` on a task drawn at random."""

    first: str
    second: str
    probability: Estimate


class WelchTest(_Strict):
    """Welch's test of two rows in one task, corrected for all tests of the board."""

    task: str
    first: str
    second: str
    difference: float = Field(description="of mean scores, first minus second")
    p: float
    p_holm: float


class ScaleInfo(_Strict):
    """What is 0 and 1 in a task, in units of its primary metric."""

    task: str
    metric: str
    floor: float
    ceiling: float
    source: str


class BoardOverview(_Strict):
    """A board as a whole."""

    board: str
    seeds: int
    provisional: bool = Field(description="fewer than five seeds")
    digest: str = Field(description="of the scores; it seeds the bootstrap")
    replicates: int
    scales: list[ScaleInfo]
    thresholds: list[float] = Field(description="of the profiles")
    rows: list[RowOverview]
    groups: list[list[str]] = Field(
        description="best first; each cannot be told from its first row by the IQM"
    )
    improvements: list[Improvement]
    tests: list[WelchTest]


def overview(board: BoardTable, replicates: int = REPLICATES) -> BoardOverview:
    """Returns the statistics of a board over all its tasks.

    Raises:
        RecordError: Fewer than three seeds, a task without a scale or without a completed run.
    """
    if len(board.seeds) < MINIMUM_SEEDS:
        raise RecordError(
            f"board '{board.name}' has {len(board.seeds)} seeds; statistics need {MINIMUM_SEEDS}"
        )
    scales = {task.task: scale_of(task, board) for task in board.tasks}
    rows = scored_rows(board, scales)
    tasks = sorted(scales)
    complete = {r.name: m for r in rows if (m := r.matrix(tasks)) is not None}
    key = digest({row.name: _canonical(row) for row in rows})
    drawn = {
        name: resampled(matrix, stream(key, name), replicates) for name, matrix in complete.items()
    }
    beats = _beats(complete, drawn)
    candidates = [row.name for row in rows if row.ranked and row.name in complete]
    order = sorted(candidates, key=lambda name: (-float(interquartile_mean(complete[name])), name))
    ranks = rank_intervals(candidates, beats)
    return BoardOverview(
        board=board.name,
        seeds=len(board.seeds),
        provisional=len(board.seeds) < RANKED_SEEDS,
        digest=key,
        replicates=replicates,
        scales=[_scale_info(board, task, scale) for task, scale in scales.items()],
        thresholds=list(THRESHOLDS),
        rows=[_row(row, complete, drawn, ranks) for row in rows],
        groups=tie_groups(order, beats),
        improvements=[
            Improvement(
                first=first,
                second=second,
                probability=_estimate(
                    improvement_interval(
                        complete[first], complete[second], stream(key, first, second), replicates
                    )
                ),
            )
            for first, second in combinations(sorted(candidates), 2)
        ],
        tests=_tests([row for row in rows if row.ranked], tasks),
    )


def _canonical(row: ScoredRow) -> dict[str, list[float] | None]:
    """The scores as far as every platform agrees on them."""
    return {
        task: None if scores is None else [significant(score) for score in scores]
        for task, scores in row.scores.items()
    }


def _beats(
    complete: Mapping[str, FloatArray], drawn: Mapping[str, FloatArray]
) -> Callable[[str, str], bool]:
    """A row beats another if the interval of the difference of their IQMs lies above 0."""
    points = {name: float(interquartile_mean(matrix)) for name, matrix in complete.items()}
    replicates = {name: interquartile_mean(sample) for name, sample in drawn.items()}

    def beats(first: str, second: str) -> bool:
        difference = replicates[first] - replicates[second]
        seeds = min(len(complete[first]), len(complete[second]))
        return bool(widened(points[first] - points[second], difference, seeds).low > 0)

    return beats


def _row(
    row: ScoredRow,
    complete: Mapping[str, FloatArray],
    drawn: Mapping[str, FloatArray],
    ranks: Mapping[str, tuple[int, int]],
) -> RowOverview:
    name = row.name
    facts = RowOverview(row=name, ranked=row.ranked, collapsed=row.collapsed, missing=row.missing)
    if name not in complete:
        return facts

    def estimate(statistic: Statistic) -> Estimate:
        point = float(statistic(complete[name]))
        return _estimate(widened(point, statistic(drawn[name]), len(complete[name])))

    profile = performance_profile(complete[name], THRESHOLDS)
    return facts.model_copy(
        update={
            "iqm": estimate(interquartile_mean),
            "mean": estimate(mean_score),
            "optimality_gap": estimate(optimality_gap),
            "profile": [significant(float(share)) for share in profile],
            "rank": ranks.get(name),
        }
    )


def _tests(rows: list[ScoredRow], tasks: list[str]) -> list[WelchTest]:
    """Every pair of rows in every task; Holm's correction is over all of them together."""
    pairs = [
        (task, first, second, mine, theirs)
        for task in tasks
        for first, second in combinations(sorted(rows, key=lambda row: row.name), 2)
        if (mine := first.scores[task]) is not None and (theirs := second.scores[task]) is not None
    ]
    p_values = [welch_p_value(mine, theirs) for _, _, _, mine, theirs in pairs]
    return [
        WelchTest(
            task=task,
            first=first.name,
            second=second.name,
            difference=significant(float(np.mean(mine) - np.mean(theirs))),
            p=significant(p),
            p_holm=significant(adjusted),
        )
        for (task, first, second, mine, theirs), p, adjusted in zip(
            pairs, p_values, holm(p_values), strict=True
        )
    ]


def _scale_info(board: BoardTable, task: str, scale: Scale) -> ScaleInfo:
    info = next(table.info for table in board.tasks if table.task == task)
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


def significant_tests(found: BoardOverview) -> list[WelchTest]:
    """Returns the tests whose corrected p-value is below 0.05."""
    return [test for test in found.tests if test.p_holm < 1 - LEVEL]
