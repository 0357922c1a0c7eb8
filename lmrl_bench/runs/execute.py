"""One run, from configuration to record.

Start → learn (with evaluations and checkpoints between iterations) → test → files → `record.json`, written last.
A crashed, diverged or interrupted run is a record too; only a configuration that cannot start raises.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from lmrl_bench.config.run import PolicyConfig, RunConfig
from lmrl_bench.core.errors import DivergedError, PolicyError, RecordError, RewardNotFiniteError
from lmrl_bench.core.events import RESUMED, Event, Listener, of_a_start, silent
from lmrl_bench.planning.finished import (
    POLICY,
    DamagedConfigError,
    DamagedRunError,
    StaleRecordError,
    done_record,
    untidy,
)
from lmrl_bench.planning.folders import run_folder, run_name
from lmrl_bench.planning.initial_policy import (
    Start,
    existing_start,
    expected_run,
    find_start,
    start_words,
    supervised_config,
    trained_start,
    why_not_shipped,
)
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.policies.export import merge_adapter
from lmrl_bench.records.files import FolderError, remove_leftovers
from lmrl_bench.records.record import RunRecord, Status
from lmrl_bench.records.seal import write_seal
from lmrl_bench.records.store import (
    RECORD,
    RunLock,
    check_writable,
    format_traceback,
    writable,
    write_record,
)
from lmrl_bench.runs.checkpoint import load_checkpoint, remove_checkpoint, remove_unfinished
from lmrl_bench.runs.journal import Journal, write_config
from lmrl_bench.runs.memory import PeakMemory
from lmrl_bench.runs.session import Session, open_session, require_device
from lmrl_bench.runs.trainer import Interrupted, Trainer
from lmrl_bench.speedups.allocator import reuse_freed_memory
from lmrl_bench.tasks.task import Task


def execute_with_start(
    config: RunConfig, task: Task, *, progress: Listener = silent, fresh: bool = False
) -> RunRecord:
    """Runs a resolved configuration; trains the task's supervised policy first if the run needs it.

    Raises:
        LmrlBenchError: The run cannot start.
        KeyboardInterrupt: The user stopped while the supervised policy was trained.
    """
    check_writable(run_folder(config))  # before minutes are spent on a start
    require_device(config.runtime.device)
    if fresh or _needs_start(config, task):
        ensure_start(task, config.policy, progress)
    return execute(config, task, progress=progress, fresh=fresh)


def ensure_start(task: Task, policy: PolicyConfig, progress: Listener = silent) -> Start:
    """Returns the start of a run; trains the supervised policy first if nobody has.

    Raises:
        LmrlBenchError: It cannot be trained, or the shipped one was made from other weights.
        KeyboardInterrupt: The user stopped the training; it resumes with the next call.
    """
    found = existing_start(task, policy)
    if found is not None:
        if found.location == str(trained_start(task, policy)):
            _tidy(Path(found.location).parent)
        return found
    _train_start(task, policy, of_a_start(progress))
    return find_start(task, policy)


def _tidy(folder: Path) -> None:
    """Removes what a kill at its very end left of a finished run, unless another process is at work there."""
    if untidy(folder):
        with contextlib.suppress(RecordError), RunLock(folder):
            remove_leftovers(folder)
            remove_checkpoint(folder)


def _train_start(task: Task, policy: PolicyConfig, progress: Listener) -> None:
    config = supervised_config(task, policy).model_dump(mode="json")
    folder = trained_start(task, policy).parent
    config["runtime"] |= {"output": str(folder), "keep_policy": True}
    name = f"{task.name}/supervised/{config['seed']}"
    if reason := why_not_shipped(task, policy):
        progress(Event(name, "note", text=f"{reason}; training one"))
    progress(Event(name, "note", text=start_words(task, policy)))
    # Nothing in the cache is the user's, and the same start comes out.
    record = execute(resolve(task, config), task, progress=progress, replace_stale=True)
    if record.status == "interrupted":
        raise KeyboardInterrupt
    if record.status != "completed":
        message = record.error.message if record.error else record.status
        raise PolicyError(f"the supervised policy of '{task.name}' was not trained: {message}")
    if policy.adapter is not None:
        merged = trained_start(task, policy)
        merge_adapter(folder / POLICY, merged)
        write_seal(merged)


def execute(
    config: RunConfig,
    task: Task,
    *,
    progress: Listener = silent,
    fresh: bool = False,
    retry_failed: bool = True,
    replace_stale: bool = False,
) -> RunRecord:
    """Runs a resolved configuration; a record of the same run that is done already is returned.

    Args:
        config: the run, resolved.
        task: its task.
        progress: takes events.
        fresh: forget a checkpoint or a record that is already there.
        retry_failed: run a run again that failed; else its record counts as done.
        replace_stale: begin afresh where the record or the checkpoint is another run's, or the checkpoint is damaged.

    Raises:
        LmrlBenchError: The run cannot start; nothing has been written then.
    """
    folder = run_folder(config)
    with writable(folder), RunLock(folder):
        remove_leftovers(folder)
        remove_unfinished(folder)
        try:
            done = None if fresh else _done(config, task, retry_failed, progress)
        except StaleRecordError:
            if not replace_stale:
                raise
            done, fresh = None, True
        if done is not None:
            if done.status != "failed":
                remove_checkpoint(folder)  # a kill came between the record and this
            text = f"already {done.status}"
            progress(Event(run_name(config), "finished", 1.0, text=text))
            return done
        reuse_freed_memory()
        memory = PeakMemory()
        session = open_session(config, task)
        if fresh:
            remove_checkpoint(folder)
        journal = Journal(folder, session, memory)
        try:
            state = _begin(session, journal)
        except FolderError:
            raise
        except RecordError as error:
            if not replace_stale:
                raise
            progress(Event(run_name(config), "note", text=f"starting again: {error}"))
            remove_checkpoint(folder)
            state = _begin(session, journal)
        return _finish(session, journal, state, progress)


def _begin(session: Session, journal: Journal) -> dict[str, Any] | None:
    """Starts the run's files, or goes on from its checkpoint, which is returned.

    Raises:
        RecordError: The checkpoint, or the curves that it refers to, are damaged or another run's.
    """
    state = load_checkpoint(journal.folder, key=_key(session))
    if state is None:
        journal.begin()
    else:
        journal.restore(state["journal"])
    return state


def _finish(
    session: Session, journal: Journal, state: dict[str, Any] | None, progress: Listener
) -> RunRecord:
    """Trains and tests; whatever happens becomes the record."""
    config = session.config
    trainer = Trainer(session, journal, progress, key=_key(session))
    progress(Event(run_name(config), "started", text=RESUMED if state else "started"))
    status: Status = "completed"
    error: BaseException | None = None
    try:
        with _stop_on_signal(trainer):
            trainer.train(state)
            trainer.test()
        if config.runtime.keep_policy:
            journal.check()  # saving would make a folder that somebody removed
            session.policy.save(journal.folder / POLICY)
            write_seal(journal.folder / POLICY)
    except (DivergedError, RewardNotFiniteError) as caught:
        status, error = "diverged", caught
    except (Interrupted, KeyboardInterrupt) as caught:
        status, error = "interrupted", caught
    except FolderError:
        raise  # nothing of the run is wrong: the same command goes on where it can be written
    except Exception as caught:  # a bad run is data, not a crash
        status, error = "failed", caught
    trace = format_traceback(error) if status == "failed" and error else None
    record = journal.record(status, error, trace)
    write_record(journal.folder, record)
    if status in ("completed", "diverged"):
        remove_checkpoint(journal.folder)
    progress(Event(run_name(config), "finished", 1.0, values=_headline(record), text=status))
    return record


def _done(
    config: RunConfig, task: Task, retry_failed: bool, progress: Listener
) -> RunRecord | None:
    """Returns the record of a run that is done; one that is damaged is said, and counts as not done.

    Raises:
        StaleRecordError: The folder holds the record of another run.
        RecordError: The record cannot be read, and nothing shows that it is this run's.
    """
    if not os.path.lexists(run_folder(config) / RECORD):
        return None  # so that a first run does not look for its start twice
    expected = expected_run(task, config)
    try:
        return done_record(config, expected, retry_failed)
    except DamagedConfigError as error:
        progress(Event(run_name(config), "note", text=f"{error}; written again"))
        write_config(config)
        return done_record(config, expected, retry_failed)
    except DamagedRunError as error:
        progress(Event(run_name(config), "note", text=f"{error}; running again"))
        return None


def _needs_start(config: RunConfig, task: Task) -> bool:
    try:
        return (
            not os.path.lexists(run_folder(config) / RECORD)
            or done_record(config, expected_run(task, config), retry_failed=True) is None
        )
    except DamagedConfigError:
        return False
    except DamagedRunError:
        return True


def _key(session: Session) -> str:
    """Everything that a checkpoint belongs to; the start by content, so that none are mixed."""
    config = session.config
    return f"{config.digest()}/{session.task.digest}/{config.seed}/{session.start.key}"


def _headline(record: RunRecord) -> dict[str, float]:
    test = record.results.get("test")
    values = {"tokens": float(record.budget.tokens), "wall_s": record.time.wall_s}
    return {"reward": test.reward, "kl": test.kl_to_reference, **values} if test else values


@contextlib.contextmanager
def _stop_on_signal(trainer: Trainer) -> Iterator[None]:
    """The first Ctrl-C or TERM ends the run after the running iteration; the second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if trainer.stop_requested:
            raise KeyboardInterrupt
        trainer.stop_requested = True

    # A grid's worker ignores Ctrl-C: its parent passes it on as TERM.
    watched = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in watched}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
