"""A grid: runs what is not done yet through a launcher, after the artifacts that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from lmrl_bench.artifacts.recipe import Recipe
from lmrl_bench.core.errors import LmrlBenchError, RecordError
from lmrl_bench.core.events import Event, Listener, silent
from lmrl_bench.launchers import LAUNCHERS
from lmrl_bench.launchers.base import Launcher, Result
from lmrl_bench.planning.folders import untidy
from lmrl_bench.planning.plan import RunPlan
from lmrl_bench.records.record import Status
from lmrl_bench.records.store import RECORD


@dataclass
class GridResult:
    """The outcome of a grid: a status per cell, or an error where no record could be written."""

    statuses: dict[str, Status] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if every cell is done: it completed, or it diverged, which is a result."""
        done = ("completed", "diverged")
        return not self.errors and all(status in done for status in self.statuses.values())


def run_grid(
    plans: Sequence[RunPlan],
    *,
    workers: int = 1,
    launcher: str | Launcher = "local",
    progress: Listener = silent,
) -> GridResult:
    """Runs the cells that are not done yet; a bad cell does not stop the others.

    The artifacts that they need are built first, each once. After Ctrl-C or TERM, cells that did not run count as
    interrupted.

    Args:
        plans: The cells.
        workers: How many a registered launcher performs at a time.
        launcher: A registered name, or a launcher.
        progress: Takes the events of all runs.
    """
    if isinstance(launcher, str):
        launcher = LAUNCHERS.get(launcher)(workers)
    outcome = GridResult()
    pending = []
    for plan in plans:
        status = _done(plan)
        if status is None:
            pending.append(plan)
        else:
            outcome.statuses[plan.name] = status
            progress(Event(plan.name, "finished", 1.0, text=f"already {status}"))
    needed = _needed(pending)
    recipes = list(needed)
    for result in launcher.submit(recipes, progress):
        if (
            result.error is not None and not launcher.stopped
        ):  # its cells only say that it is missing
            plan = needed[recipes[result.index]]
            name = f"{plan.config.task}/{plan.initial.model}"
            progress(Event(name, "note", text=f"no SFT policy: {result.error}"))
    for result in launcher.submit(pending, progress):
        _note(outcome, pending[result.index], result, launcher.stopped, progress)
    for plan in plans:
        outcome.statuses.setdefault(plan.name, "interrupted")
    return outcome


def _done(plan: RunPlan) -> Status | None:
    """Returns how a cell ended, if nothing is left to do; what is wrong with a foreign record, its run says."""
    with suppress(RecordError):
        record = plan.finished_record()
        if record and (record.status == "failed" or not untidy(plan.folder)):
            return record.status
    return (
        None  # also where a kill has left something, which whoever takes the folder's lock removes
    )


def _needed(plans: Sequence[RunPlan]) -> dict[Recipe, RunPlan]:
    """Returns each artifact that has yet to be built, and a cell that needs it."""
    found: dict[Recipe, RunPlan] = {}
    for plan in plans:
        recipe = plan.initial.recipe
        if plan.initial.state == "to be trained" and recipe is not None:
            found.setdefault(recipe, plan)
    return found


def _note(
    outcome: GridResult, plan: RunPlan, result: Result, stopped: bool, progress: Listener
) -> None:
    """Notes the outcome of a cell.

    A cell whose process died gets a record, if it has none and its folder is writable. If the process was killed
    from outside, the cell counts as interrupted: the next call continues it.
    """
    if result.error is None:
        outcome.statuses[plan.name] = cast("Status", result.value)
        return
    if result.died and stopped:
        return
    status: Status = "interrupted" if result.killed else "failed"
    outcome.statuses[plan.name] = status
    outcome.errors[plan.name] = result.error
    if result.died and not (plan.folder / RECORD).exists():
        from lmrl_bench.runs.record_parts import write_failure

        with suppress(OSError, LmrlBenchError):
            write_failure(plan, RuntimeError(result.error), status)
    progress(Event(plan.name, "finished", text=f"{status}: {result.error}"))
