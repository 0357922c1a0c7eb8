"""The cells of a leaderboard: what they resolve to now, and how they are run. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lmrl_bench.config.loading import Located
from lmrl_bench.config.overrides import merge
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.leaderboards.collect import Expectation
from lmrl_bench.leaderboards.spec import Cell, LeaderboardSpec, cells
from lmrl_bench.planning.plan import RerunPolicy, RunPlan, plan_run
from lmrl_bench.planning.resolve import resolve, resolve_unchecked
from lmrl_bench.planning.tuning_protocol import require_declared
from lmrl_bench.records.expected import ExpectedRun
from lmrl_bench.records.store import RECORD
from lmrl_bench.tasks.catalog import load_task


def of_leaderboard(leaderboard: LeaderboardSpec) -> Expectation:
    """Returns what the record of each cell must say: settings, task and initial policy, as they are now.

    The seeds of an entry share one answer, which is found when it is first asked for.

    Raises:
        ConfigError: The leaderboard declares a tuning by which its settings were not made.
        LmrlBenchError: When called: a task or a setting of the leaderboard is wrong, or a shipped policy
            was made from other weights.
    """
    require_declared(leaderboard)
    first: dict[tuple[str, str], Cell] = {}
    for cell in cells(leaderboard):
        first.setdefault((cell.task, cell.entry), cell)
    task_of = cache(load_task)

    @cache
    def of_entry(task: str, entry: str) -> ExpectedRun:
        found = plan_run(
            task_of(task), resolve_unchecked(task_of(task), first[task, entry].located)
        )
        found.initial.require_fitting()
        return found.expected

    def of_cell(cell: Cell) -> ExpectedRun:
        return of_entry(cell.task, cell.entry)

    return of_cell


def lacks_records(spec: LeaderboardSpec, results_root: Path) -> bool:
    """Returns whether a cell of the leaderboard has no record at all, so that there is something to run."""
    folders = (cell.folder(results_root, spec.name) for cell in cells(spec))
    return not all((folder / RECORD).exists() for folder in folders)


def plan(
    leaderboard: LeaderboardSpec,
    results: Path,
    *,
    overrides: Sequence[str] = (),
    rerun: RerunPolicy = RerunPolicy.NONE,
) -> list[RunPlan]:
    """Plans every cell of a leaderboard; all tasks and settings are checked before anything runs.

    Raises:
        LmrlBenchError: A cell cannot be configured, or a shipped policy was made from other weights.
    """
    require_runtime_only(overrides)
    require_declared(leaderboard)
    grid = cells(leaderboard)
    tasks = {name: load_task(name) for name in {cell.task for cell in grid}}
    plans: list[RunPlan] = []
    first: dict[tuple[str, str], RunPlan] = {}
    for cell in grid:
        task, folder = tasks[cell.task], cell.folder(results, leaderboard.name)
        place = Located.plain({"runtime": {"output": str(folder)}}, "--results")
        try:
            config = resolve(task, merge(cell.located, place), overrides=overrides)
        except ConfigError as error:
            raise ConfigError(f"entry '{cell.entry}' on {cell.task}:\n{error}") from error
        if not config.evaluation.test_samples:
            raise ConfigError(
                f"{cell.task}/{cell.entry}: evaluation.test_samples is 0; a leaderboard needs a test"
            )
        entry = (cell.task, cell.entry)
        plans.append(plan_run(task, config, rerun=rerun, like=first.get(entry)))
        first.setdefault(entry, plans[-1])
        plans[-1].initial.require_fitting()
    return plans


def require_runtime_only(overrides: Sequence[str]) -> None:
    """Refuses overrides that could change a result.

    Raises:
        ConfigError: Names the first one.
    """
    foreign = [text for text in overrides if not text.startswith("runtime.")]
    if foreign:
        raise ConfigError(
            f"--set {foreign[0]}: a leaderboard fixes its configuration, only runtime.* may be set here; edit "
            "leaderboard.yaml, or copy the leaderboard under another name"
        )
