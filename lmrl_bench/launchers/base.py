"""Interface of launchers: they take planned runs and the recipes of their artifacts, and yield each result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmrl_bench.artifacts.recipe import Recipe
from lmrl_bench.core.errors import RecordError
from lmrl_bench.core.events import Event, Listener
from lmrl_bench.planning.plan import RunPlan
from lmrl_bench.records.store import RECORD

Job = RunPlan | Recipe
"""A run, or an artifact that runs need; both are picklable."""


@dataclass(frozen=True)
class Result:
    """The outcome of a job.

    Attributes:
        index: Its place among the jobs that were submitted.
        value: What `perform` returned; None if it did not end.
        error: Why it did not end.
        died: Whether its process was lost with it.
        killed: Whether that process was ended from outside.
    """

    index: int
    value: str | None = None
    error: str | None = None
    died: bool = False
    killed: bool = False


class Launcher(Protocol):
    """Performs jobs somewhere: here, in worker processes, on other machines.

    Plug-ins register what makes one for a number of workers in the entry-point group `lmrl_bench.launchers`.
    """

    @property
    def stopped(self) -> bool:
        """Whether the user asked to stop; then no further job is begun, by later calls either."""

    def submit(self, jobs: Sequence[Job], progress: Listener) -> Iterator[Result]:
        """Yields the result of every job that was begun, in any order.

        Args:
            jobs: What `perform` is called with, once each, in any process that can read them. They do not depend on
                each other, and a job that fails does not stop the others.
            progress: Takes the events of all jobs, in this process.
        """


def perform(job: Job, progress: Listener) -> str:
    """Performs a job in this process: builds an artifact, or runs a run.

    Returns:
        The artifact's place, or the run's status. Whatever goes wrong with a run before training becomes a failed
        record, where there is none yet.

    Raises:
        RecordError: The folder cannot be written, another process works in it, or it holds another run's record,
            which must stay as it is.
        Exception: The artifact cannot be built, or the run cannot start; the record that it has from before stays.
    """
    if isinstance(job, Recipe):
        return str(job.build(progress))
    from lmrl_bench.runs.execute import execute
    from lmrl_bench.runs.record_parts import write_failure

    try:
        # A grid builds what its runs need first, each once: a run does not try again what failed.
        return execute(job, progress=progress, train_initial=False).status
    except RecordError:
        raise
    except Exception as error:
        if (job.folder / RECORD).exists():
            raise
        progress(Event(job.name, "finished", text=f"failed: {error}"))
        return write_failure(job, error).status


def uses_gpu(job: Job) -> bool:
    """Returns whether a job needs a GPU."""
    return isinstance(job, RunPlan) and job.config.runtime.device != "cpu"
