"""Training for leaderboards: run the missing cells, or search settings with equal trials.

Torch is imported inside the calls: the server of the workers starts first and imports it at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrl_bench.api.leaderboards import RESULTS, build_leaderboard, definition_of, pages_folder
from lmrl_bench.api.progress import Progress, Say, nothing, shown
from lmrl_bench.leaderboards.spec import LeaderboardSpec
from lmrl_bench.records.store import check_writable

if TYPE_CHECKING:
    from lmrl_bench.launchers.grid import GridResult
    from lmrl_bench.planning.outlook import CellState
    from lmrl_bench.planning.plan import RunPlan
    from lmrl_bench.tuning.study import Study, TuningPlan


@dataclass(frozen=True)
class LeaderboardPlan:
    """The result of `plan_leaderboard`: the work that `run_leaderboard` would do.

    Attributes:
        cells: Every selected cell with its state.
        remarks: What is left to run, what it costs, and what would be left out.
    """

    cells: list[CellState]
    remarks: list[str]


@dataclass(frozen=True)
class LeaderboardRun:
    """The result of `run_leaderboard`.

    Attributes:
        outcome: The status of every selected cell.
        summary: Entry × task: the primary metric, and the seeds that did not complete.
        files: The files that were written; empty if the leaderboard was not built.
        unbuilt: Why it was not built; None if it was.
    """

    outcome: GridResult
    summary: list[dict[str, Any]]
    files: list[Path]
    unbuilt: str | None


@dataclass(frozen=True)
class TuningResult:
    """The result of `tune_leaderboard`.

    Attributes:
        complete: False if it was interrupted; the same call continues.
        studies: One per task and algorithm, each with its trials and the best one.
        files: Settings files that were written.
        undeclared: Settings that were not made as the leaderboard declares.
    """

    complete: bool
    studies: list[Study]
    files: list[Path]
    undeclared: list[str]


def plan_leaderboard(
    leaderboard: str | Path | LeaderboardSpec,
    *,
    tasks: Sequence[str] = (),
    entries: Sequence[str] = (),
    seeds: Sequence[int] = (),
    jobs: int = 1,
    results: str | Path = RESULTS,
    runtime: Mapping[str, Any] | None = None,
    rerun: str | Sequence[str] = (),
    say: Say = nothing,
) -> LeaderboardPlan:
    """Says which cells are done, missing, stale or damaged, and what running the rest would cost.

    Args:
        leaderboard: As in `run_leaderboard`, and so are all other arguments.
        tasks: As in `run_leaderboard`.
        entries: As in `run_leaderboard`.
        seeds: As in `run_leaderboard`.
        jobs: As in `run_leaderboard`.
        results: As in `run_leaderboard`.
        runtime: As in `run_leaderboard`.
        rerun: As in `run_leaderboard`.
        say: As in `run_leaderboard`.

    Raises:
        LmrlBenchError: A cell cannot be configured.
    """
    from lmrl_bench.planning.outlook import outlook

    spec = definition_of(leaderboard)
    _, chosen = _cells(spec, Path(results), runtime, rerun, (tasks, entries, seeds), say)
    states, lines = outlook(chosen, jobs)
    return LeaderboardPlan(states, lines)


def run_leaderboard(
    leaderboard: str | Path | LeaderboardSpec,
    *,
    tasks: Sequence[str] = (),
    entries: Sequence[str] = (),
    seeds: Sequence[int] = (),
    jobs: int = 1,
    results: str | Path = RESULTS,
    out: str | Path | None = None,
    runtime: Mapping[str, Any] | None = None,
    rerun: str | Sequence[str] = (),
    progress: Progress = False,
    say: Say = nothing,
) -> LeaderboardRun:
    """Runs the missing cells of a leaderboard and builds its pages.

    Interrupted cells continue from their checkpoints. Completed and diverged cells are done. If only
    a part is selected, the pages are built only if nothing else is missing.

    Args:
        leaderboard: Its name, its folder, or its definition.
        tasks: Only these tasks; default: all.
        entries: Only these entries; default: all.
        seeds: Only these seeds; default: all.
        jobs: Worker processes, one thread each.
        results: Folder of all results.
        out: Folder for the pages; default: the leaderboard's own.
        runtime: Settings of `runtime` for all cells, e.g. `{"device": "cuda"}`; everything else is
            fixed by the leaderboard.
        rerun: Which finished cells to run again: "all", "failed", "stale" (recorded with other
            settings, another task version or another initial policy), or several of them.
        progress: True shows progress on stderr; or a function that takes the events.
        say: Takes remarks for the user.

    Raises:
        LmrlBenchError: A cell cannot be configured, or a folder cannot be written.
    """
    from lmrl_bench.launchers.grid import run_grid
    from lmrl_bench.launchers.local import start_server
    from lmrl_bench.launchers.progress import GridProgress
    from lmrl_bench.planning.cells import lacks_records
    from lmrl_bench.planning.outlook import closing_rows, weights
    from lmrl_bench.tasks.catalog import load_task
    from lmrl_bench.tasks.plugin import announce

    spec, results = definition_of(leaderboard), Path(results)
    if rerun or lacks_records(spec, results):
        start_server()  # it imports torch while the cells are resolved here
    every, chosen = _cells(spec, results, runtime, rerun, (tasks, entries, seeds), say)
    check_writable(results, option="--results")
    check_writable(pages_folder(spec, out), option="--out")
    for name in sorted({cell.config.task for cell in chosen}):
        announce(load_task(name).folder)  # the workers do not say which foreign code they run
    with shown(progress, len(chosen)) as listener:
        listener = GridProgress(len(chosen), listener, weights(chosen))
        outcome = run_grid(chosen, workers=jobs, progress=listener)
    unbuilt = None if len(chosen) == len(every) else _lacking(spec, every)
    files = [] if unbuilt else build_leaderboard(spec, results=results, out=out, say=say)
    return LeaderboardRun(outcome, closing_rows(chosen), files, unbuilt)


def plan_tuning(
    leaderboard: str | Path | LeaderboardSpec,
    *,
    trials: int | None = None,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
) -> TuningPlan:
    """Says what `tune_leaderboard` would try, and what it would cost.

    Args:
        leaderboard: As in `tune_leaderboard`, and so are all other arguments.
        trials: As in `tune_leaderboard`.
        tasks: As in `tune_leaderboard`.
        algorithms: As in `tune_leaderboard`.

    Raises:
        ConfigError: There is nothing to tune, or the leaderboard is wrong.
    """
    from lmrl_bench.tuning import study as tuning_plan

    return tuning_plan.plan_tuning(
        definition_of(leaderboard), trials=trials, tasks=tasks, algorithms=algorithms
    )


def tune_leaderboard(
    leaderboard: str | Path | LeaderboardSpec,
    *,
    trials: int | None = None,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    jobs: int = 1,
    out: str | Path | None = None,
    write: bool = False,
    runtime: Mapping[str, Any] | None = None,
    rerun: str | Sequence[str] = (),
    progress: Progress = False,
    say: Say = nothing,
) -> TuningResult:
    """Searches settings for the algorithms of a leaderboard, with equal trials for each.

    Trials are judged on the validation split and use seeds of their own. Trial 0 is the current
    configuration. An interrupted tuning continues with the same call.

    Args:
        leaderboard: Its name, its folder, or its definition.
        trials: Per task and algorithm; default: as the leaderboard declares, or 6.
        tasks: Only these tasks; default: all.
        algorithms: Only these algorithms; default: all.
        jobs: Worker processes, one thread each.
        out: Folder of the trials; default: results/tuning/<leaderboard>.
        write: Write the best settings into the tasks' folders.
        runtime: As in `run_leaderboard`.
        rerun: As in `run_leaderboard`.
        progress: As in `run_leaderboard`.
        say: Takes remarks for the user.

    Raises:
        LmrlBenchError: There is nothing to tune, or a folder cannot be written.
    """
    from lmrl_bench.api.runs import rerun_policy
    from lmrl_bench.launchers.local import start_server
    from lmrl_bench.launchers.progress import GridProgress
    from lmrl_bench.planning.tuning_protocol import undeclared
    from lmrl_bench.tuning.tune import tune, write_settings

    spec = definition_of(leaderboard)
    start_server()
    plan = plan_tuning(spec, trials=trials, tasks=tasks, algorithms=algorithms)
    for line in plan.lines():
        say(line)
    folder = RESULTS / "tuning" / spec.name if out is None else Path(out)
    check_writable(folder, option="--out")
    total = len(plan.studies) * plan.protocol.trials * len(plan.protocol.seeds)
    with shown(progress, total) as listener:
        complete = tune(
            plan,
            folder,
            workers=jobs,
            overrides=_overrides(runtime),
            rerun=rerun_policy(rerun),
            progress=GridProgress(total, listener),
        )
    files = write_settings(plan) if complete and write else []
    return TuningResult(complete, plan.studies, files, undeclared(spec) if files else [])


def _cells(
    spec: LeaderboardSpec,
    results: Path,
    runtime: Mapping[str, Any] | None,
    rerun: str | Sequence[str],
    selection: tuple[Sequence[str], Sequence[str], Sequence[int]],
    say: Say,
) -> tuple[list[RunPlan], list[RunPlan]]:
    """Returns all cells of a leaderboard, resolved, and the selected ones."""
    from lmrl_bench.api.runs import rerun_policy
    from lmrl_bench.planning.cells import plan
    from lmrl_bench.planning.outlook import select, settings_lines
    from lmrl_bench.speedups.garbage import collector_off

    with collector_off():  # it imports torch and Transformers
        overrides = _overrides(runtime)
        every = plan(spec, results, overrides=overrides, rerun=rerun_policy(rerun))
    chosen = select(every, *selection)
    for line in settings_lines(chosen):
        say(line)
    return every, chosen


def _overrides(runtime: Mapping[str, Any] | None) -> list[str]:
    return [f"runtime.{name}={json.dumps(value)}" for name, value in (runtime or {}).items()]


def _lacking(spec: LeaderboardSpec, every: Sequence[RunPlan]) -> str | None:
    """Why a leaderboard of which a part was run is not built: other cells are not done."""
    from lmrl_bench.planning.outlook import cell_state

    lacking = [job.name for job in every if cell_state(job).state not in ("done", "diverged")]
    if not lacking:
        return None
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return (
        f"the leaderboard was not built: {len(lacking)} of {len(every)} cells are not done "
        f"({', '.join(lacking[:3])}{more}); run them with `lmrl-bench leaderboard run {spec.name}`, or "
        f"build it without them with `lmrl-bench leaderboard build {spec.name}`"
    )
