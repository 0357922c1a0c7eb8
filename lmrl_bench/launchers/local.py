"""Worker processes for independent runs: one torch thread each, a dead worker loses one run, never the grid.

Importing torch and Transformers takes a process seconds. On Linux workers are therefore forked from a server that has
imported them once, while the grid was planned, and has computed nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any

from lmrl_bench.core.events import Event, Listener
from lmrl_bench.launchers.base import Job, Result, perform, uses_gpu

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_IMPORTS = "lmrl_bench.launchers.preloaded"
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)
"""Exit codes of processes that did not end through their own fault; the system kills what uses too much memory."""
_STOPPING = "stopping after the running iterations; once more stops at once"


@dataclass
class Stop:
    """Whether the user asked to stop; one object may be shared by several calls of `run_jobs`."""

    requested: bool = False
    announced: bool = False

    def tell(self, worker: _Worker) -> None:
        """Tells a worker to stop, if that is asked and it does not know."""
        if self.requested and not worker.told_to_stop:
            worker.tell_to_stop()

    def announce(self, on_event: Callable[[Event], None]) -> None:
        """Says once, if it is so, that the grid is stopping."""
        if self.requested and not self.announced:
            self.announced = True
            on_event(Event("grid", "note", text=_STOPPING))


class LocalLauncher:
    """Performs jobs in worker processes of this machine; the first Ctrl-C or TERM lets running iterations end.

    Args:
        workers: Processes.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._stop = Stop()

    @property
    def stopped(self) -> bool:
        """Whether the user asked to stop."""
        return self._stop.requested

    def submit(self, jobs: Sequence[Job], progress: Listener) -> Iterator[Result]:
        """Yields the result of every job that was begun, in order of completion."""
        if jobs:
            yield from run_jobs(
                perform, jobs, workers=self._workers, on_event=progress, stop=self._stop,
                forked=not any(map(uses_gpu, jobs)),
            )  # fmt: skip


class _Worker:
    """A process that takes one job at a time; reused, so that imports are paid once.

    It has a pipe of its own: a queue shared by all would stay locked if one of them died while it writes.
    """

    def __init__(self, context: BaseContext, work: Callable[..., Any]) -> None:
        self.pipe, theirs = context.Pipe()
        self.index: int | None = None
        self.told_to_stop = False
        arguments = (work, theirs, dict(os.environ))
        # Every context has processes; the base class does not say so.
        self.process = context.Process(target=_serve, args=arguments)  # type: ignore[attr-defined]
        with _blocked(signal.SIGINT):  # which is for this process alone
            self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def give(self, waiting: list[tuple[int, Any]], stop: Stop) -> None:
        """Sends the last of the waiting jobs, if there is one and nobody asked to stop."""
        if not waiting or stop.requested:
            return
        self.told_to_stop = False
        self.index, job = waiting.pop()
        with suppress(BrokenPipeError):  # it died while idle: `receive` will say so
            self.pipe.send((self.index, job))
        stop.tell(self)  # by a signal that came before the job

    def tell_to_stop(self) -> None:
        """Tells its job, if it has one, to stop; a second time to stop at once."""
        if self.index is not None and self.process.is_alive():
            self.process.terminate()
            self.told_to_stop = True

    def receive(self) -> Event | Result:
        """Returns its next message, or the result of a job that was lost with the process."""
        assert self.index is not None
        try:
            message: Event | Result = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            error = f"the worker process died with exit code {code}"
            return Result(self.index, error=error, died=True, killed=code in _KILLED)
        return message

    def dismiss(self) -> None:
        """Lets it end; a job that it still has is interrupted when it next says something."""
        with suppress(OSError):
            self.pipe.send(None)
        self.pipe.close()

    def end(self) -> None:
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def start_server() -> None:
    """Has a process import, in the background, what forked workers need; call it before what takes time.

    It is the one fork server of this process: what others asked it to preload is replaced, and its modules are
    imported in the environment of the first call.
    """
    _one_thread_each()
    if _can_fork():
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload([_IMPORTS])
        # Ctrl-C is for this process, and who stops a whole group of processes leaves it to the workers to end: without
        # the server they would count as dead. What comes for a worker before it can handle it waits.
        with _own_path(), _blocked(signal.SIGINT, signal.SIGTERM):
            forkserver.ensure_running()


