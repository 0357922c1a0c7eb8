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
from lmrl_bench.core.errors import ConfigError, LmrlBenchError, RecordError
from lmrl_bench.leaderboards.spec import BoardSpec, cells
from lmrl_bench.records.expected import ExpectedRun
from lmrl_bench.records.record import Status
from lmrl_bench.records.store import RECORD
from lmrl_bench.runs.declared import require_declared
from lmrl_bench.runs.done import done_record, untidy
from lmrl_bench.runs.folders import run_folder, run_name
from lmrl_bench.runs.pool import JobResult, Stop, run_jobs
from lmrl_bench.runs.progress import Event, Listener, silent
from lmrl_bench.runs.resolve import resolve
from lmrl_bench.runs.starts import existing_start, expected_run, trained_start
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task


@dataclass(frozen=True)
class Rerun:
    """Which records do not count as done.

    Attributes:
        fresh: none counts.
        failed: those of runs that failed.
        stale: those that were made with other settings, a changed task or another start.
    """

    fresh: bool = False
    failed: bool = False
    stale: bool = False


@dataclass(frozen=True)
class CellJob:
    """One cell of a grid, resolved.

    Attributes:
        config: the run.
        expected: what its record must say to count.
        rerun: which records do not count all the same.
    """

    config: RunConfig
    expected: ExpectedRun
    rerun: Rerun = Rerun()

    @property
    def name(self) -> str:
        """task/row/seed."""
        return run_name(self.config)

    def done(self) -> Status | None:
        """Returns how the cell ended, if nothing is left to do.

        What is wrong with a foreign record, the worker says.
        """
        if self.rerun.fresh:
            return None
        with suppress(RecordError):
            record = done_record(self.config, self.expected, self.rerun.failed)
            if record and record.status != "failed" and untidy(run_folder(self.config)):
                return None  # the worker removes what a kill has left
            return record.status if record else None
        return None


