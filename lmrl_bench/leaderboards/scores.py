"""The primary metric of every run on a scale that tasks share: 0 is the floor, 1 the ceiling, higher is better.

The scale is the task's own (`score_range`), or else that of the board's reference rows: zero-shot
is 0, supervised 1. It never comes from the rows that are compared, whose arrival would move it. A
run that failed or diverged scores the floor; one that is missing has no score, and no aggregate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.ranking import SPLIT, UNMASKED, measured
from lmrl_bench.leaderboards.table import BoardTable, Row, TaskTable
from lmrl_bench.records.record import TaskInfo
from lmrl_bench.stats.aggregates import FloatArray

COLLAPSED = ("failed", "diverged")


@dataclass(frozen=True)
class Scale:
    """What is 0 and what is 1 in a task, in the units of its primary metric.

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
class ScoredRow:
    """A row of the board with its scores on every task.

    Attributes:
        name: The label; "<label>, no mask" for a masked row decoded like the others.
        label: The row of the board.
        ranked: False for a row without its mask, which stands on the board a second time.
        scores: Task to one score per seed of the board, ascending, because the order of the seeds
            says nothing; None where a run is missing.
        collapsed: Runs that failed or diverged, and score 0.
        missing: Runs that are not there or were interrupted.
    """

    name: str
    label: str
    ranked: bool
    scores: dict[str, list[float] | None]
    collapsed: int
    missing: int

    def matrix(self, tasks: list[str]) -> FloatArray | None:
        """Returns `(S, K)`, or None if a run is missing: missing is not zero."""
        columns = [scores for task in tasks if (scores := self.scores[task]) is not None]
        return np.array(columns).T if len(columns) == len(tasks) else None


def scale_of(task: TaskTable, board: BoardTable) -> Scale:
    """Returns the scale of a task.

    Raises:
        RecordError: The task declares none and the reference rows have not finished or are equal.
    """
    info = _info(task)
    if info.score_range is not None:
        found = info.score_range
        return Scale(found.floor, found.ceiling, "score_range of the task")
    zero_shot = _reference(task, board.reference.zero_shot)
    supervised = _reference(task, board.reference.supervised)
    if zero_shot is None or supervised is None or zero_shot == supervised:
        raise RecordError(
            f"board '{board.name}', task '{task.task}': scores need a scale; give `score_range` in "
            "task.yaml, or two reference rows that completed every seed and differ"
        )
    return Scale(zero_shot, supervised, "means of the zero-shot and the supervised row")


def scored_rows(board: BoardTable, scales: dict[str, Scale]) -> list[ScoredRow]:
    """Returns every row with its scores; a row with a mask of its own also without it."""
    rows = []
    for label in board.labels:
        of_tasks = {t.task: next(r for r in t.rows if r.label == label) for t in board.tasks}
        decodings = [SPLIT]
        if any(row.masked for row in of_tasks.values()):
            decodings.append(UNMASKED)
        rows += [_scored(label, decoding, of_tasks, board, scales) for decoding in decodings]
    return rows


def _scored(
    label: str, decoding: str, rows: dict[str, Row], board: BoardTable, scales: dict[str, Scale]
) -> ScoredRow:
    info = {table.task: _info(table) for table in board.tasks}
    statuses = [run.status for row in rows.values() for run in row.runs]
    collapsed = sum(status in COLLAPSED for status in statuses)
    return ScoredRow(
        name=label if decoding == SPLIT else f"{label}, no mask",
        label=label,
        ranked=decoding == SPLIT,
        scores={
            task: _scores(row, info[task].primary_metric, decoding, scales[task])
            for task, row in rows.items()
        },
        collapsed=collapsed,
        missing=len(statuses) - collapsed - statuses.count("completed"),
    )


def _scores(row: Row, metric: str, decoding: str, scale: Scale) -> list[float] | None:
    found = measured(row, metric, decoding)
    points = iter(found.points if found else [])
    scores = []
    for run in row.runs:
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


def _reference(task: TaskTable, label: str | None) -> float | None:
    row = next((row for row in task.rows if row.label == label), None)
    found = measured(row, _info(task).primary_metric) if row and row.complete else None
    return math.fsum(found.points) / found.n if found else None


def _info(task: TaskTable) -> TaskInfo:
    if task.info is None:
        raise RecordError(f"task '{task.task}': no run of the board has completed yet")
    return task.info
