"""The primary metric of every run on a scale that tasks share: 0 is the floor, 1 the ceiling, higher is better.

The scale is the task's own (`score_normalization`), or else that of the leaderboard's baselines: zero-shot
is 0, sft 1. It never comes from the entries that are compared, whose arrival would move it. A
run that failed or diverged scores the floor; one that is missing has no score, and no aggregate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.ranking import entry_title, filtered_title, measured
from lmrl_bench.leaderboards.table import EntryResults, LeaderboardTable, TaskTable
from lmrl_bench.records.record import TaskInfo
from lmrl_bench.stats.aggregates import FloatArray

COLLAPSED = ("failed", "diverged")


@dataclass(frozen=True)
class Scale:
    """The points 0 and 1 of a task's scale, in the units of its primary metric.

    Attributes:
        floor: Score 0.
        ceiling: Score 1; below the floor for a metric of which less is better.
        source: Where the two come from.
    """

    floor: float
    ceiling: float
    source: str

    def score(self, value: float) -> float:
        """Returns a value of the metric as a score."""
        return (value - self.floor) / (self.ceiling - self.floor)


@dataclass(frozen=True)
class ScoredEntry:
    """An entry of the leaderboard with its scores on every task.

    Attributes:
        name: The name of the entry; see `filtered_title` for an entry as it acts, through its token filter.
        entry: The name of the entry on the leaderboard.
        title: The name as tables show it: of a control, with that word.
        ranked: False for a control, and for an entry through its token filter, which stands on the leaderboard a
            second time.
        scores: Task to one score per seed of the leaderboard, ascending, because the order of the seeds
            says nothing; None where a run is missing.
        collapsed: Runs that failed or diverged, and score 0.
        missing: Runs that are not there or were interrupted.
    """

    name: str
    entry: str
    title: str
    ranked: bool
    scores: dict[str, list[float] | None]
    collapsed: int
    missing: int

    def matrix(self, tasks: list[str]) -> FloatArray | None:
        """Returns `(S, K)`, or None if a run is missing: missing is not zero."""
        columns = [scores for task in tasks if (scores := self.scores[task]) is not None]
        return np.array(columns).T if len(columns) == len(tasks) else None


def scale_of(task: TaskTable, leaderboard: LeaderboardTable) -> Scale:
    """Returns the scale of a task.

    Raises:
        RecordError: The task declares none and the baselines have not finished or are equal.
    """
    info = _info(task)
    if info.score_normalization is not None:
        found = info.score_normalization
        return Scale(found.floor, found.ceiling, "score_normalization of the task")
    zero_shot = _reference(task, leaderboard.baselines.zero_shot)
    sft = _reference(task, leaderboard.baselines.sft)
    if zero_shot is None or sft is None or zero_shot == sft:
        raise RecordError(
            f"leaderboard '{leaderboard.name}', task '{task.task}': scores need a scale; give `score_normalization` in "
            "task.yaml, or two baselines that completed every seed and differ"
        )
    return Scale(zero_shot, sft, "means of the zero-shot and the SFT entry")


def scored_entries(leaderboard: LeaderboardTable, scales: dict[str, Scale]) -> list[ScoredEntry]:
    """Returns every entry with its scores; an entry with a token filter of its own also through it."""
    entries = []
    for entry_name in leaderboard.entries:
        of_tasks = {
            t.task: next(r for r in t.entries if r.entry == entry_name) for t in leaderboard.tasks
        }
        entries.append(_scored(entry_name, of_tasks, leaderboard, scales))
        if any(entry.filtered for entry in of_tasks.values()):
            acting = {task: entry.through_filter() or entry for task, entry in of_tasks.items()}
            scored = _scored(entry_name, acting, leaderboard, scales)
            name = filtered_title(entry_name)
            entries.append(replace(scored, name=name, title=name, ranked=False))
    return entries


def _scored(
    entry_name: str,
    entries: dict[str, EntryResults],
    leaderboard: LeaderboardTable,
    scales: dict[str, Scale],
) -> ScoredEntry:
    info = {table.task: _info(table) for table in leaderboard.tasks}
    statuses = [run.status for entry in entries.values() for run in entry.runs]
    collapsed = sum(status in COLLAPSED for status in statuses)
    return ScoredEntry(
        name=entry_name,
        entry=entry_name,
        title=entry_title(*entries.values()),
        ranked=all(entry.control is None for entry in entries.values()),
        scores={
            task: _scores(entry, info[task].primary_metric, scales[task])
            for task, entry in entries.items()
        },
        collapsed=collapsed,
        missing=len(statuses) - collapsed - statuses.count("completed"),
    )


def _scores(entry: EntryResults, metric: str, scale: Scale) -> list[float] | None:
    found = measured(entry, metric)
    points = iter(found.points if found else [])
    scores = []
    for run in entry.runs:
        if run.status == "completed":
            value = next(points, None)
            if value is None:
                return None
            scores.append(scale.score(value))
        elif run.status in COLLAPSED:
            scores.append(0.0)
        else:
            return None
    return sorted(scores)


def _reference(task: TaskTable, entry_name: str | None) -> float | None:
    entry = next((entry for entry in task.entries if entry.entry == entry_name), None)
    found = measured(entry, _info(task).primary_metric) if entry and entry.complete else None
    return math.fsum(found.points) / found.n if found else None


def _info(task: TaskTable) -> TaskInfo:
    if task.info is None:
        raise RecordError(f"task '{task.task}': no run of the leaderboard has completed yet")
    return task.info
