"""One run, from its plan to its record.

Initial policy → learn (with evaluations and checkpoints between iterations) → test → files → `record.json`, written
last. A crashed, diverged or interrupted run is a record too; only a configuration that cannot start raises.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from lmrl_bench.core.errors import DivergedError, RecordError, RewardNotFiniteError
from lmrl_bench.core.events import RESUMED, Event, Listener, silent
from lmrl_bench.planning.folders import (
    POLICY,
    DamagedConfigError,
    DamagedRunError,
    StaleRecordError,
)
from lmrl_bench.planning.plan import RerunPolicy, RunPlan
from lmrl_bench.records.files import FolderError, remove_leftovers
from lmrl_bench.records.record import RunRecord, Status
from lmrl_bench.records.seal import write_seal
from lmrl_bench.records.store import RunLock, format_traceback, writable, write_record
from lmrl_bench.runs.checkpoint import load_checkpoint, remove_checkpoint, remove_unfinished
from lmrl_bench.runs.journal import Journal, write_config
from lmrl_bench.runs.memory import PeakMemory
from lmrl_bench.runs.session import Session, open_session, require_device
from lmrl_bench.runs.trainer import Interrupted, Trainer
from lmrl_bench.speedups.allocator import reuse_freed_memory


def execute(plan: RunPlan, *, progress: Listener = silent, train_initial: bool = True) -> RunRecord:
    """Runs a plan; the record of the same run, if it is done, is returned as it is.

    Args:
        plan: The run.
        progress: Takes events.
        train_initial: Train the SFT policy that the run starts from, if nobody has; else that is an error.

    Raises:
        LmrlBenchError: The run cannot start; nothing has been written then.
        KeyboardInterrupt: The user stopped while the initial policy was trained.
    """
    folder = plan.folder
    with writable(folder), RunLock(folder):
        remove_leftovers(folder)
        remove_unfinished(folder)
        done, fresh = _finished(plan, progress)
        if done is not None:
            if done.status != "failed":
                remove_checkpoint(folder)  # a kill came between the record and this
            progress(Event(plan.name, "finished", 1.0, text=f"already {done.status}"))
            return done
        require_device(plan.config.runtime.device)  # before minutes are spent on the initial policy
        plan = plan.prepared(progress, train=train_initial)
        reuse_freed_memory()
        memory = PeakMemory()
        session = open_session(plan)
        if fresh:
            remove_checkpoint(folder)
        journal = Journal(session, memory)
        try:
            state = _begin(session, journal)
        except FolderError:
            raise
        except RecordError as error:
            if RerunPolicy.STALE not in plan.rerun:
                raise
            progress(Event(plan.name, "note", text=f"starting again: {error}"))
            remove_checkpoint(folder)
            state = _begin(session, journal)
        return _finish(session, journal, state, progress)


def _finished(plan: RunPlan, progress: Listener) -> tuple[RunRecord | None, bool]:
    """Returns the record of a run that is done, and whether a checkpoint is to be forgotten.

    A record that is damaged is reported, and counts as not done.

    Raises:
        StaleRecordError: The folder holds the record of another run, which must stay.
        RecordError: The record cannot be read, and nothing shows that it is this run's.
    """
    if RerunPolicy.ALL in plan.rerun:
        return None, True
    try:
        try:
            return plan.finished_record(), False
        except DamagedConfigError as error:
            progress(Event(plan.name, "note", text=f"{error}; written again"))
            write_config(plan)
            return plan.finished_record(), False
    except DamagedRunError as error:
        progress(Event(plan.name, "note", text=f"{error}; running again"))
        return None, False
    except StaleRecordError:
        if RerunPolicy.STALE not in plan.rerun:
            raise
        return None, True


def _begin(session: Session, journal: Journal) -> dict[str, Any] | None:
    """Starts the run's files, or goes on from its checkpoint, which is returned.

    Raises:
        RecordError: The checkpoint, or the curves that it refers to, are damaged or another run's.
    """
    state = load_checkpoint(session.plan.folder, key=_key(session))
    if state is None:
        journal.begin()
    else:
        journal.restore(state["journal"])
    return state


def _finish(
    session: Session, journal: Journal, state: dict[str, Any] | None, progress: Listener
) -> RunRecord:
    """Trains and tests; whatever happens becomes the record."""
    plan, folder = session.plan, session.plan.folder
    trainer = Trainer(session, journal, progress, key=_key(session))
    progress(Event(plan.name, "started", text=RESUMED if state else "started"))
    status: Status = "completed"
    error: BaseException | None = None
    try:
        with _stop_on_signal(trainer):
            trainer.train(state)
            trainer.test()
        if plan.config.runtime.keep_policy:
            journal.check()  # saving would recreate a folder that a user removed
            session.policy.save(folder / POLICY)
            write_seal(folder / POLICY)
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
    write_record(folder, record)
    if status in ("completed", "diverged"):
        remove_checkpoint(folder)
    progress(Event(plan.name, "finished", 1.0, values=_headline(record), text=status))
    return record


def _key(session: Session) -> str:
    """Everything that a checkpoint belongs to; the initial policy by content, so that none are mixed."""
    plan = session.plan
    digests = plan.expected.config_digest, plan.expected.task_digest
    return "/".join((*digests, str(plan.config.seed), plan.initial.key))


def _headline(record: RunRecord) -> dict[str, float]:
    test = record.results.get("test")
    values = {"tokens": float(record.budget.tokens), "wall_s": record.time.wall_s}
    if test is None:
        return values
    kl = {} if test.kl_to_reference is None else {"kl": test.kl_to_reference}
    return {"reward": test.reward, **kl, **values}


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
