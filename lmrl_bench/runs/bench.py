"""A board's grid: runs what is missing in worker processes; the caller builds the board afterwards."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lmrl_bench.config.loading import Located
from lmrl_bench.config.overrides import merge
from lmrl_bench.config.run import RunConfig
from lmrl_bench.errors import ConfigError, LmrlBenchError, RecordError
from lmrl_bench.leaderboards.spec import BoardSpec, cells
from lmrl_bench.records.record import Status
from lmrl_bench.runs.pool import JobResult, Stop, run_jobs
from lmrl_bench.runs.progress import Event, Listener, silent
from lmrl_bench.runs.resolve import resolve
from lmrl_bench.tasks.catalog import load_task


@dataclass(frozen=True)
class CellJob:
    """One cell of a grid, resolved; `fresh` replaces a record that is there."""

    config: RunConfig
    fresh: bool = False

    @property
    def name(self) -> str:
        """task/row/seed."""
        return f"{self.config.task}/{self.config.row}/{self.config.seed}"


@dataclass
class GridResult:
    """What became of a grid: a status per cell, or an error where not even a record could be written."""

    statuses: dict[str, Status] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if every cell completed."""
        return not self.errors and all(status == "completed" for status in self.statuses.values())


def plan(
    board: BoardSpec, results: Path, *, overrides: Sequence[str] = (), fresh: bool = False
) -> list[CellJob]:
    """Resolves every cell of a board; all tasks and settings are checked before anything runs.

    Raises:
        LmrlBenchError: A cell cannot be configured.
    """
    foreign = [text for text in overrides if not text.startswith("runtime.")]
    if foreign:
        raise ConfigError(
            f"--set {foreign[0]}: a board fixes its configuration, only runtime.* may be set here; edit "
            "leaderboard.yaml, or copy the board under another name"
        )
    grid = cells(board)
    tasks = {name: load_task(name) for name in {cell.task for cell in grid}}
    jobs = []
    for cell in grid:
        folder = cell.folder(results, board.name)
        place = Located.plain({"runtime": {"output": str(folder)}}, "--results")
        given = merge(cell.located, place)
        jobs.append(CellJob(resolve(tasks[cell.task], given, overrides=overrides), fresh))
    return jobs


def run_grid(jobs: Sequence[CellJob], *, workers: int, progress: Listener = silent) -> GridResult:
    """Runs the cells that have no completed record yet; a bad cell does not stop the others.

    The supervised starts that are missing are trained first, each once. After Ctrl-C or TERM, cells that did not
    run count as interrupted.
    """
    outcome, stop = GridResult(), Stop()
    starts = {
        f"{job.config.task}/{job.config.policy.model}": job
        for job in jobs
        if job.config.policy.start == "supervised"
    }
    begin = functools.partial(run_jobs, workers=workers, on_event=progress, stop=stop)
    for result in begin(_prepare, list(starts.values())):
        if (
            result.error is not None and not stop.requested
        ):  # its cells will only say that it is missing
            name = list(starts)[result.index]
            progress(Event(name, "note", text=f"no supervised start: {result.error}"))
    for result in begin(_run_cell, jobs):
        job = jobs[result.index]
        if result.error is None:
            outcome.statuses[job.name] = result.value
        elif not (result.died and stop.requested):
            outcome.statuses[job.name] = "failed"
            outcome.errors[job.name] = result.error
            _record_death(job, result)
            progress(Event(job.name, "finished", text=f"failed: {result.error}"))
    for job in jobs:
        outcome.statuses.setdefault(job.name, "interrupted")
    return outcome


def _prepare(job: CellJob, emit: Listener) -> str:
    """Worker: trains the supervised start if it is missing."""
    from lmrl_bench.runs.starts import ensure_start

    return ensure_start(load_task(job.config.task), job.config.policy, emit).location


def _run_cell(job: CellJob, emit: Listener) -> Status:
    """Worker: runs one cell; whatever goes wrong before training becomes a failed record.

    Raises:
        RecordError: The folder cannot be written, another process works in it, or it holds another run's record,
            which must stay as it is.
    """
    from lmrl_bench.runs.execute import execute

    try:
        task = load_task(job.config.task)
        return execute(job.config, task, progress=emit, fresh=job.fresh).status
    except RecordError:
        raise
    except Exception as error:
        from lmrl_bench.runs.journal import write_failure

        emit(Event(job.name, "finished", text=f"failed: {error}"))
        return write_failure(job.config, error).status


def _record_death(job: CellJob, result: JobResult) -> None:
    """Writes the record of a cell whose process died, if the folder can be written at all."""
    from lmrl_bench.runs.journal import write_failure

    if result.died:
        with suppress(OSError, LmrlBenchError):
            write_failure(job.config, RuntimeError(result.error))