@dataclass
class GridResult:
    """What became of a grid: a status per cell, or an error where not even a record could be written."""

    statuses: dict[str, Status] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if every cell is done: it completed, or it diverged, which is a result."""
        done = ("completed", "diverged")
        return not self.errors and all(status in done for status in self.statuses.values())


def lacks_records(spec: BoardSpec, results_root: Path) -> bool:
    """Whether a cell of the board has no record at all: then there is something to run."""
    folders = (cell.folder(results_root, spec.name) for cell in cells(spec))
    return not all((folder / RECORD).exists() for folder in folders)


def plan(
    board: BoardSpec, results: Path, *, overrides: Sequence[str] = (), rerun: Rerun = Rerun()
) -> list[CellJob]:
    """Resolves every cell of a board; all tasks and settings are checked before anything runs.

    Raises:
        LmrlBenchError: A cell cannot be configured, or a shipped start was made from other weights.
    """
    require_runtime_only(overrides)
    require_declared(board)
    grid = cells(board)
    tasks = {name: load_task(name) for name in {cell.task for cell in grid}}
    jobs, expected = [], {}
    for cell in grid:
        task, folder = tasks[cell.task], cell.folder(results, board.name)
        place = Located.plain({"runtime": {"output": str(folder)}}, "--results")
        try:
            config = resolve(task, merge(cell.located, place), overrides=overrides)
        except ConfigError as error:
            raise ConfigError(f"row '{cell.label}' on {cell.task}:\n{error}") from error
        if not config.evaluation.test_samples:
            raise ConfigError(
                f"{cell.task}/{cell.label}: evaluation.test_samples is 0; a board needs a test"
            )
        row = (cell.task, cell.label)
        if row not in expected:
            expected[row] = expected_run(task, config)
        jobs.append(CellJob(config, expected[row], rerun))
    return jobs


def require_runtime_only(overrides: Sequence[str]) -> None:
    """Refuses overrides that could change a result.

    Raises:
        ConfigError: Names the first one.
    """
    foreign = [text for text in overrides if not text.startswith("runtime.")]
    if foreign:
        raise ConfigError(
            f"--set {foreign[0]}: a board fixes its configuration, only runtime.* may be set here; edit "
            "leaderboard.yaml, or copy the board under another name"
        )


def run_grid(jobs: Sequence[CellJob], *, workers: int, progress: Listener = silent) -> GridResult:
    """Runs the cells that are not done yet; a bad cell does not stop the others.

    The supervised starts that they need are trained first, each once. After Ctrl-C or TERM, cells that did not
    run count as interrupted.
    """
    outcome, stop = GridResult(), Stop()
    pending = []
    for job in jobs:
        status = job.done()
        if status is None:
            pending.append(job)
        else:
            outcome.statuses[job.name] = status
            progress(Event(job.name, "finished", 1.0, text=f"already {status}"))
    starts = _missing_starts(pending)
    forked = all(job.config.runtime.device == "cpu" for job in pending)
    begin = functools.partial(
        run_jobs, workers=workers, on_event=progress, stop=stop, forked=forked
    )
    for result in begin(_prepare, list(starts.values())):
        if result.error is not None and not stop.requested:  # its cells only say that it is missing
            job = list(starts.values())[result.index]
            name = f"{job.config.task}/{job.config.policy.model}"
            progress(Event(name, "note", text=f"no supervised start: {result.error}"))
    for result in begin(_run_cell, pending):
        job = pending[result.index]
        if result.error is None:
            outcome.statuses[job.name] = result.value
        elif not (result.died and stop.requested):
            status = "interrupted" if result.killed else "failed"
            outcome.statuses[job.name] = status
            outcome.errors[job.name] = result.error
            _record_death(job, result, status)
            progress(Event(job.name, "finished", text=f"{status}: {result.error}"))
    for job in jobs:
        outcome.statuses.setdefault(job.name, "interrupted")
    return outcome


def _missing_starts(jobs: Sequence[CellJob]) -> dict[Path, CellJob]:
    """Returns, for each supervised start that has yet to be trained, a cell that begins from it."""
    starts: dict[Path, CellJob] = {}
    for job in jobs:
        policy, task = job.config.policy, load_task(job.config.task)
        with suppress(LmrlBenchError):  # the cell will say what is wrong
            if existing_start(task, policy) is None:
                starts.setdefault(trained_start(task, policy), job)
    return starts


@functools.lru_cache(maxsize=4)
def _worker_task(name: str) -> Task:
    """A worker meets the same few tasks again and again: it reads their data and frozen models once."""
    return load_task(name)


def _prepare(job: CellJob, emit: Listener) -> str:
    """Worker: trains the supervised start if it is missing."""
    from lmrl_bench.runs.execute import ensure_start

    return ensure_start(_worker_task(job.config.task), job.config.policy, emit).location


def _run_cell(job: CellJob, emit: Listener) -> Status:
    """Worker: runs one cell; whatever goes wrong before training becomes a failed record, where there is none yet.

    Raises:
        RecordError: The folder cannot be written, another process works in it, or it holds another run's record,
            which must stay as it is.
        Exception: The cell cannot start; the record that it has from before stays.
    """
    from lmrl_bench.runs.execute import execute

    try:
        rerun = job.rerun
        return execute(
            job.config,
            _worker_task(job.config.task),
            progress=emit,
            fresh=rerun.fresh,
            retry_failed=rerun.failed,
            replace_stale=rerun.stale,
        ).status
    except RecordError:
        raise
    except Exception as error:
        from lmrl_bench.runs.journal import write_failure

        if _has_record(job):
            raise
        emit(Event(job.name, "finished", text=f"failed: {error}"))
        return write_failure(job.config, error).status


def _record_death(job: CellJob, result: JobResult, status: Status) -> None:
    """Writes the record of a cell whose process died, if it has none and the folder can be written at all.

    A cell whose process was killed counts as interrupted: the next call goes on with it.
    """
    from lmrl_bench.runs.journal import write_failure

    if result.died and not _has_record(job):
        with suppress(OSError, LmrlBenchError):
            write_failure(job.config, RuntimeError(result.error), status)


def _has_record(job: CellJob) -> bool:
    """Whether there is a record: an older one, which training removes, or one written before the process died."""
    return (run_folder(job.config) / RECORD).exists()
