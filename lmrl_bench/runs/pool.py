"""Worker processes for independent runs: one torch thread each, a dead worker loses one run, never the grid."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from lmrl_bench.runs.progress import Event

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class JobResult:
    """What became of a job: `value` as returned, or `error` as text (crash of the function or of its process)."""

    index: int
    value: Any = None
    error: str | None = None


class _Worker:
    """A process that takes one job at a time from its own pipe; reused, so that imports are paid once."""

    def __init__(self, context: Any, work: Callable[..., Any], outbox: Any) -> None:
        self.jobs = context.SimpleQueue()
        self.index: int | None = None
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(work, self.jobs, outbox), daemon=False
        )
        self.process.start()

    def give(self, index: int, job: Any) -> None:
        self.index = index
        self.jobs.put((index, job))

    def end(self) -> None:
        with suppress(OSError, ValueError):
            self.jobs.put(None)
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def run_jobs(
    work: Callable[[Any, Callable[[Event], None]], Any],
    jobs: Sequence[Any],
    *,
    workers: int,
    on_event: Callable[[Event], None],
) -> Iterator[JobResult]:
    """Yields a result for every job that was begun, in order of completion.

    The first Ctrl-C or TERM begins no further job and asks the running ones to stop (one TERM each); a second
    one stops them at once.

    Args:
        work: a module-level function of (job, event sink).
        jobs: picklable jobs.
        workers: processes.
        on_event: gets the events of all jobs, in this process.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    outbox = context.Queue()
    waiting = list(enumerate(jobs))[::-1]
    crew = [_Worker(context, work, outbox) for _ in range(min(workers, len(jobs)))]
    try:
        with _forwarded_signals(crew, waiting):
            for worker in crew:
                worker.give(*waiting.pop())
            while any(worker.index is not None for worker in crew):
                for result in _next_results(crew, outbox, on_event):
                    yield result
                    position = next(i for i, w in enumerate(crew) if w.index == result.index)
                    crew[position].index = None
                    if waiting:
                        if not crew[position].process.is_alive():
                            crew[position] = _Worker(context, work, outbox)
                        crew[position].give(*waiting.pop())
    finally:
        for worker in crew:
            worker.end()


@contextmanager
def _forwarded_signals(crew: list[_Worker], waiting: list[Any]) -> Iterator[None]:
    """While open, Ctrl-C and TERM empty the queue and are passed to the running workers as TERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        waiting.clear()
        for worker in crew:
            if worker.index is not None and worker.process.is_alive():
                worker.process.terminate()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _next_results(
    crew: list[_Worker], outbox: Any, on_event: Callable[[Event], None]
) -> list[JobResult]:
    """Waits for messages; returns finished jobs, those of dead processes included."""
    try:
        message = outbox.get(timeout=1.0)
    except queue.Empty:
        return [
            JobResult(
                worker.index,
                error=f"the worker process died with exit code {worker.process.exitcode}",
            )
            for worker in crew
            if worker.index is not None and not worker.process.is_alive()
        ]
    if isinstance(message, Event):
        on_event(message)
        return []
    return [message]


def _serve(work: Callable[..., Any], jobs: Any, outbox: Any) -> None:
    """The worker's loop; Ctrl-C is the parent's, which passes it on as TERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (item := jobs.get()) is not None:
        index, job = item
        try:
            outbox.put(JobResult(index, value=work(job, outbox.put)))
        except BaseException as error:
            outbox.put(JobResult(index, error=f"{type(error).__name__}: {error}"))
