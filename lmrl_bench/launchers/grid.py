"""A board's grid: runs what is missing in worker processes; the caller builds the board afterwards."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lmrl_bench.core.errors import LmrlBenchError, RecordError
from lmrl_bench.core.events import Event, Listener, silent
from lmrl_bench.launchers.local import JobResult, Stop, run_jobs
from lmrl_bench.planning.folders import run_folder
from lmrl_bench.planning.initial_policy import existing_start, trained_start
from lmrl_bench.planning.plan import CellJob
from lmrl_bench.records.record import Status
from lmrl_bench.records.store import RECORD
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task


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