def _one_thread_each() -> None:
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


@contextmanager
def _own_path() -> Iterator[None]:
    """While open, a new Python looks for modules where this one does; else it begins with the current folder."""
    before = dict(os.environ)
    path = os.pathsep.join(filter(None, sys.path))
    os.environ.update(PYTHONPATH=path, PYTHONSAFEPATH="1")
    try:
        yield
    finally:
        for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


@contextmanager
def _blocked(*signals: int) -> Iterator[None]:
    """While open, signals wait; a process that is begun here does not see them until it wants to."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # every new process needs it; as it starts, it ends a block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _can_fork() -> bool:
    """Elsewhere there is no fork, or the system's libraries do not survive it (macOS)."""
    return sys.platform == "linux"


def run_jobs(
    work: Callable[[Any, Callable[[Event], None]], Any],
    jobs: Sequence[Any],
    *,
    workers: int,
    on_event: Callable[[Event], None],
    stop: Stop | None = None,
    forked: bool = False,
) -> Iterator[Result]:
    """Yields a result for every job that was begun, in order of completion.

    The first Ctrl-C or TERM begins no further job and asks the running ones to stop (one TERM each); a second
    one stops them at once.

    Args:
        work: a module-level function of (job, event sink).
        jobs: picklable jobs.
        workers: processes.
        on_event: gets the events of all jobs, in this process.
        stop: is set by the first Ctrl-C or TERM; nothing is begun once it is.
        forked: whether workers may be forked, which no GPU's driver survives.
    """
    stop = stop or Stop()
    if stop.requested or not jobs:
        return
    _one_thread_each()
    forked = forked and _can_fork()
    if forked:
        start_server()
    context = multiprocessing.get_context("forkserver" if forked else "spawn")
    waiting = list(enumerate(jobs))[::-1]
    crew: list[_Worker] = []
    with _forwarded_signals(crew, stop):
        try:
            while len(crew) < min(workers, len(jobs)) and not stop.requested:
                crew.append(_Worker(context, work))
                crew[-1].give(waiting, stop)
            while busy := [worker for worker in crew if worker.index is not None]:
                stop.announce(on_event)
                for worker in _ready(busy):
                    message = worker.receive()
                    if isinstance(message, Event):
                        on_event(message)
                        continue
                    yield message
                    worker.index = None
                    if message.died and waiting and not stop.requested:
                        crew[crew.index(worker)] = worker = _Worker(context, work)
                    worker.give(waiting, stop)
        finally:
            for worker in crew:
                worker.dismiss()
            for worker in crew:
                worker.end()


@contextmanager
def _forwarded_signals(crew: list[_Worker], stop: Stop) -> Iterator[None]:
    """While open, Ctrl-C and TERM ask to stop and are passed to the running workers as TERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.requested = True
        for worker in crew:
            worker.tell_to_stop()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ready(busy: Sequence[_Worker]) -> list[_Worker]:
    """Waits until some worker has a message or has died, or for a second; returns those."""
    ready = wait([worker.pipe for worker in busy], timeout=1)
    return [worker for worker in busy if worker.pipe in ready]


def _serve(work: Callable[..., Any], pipe: Connection, environment: Mapping[str, str]) -> None:
    """The worker's loop; Ctrl-C is the parent's, which passes it on as TERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # which waits in the server
    os.environ.clear()
    os.environ.update(environment)  # the server's is older
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while (item := pipe.recv()) is not None:
            index, job = item
            try:
                pipe.send(Result(index, value=work(job, _sink(pipe))))
            except BaseException as error:
                pipe.send(Result(index, error=f"{type(error).__name__}: {error}"))


def _sink(pipe: Connection) -> Callable[[Event], None]:
    """Returns what takes a job's events; when nobody does any more, the job is interrupted."""

    def send(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError as error:
            raise KeyboardInterrupt("the process that gave the job is gone") from error

    return send
