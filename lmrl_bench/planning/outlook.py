"""What a grid has done, what it has yet to do and what that costs; and its results in one small table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError, RecordError, nearest
from lmrl_bench.core.wording import counted, duration, reason_of
from lmrl_bench.leaderboards.collect import summary
from lmrl_bench.leaderboards.render.columns import places_of, summary_text
from lmrl_bench.leaderboards.verification import primary_value
from lmrl_bench.planning.finished import (
    CHECKPOINT,
    DamagedConfigError,
    DamagedRunError,
    StaleRecordError,
    done_record,
)
from lmrl_bench.planning.folders import run_folder
from lmrl_bench.planning.initial_policy import existing_start, start_words
from lmrl_bench.planning.plan import CellJob
from lmrl_bench.planning.resolve import settings_file, settings_note
from lmrl_bench.records.expected import differences
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import RECORD, read_record
from lmrl_bench.tasks.catalog import load_task

State = Literal["done", "diverged", "failed", "interrupted", "stale", "damaged", "missing"]
NO_TOKENS = ("none", "supervised")
T = TypeVar("T")


@dataclass(frozen=True)
class CellState:
    """A cell and what there is of it.

    Attributes:
        job: The cell.
        state: "done" completed; "stale" is the record of other settings, another task or start.
        detail: Why, where it is not obvious.
        runs: Whether `leaderboard run` runs it, with the options that the job was planned with.
        record: Its record, if there is one that can be read and is this cell's.
    """

    job: CellJob
    state: State
    detail: str
    runs: bool
    record: RunRecord | None = None


def cell_state(job: CellJob) -> CellState:
    """Looks at the folder of a cell."""
    folder, rerun = run_folder(job.config), job.rerun
    if not os.path.lexists(folder / RECORD):
        state: State = "interrupted" if (folder / CHECKPOINT).exists() else "missing"
        return CellState(job, state, "", True)
    if (damaged := _damaged(job)) is not None:
        return damaged
    record = read_record(folder)
    if different := [str(found) for found in differences(record, job.expected)]:
        return CellState(job, "stale", "; ".join(different[:2]), rerun.fresh or rerun.stale)
    state = "done" if record.status == "completed" else record.status
    detail = f"{record.error.type}: {record.error.message}" if record.error else ""
    again = state == "interrupted" or (state == "failed" and rerun.failed)
    return CellState(
        job, state, detail.splitlines()[0] if detail else "", rerun.fresh or again, record
    )


def _damaged(job: CellJob) -> CellState | None:
    """Returns the state of a cell whose files are damaged, as a run will find it, or None."""
    try:
        done_record(job.config, job.expected, job.rerun.failed)
    except (StaleRecordError, DamagedConfigError):  # the latter is written again without a run
        return None
    except DamagedRunError as error:
        return CellState(job, "damaged", reason_of(error), True)
    except RecordError as error:
        return CellState(job, "damaged", reason_of(error), job.rerun.fresh)
    return None


def outlook(jobs: Sequence[CellJob], workers: int) -> tuple[list[CellState], list[str]]:
    """Returns the state of every cell, and lines that say what is to be done and what it costs."""
    states = [cell_state(job) for job in jobs]
    counts = {state: sum(found.state == state for found in states) for state in _order(states)}
    lines = [
        f"{counted(len(states), 'cell')}: "
        + ", ".join(f"{n} {state}" for state, n in counts.items())
    ]
    todo = [found for found in states if found.runs]
    if not todo:
        lines.append("nothing to run")
    else:
        tokens = sum(planned_tokens(found.job.config) for found in todo)
        time = _estimate(states, todo)
        words = "no records yet to estimate the time from"
        if time is not None:
            with_workers = f" with {workers} workers" if workers > 1 else ""
            words = f"about {duration(time / workers)}{with_workers}, by the times of this board's records"
        lines.append(
            f"to run: {counted(len(todo), 'cell')}, {tokens:,} tokens to generate; {words}"
        )
        lines += _starts(todo)
    for state, option in (
        ("failed", "--rerun failed"),
        ("stale", "--rerun stale"),
        ("damaged", "--rerun all"),
    ):
        left = sum(found.state == state and not found.runs for found in states)
        if left:
            lines.append(f"{counted(left, 'cell')} {state}: not run without {option}")
    return states, lines


def settings_lines(jobs: Iterable[CellJob]) -> list[str]:
    """Returns one line for each row to which the task's own settings do not apply, as they are another policy's."""
    lines: dict[str, None] = {}
    for job in jobs:
        task, policy = load_task(job.config.task), job.config.policy.model
        name = job.config.algorithm.name
        default, mine = settings_file(task, name), settings_file(task, name, policy)
        if default.exists() and mine != default and not mine.exists():
            lines.setdefault(f"{task.name}/{job.config.row}: {settings_note(task, job.config)}")
    return list(lines)


def planned_tokens(config: RunConfig) -> int:
    """Returns the response tokens that a run generates while training."""
    return 0 if config.algorithm.name in NO_TOKENS else config.budget.tokens


def select(
    jobs: Sequence[CellJob],
    tasks: Sequence[str] = (),
    rows: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[CellJob]:
    """Returns the cells of the given tasks, rows and seeds; of all where nothing is given.

    Raises:
        ConfigError: The grid has no such task, row or seed; names the nearest.
    """
    _known("--task", tasks, [job.config.task for job in jobs])
    _known("--entry", rows, [job.config.row for job in jobs])
    _known("--seed", seeds, [job.config.seed for job in jobs])
    return [
        job
        for job in jobs
        if (not tasks or job.config.task in tasks)
        and (not rows or job.config.row in rows)
        and (not seeds or job.config.seed in seeds)
    ]


def closing_rows(jobs: Sequence[CellJob]) -> list[dict[str, Any]]:
    """Returns a table of row × task: the primary metric as mean ± half of its interval, and what is missing.

    Records that cannot be read, or are of other settings, count as missing.
    """
    states = [cell_state(job) for job in jobs]
    tasks = list(dict.fromkeys(job.config.task for job in jobs))
    metrics = {task: _metric(states, task) for task in tasks}
    rows: dict[str, dict[str, Any]] = {}
    for label in dict.fromkeys(job.config.row for job in jobs):
        rows[label] = {"row": label}
        for task in tasks:
            here = [s for s in states if (s.job.config.task, s.job.config.row) == (task, label)]
            rows[label][f"{task} {metrics[task]}".strip()] = _cell_words(here)
    return list(rows.values())


def _cell_words(states: Sequence[CellState]) -> str:
    values = [primary_value(s.record) for s in states if s.state == "done" and s.record]
    found = summary(values)
    words = [summary_text(found, places_of([found]))] if values else []
    words += [f"seed {s.job.config.seed} {s.state}" for s in states if s.state != "done"]
    return ", ".join(words)


def _metric(states: Iterable[CellState], task: str) -> str:
    for found in states:
        if found.job.config.task == task and found.record is not None:
            return found.record.task.primary_metric
    return ""


def _estimate(states: Sequence[CellState], todo: Sequence[CellState]) -> float | None:
    """Returns the seconds that one worker needs, by the times of the nearest cells with a record; None without any."""
    times = [(s.job.config, s.record.time.wall_s) for s in states if s.state == "done" and s.record]
    if not times:
        return None

    def of(config: RunConfig) -> float:
        near: Sequence[Callable[[RunConfig], bool]] = (
            lambda c: (c.task, c.row) == (config.task, config.row),
            lambda c: c.task == config.task and bool(planned_tokens(c)) == bool(planned_tokens(config)),
            lambda c: bool(planned_tokens(c)) == bool(planned_tokens(config)),
            lambda _: True,
        )  # fmt: skip
        for same in near:
            if found := [seconds for other, seconds in times if same(other)]:
                return sum(found) / len(found)
        raise AssertionError("the last one takes all")

    return sum(of(found.job.config) for found in todo)


def _starts(todo: Sequence[CellState]) -> list[str]:
    """Returns one line for each supervised start that has to be trained first."""
    lines: dict[str, None] = {}
    for found in todo:
        task, policy = load_task(found.job.config.task), found.job.config.policy
        if policy.start == "supervised" and existing_start(task, policy) is None:
            lines.setdefault(f"start: {start_words(task, policy)}")
    return list(lines)


def _order(states: Iterable[CellState]) -> list[State]:
    return list(dict.fromkeys(found.state for found in states))


def _known(option: str, asked: Sequence[T], known: Sequence[T]) -> None:
    names = list(dict.fromkeys(map(str, known)))
    for name in map(str, asked):
        if name not in names:
            raise ConfigError(
                f"{option} {name}: not on the board{nearest(name, names)} (known: {', '.join(names)})"
            )


def weights(jobs: Iterable[CellJob]) -> Mapping[str, float]:
    """Returns how much work each cell is, for the time left: its tokens, and nothing for cells that train nothing."""
    tokens = {job.name: float(planned_tokens(job.config)) for job in jobs}
    return tokens if any(tokens.values()) else dict.fromkeys(tokens, 1.0)
