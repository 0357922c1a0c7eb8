"""Progress and cost of a grid: finished cells, cells to run and their cost; and its results in one small table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError, RecordError, nearest
from lmrl_bench.core.wording import counted, duration, reason_of
from lmrl_bench.leaderboards.collect import summary
from lmrl_bench.leaderboards.render.columns import places_of, summary_text
from lmrl_bench.leaderboards.verification import primary_value
from lmrl_bench.planning.folders import (
    CHECKPOINT,
    DamagedConfigError,
    DamagedRunError,
    StaleRecordError,
)
from lmrl_bench.planning.initial_policy import training_words
from lmrl_bench.planning.plan import RerunPolicy, RunPlan
from lmrl_bench.planning.resolve import settings_file, settings_note
from lmrl_bench.records.expected import differences
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import RECORD, read_record

State = Literal["done", "diverged", "failed", "interrupted", "stale", "damaged", "missing"]
T = TypeVar("T")


@dataclass(frozen=True)
class CellState:
    """A cell and what there is of it.

    Attributes:
        plan: The cell.
        state: "done" completed; "stale" is the record of other settings, another task or initial policy.
        detail: Why, where it is not obvious.
        runs: Whether `leaderboard run` runs it, with the options that it was planned with.
        record: Its record, if there is one that can be read and is this cell's.
    """

    plan: RunPlan
    state: State
    detail: str
    runs: bool
    record: RunRecord | None = None


def cell_state(plan: RunPlan) -> CellState:
    """Looks at the folder of a cell."""
    folder, rerun = plan.folder, plan.rerun
    if not os.path.lexists(folder / RECORD):
        state: State = "interrupted" if (folder / CHECKPOINT).exists() else "missing"
        return CellState(plan, state, "", True)
    if (damaged := _damaged(plan)) is not None:
        return damaged
    record = read_record(folder)
    if different := [str(found) for found in differences(record, plan.expected)]:
        return CellState(plan, "stale", "; ".join(different[:2]), _again(rerun, RerunPolicy.STALE))
    state = "done" if record.status == "completed" else record.status
    detail = f"{record.error.type}: {record.error.message}" if record.error else ""
    again = state == "interrupted" or (state == "failed" and RerunPolicy.FAILED in rerun)
    runs = again or RerunPolicy.ALL in rerun
    return CellState(plan, state, detail.splitlines()[0] if detail else "", runs, record)


def _again(rerun: RerunPolicy, kind: RerunPolicy) -> bool:
    return kind in rerun or RerunPolicy.ALL in rerun


def _damaged(plan: RunPlan) -> CellState | None:
    """Returns the state of a cell whose files are damaged, as a run will find it, or None."""
    try:
        replace(plan, rerun=plan.rerun & ~RerunPolicy.ALL).finished_record()
    except (StaleRecordError, DamagedConfigError):  # the latter is written again without a run
        return None
    except DamagedRunError as error:
        return CellState(plan, "damaged", reason_of(error), True)
    except RecordError as error:
        return CellState(plan, "damaged", reason_of(error), RerunPolicy.ALL in plan.rerun)
    return None


def outlook(plans: Sequence[RunPlan], workers: int) -> tuple[list[CellState], list[str]]:
    """Returns the state of every cell, and lines that say what is to be done and what it costs."""
    states = [cell_state(plan) for plan in plans]
    counts = {state: sum(found.state == state for found in states) for state in _order(states)}
    lines = [
        f"{counted(len(states), 'cell')}: "
        + ", ".join(f"{n} {state}" for state, n in counts.items())
    ]
    todo = [found for found in states if found.runs]
    if not todo:
        lines.append("nothing to run")
    else:
        tokens = sum(planned_tokens(found.plan.config) for found in todo)
        time = _estimate(states, todo)
        words = "no records yet to estimate the time from"
        if time is not None:
            with_workers = f" with {workers} workers" if workers > 1 else ""
            words = f"about {duration(time / workers)}{with_workers}, by the times of this leaderboard's records"
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


def settings_lines(plans: Iterable[RunPlan]) -> list[str]:
    """Returns one line for each entry to which the task's own settings do not apply, as they are another policy's."""
    lines: dict[str, None] = {}
    for plan in plans:
        task, policy = plan.task, plan.config.policy.model
        name = plan.config.algorithm.name
        default, mine = settings_file(task, name), settings_file(task, name, policy)
        if default.exists() and mine != default and not mine.exists():
            lines.setdefault(
                f"{task.name}/{plan.config.entry_name}: {settings_note(task, plan.config)}"
            )
    return list(lines)


def planned_tokens(config: RunConfig) -> int:
    """Returns the completion tokens that a run generates while training."""
    return config.budget.tokens if traits_of(config.algorithm.name).spends_tokens else 0


def select(
    plans: Sequence[RunPlan],
    tasks: Sequence[str] = (),
    entries: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[RunPlan]:
    """Returns the cells of the given tasks, entries and seeds; of all where nothing is given.

    Raises:
        ConfigError: The grid has no such task, entry or seed; names the nearest.
    """
    _known("--task", tasks, [plan.config.task for plan in plans])
    _known("--entry", entries, [plan.config.entry_name for plan in plans])
    _known("--seed", seeds, [plan.config.seed for plan in plans])
    return [
        plan
        for plan in plans
        if (not tasks or plan.config.task in tasks)
        and (not entries or plan.config.entry_name in entries)
        and (not seeds or plan.config.seed in seeds)
    ]


def closing_rows(plans: Sequence[RunPlan]) -> list[dict[str, Any]]:
    """Returns a table of entry × task: the primary metric as mean ± half of its interval, and what is missing.

    Records that cannot be read, or are of other settings, count as missing.
    """
    states = [cell_state(plan) for plan in plans]
    tasks = list(dict.fromkeys(plan.config.task for plan in plans))
    metrics = {task: _metric(states, task) for task in tasks}
    rows: dict[str, dict[str, Any]] = {}
    for entry in dict.fromkeys(plan.config.entry_name for plan in plans):
        rows[entry] = {"entry": entry}
        for task in tasks:
            here = [
                s for s in states if (s.plan.config.task, s.plan.config.entry_name) == (task, entry)
            ]
            rows[entry][f"{task} {metrics[task]}".strip()] = _cell_words(here)
    return list(rows.values())


def _cell_words(states: Sequence[CellState]) -> str:
    values = [primary_value(s.record) for s in states if s.state == "done" and s.record]
    found = summary(values)
    words = [summary_text(found, places_of([found]))] if values else []
    words += [f"seed {s.plan.config.seed} {s.state}" for s in states if s.state != "done"]
    return ", ".join(words)


def _metric(states: Iterable[CellState], task: str) -> str:
    for found in states:
        if found.plan.config.task == task and found.record is not None:
            return found.record.task.primary_metric
    return ""


def _estimate(states: Sequence[CellState], todo: Sequence[CellState]) -> float | None:
    """Returns the seconds that one worker needs, by the times of the nearest cells with a record; None without any."""
    times = [
        (s.plan.config, s.record.time.wall_s) for s in states if s.state == "done" and s.record
    ]
    if not times:
        return None

    def of(config: RunConfig) -> float:
        near: Sequence[Callable[[RunConfig], bool]] = (
            lambda c: (c.task, c.entry_name) == (config.task, config.entry_name),
            lambda c: c.task == config.task and bool(planned_tokens(c)) == bool(planned_tokens(config)),
            lambda c: bool(planned_tokens(c)) == bool(planned_tokens(config)),
            lambda _: True,
        )  # fmt: skip
        for same in near:
            if found := [seconds for other, seconds in times if same(other)]:
                return sum(found) / len(found)
        raise AssertionError("the last one takes all")

    return sum(of(found.plan.config) for found in todo)


def _starts(todo: Sequence[CellState]) -> list[str]:
    """Returns one line for each SFT policy that has to be trained first."""
    lines: dict[str, None] = {}
    for plan in (found.plan for found in todo):
        initial = plan.initial
        if initial.state == "to be trained" and initial.recipe is not None:
            lines.setdefault(f"initial policy: {training_words(plan.task, initial.recipe)}")
    return list(lines)


def _order(states: Iterable[CellState]) -> list[State]:
    return list(dict.fromkeys(found.state for found in states))


def _known(option: str, asked: Sequence[T], known: Sequence[T]) -> None:
    names = list(dict.fromkeys(map(str, known)))
    for name in map(str, asked):
        if name not in names:
            raise ConfigError(
                f"{option} {name}: not on the leaderboard{nearest(name, names)} (known: {', '.join(names)})"
            )


def weights(plans: Iterable[RunPlan]) -> Mapping[str, float]:
    """Returns how much work each cell is, for the time left: its tokens, and nothing for cells that train nothing."""
    tokens = {plan.name: float(planned_tokens(plan.config)) for plan in plans}
    return tokens if any(tokens.values()) else dict.fromkeys(tokens, 1.0)
