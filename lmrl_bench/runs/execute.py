"""One run, from configuration to record.

Start → learn (with evaluations and checkpoints between iterations) → test → files → `record.json`, written last.
A crashed, diverged or interrupted run is a record too; only a configuration that cannot start raises.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from lmrl_bench.config.run import RunConfig
from lmrl_bench.errors import DivergedError, RecordError, RewardNotFiniteError
from lmrl_bench.records.record import RunRecord, Status
from lmrl_bench.records.store import (
    RECORD,
    RunLock,
    check_writable,
    format_traceback,
    read_record,
    write_record,
)
from lmrl_bench.runs.checkpoint import load_checkpoint, remove_checkpoint
from lmrl_bench.runs.journal import Journal
from lmrl_bench.runs.progress import Event, Listener, silent
from lmrl_bench.runs.resolve import resolve
from lmrl_bench.runs.session import Session, open_session
from lmrl_bench.runs.starts import ensure_start
from lmrl_bench.runs.trainer import Interrupted, Trainer
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task

POLICY = "policy"
"""Folder of the trained policy below the run's, with `runtime.keep_policy`."""


def run(
    task: str | Path | Task,
    algorithm: str,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    progress: Listener = silent,
    fresh: bool = False,
) -> RunRecord:
    """Trains one algorithm on one task and returns the record.

    Args:
        task: task name, folder, or a loaded task.
        algorithm: a registered algorithm.
        seed: root seed of the run.
        overrides: `"a.b=c"` for any field of the configuration.
        given: further configuration, below the overrides.
        progress: takes events.
        fresh: forget a checkpoint or a record that is already there.

    Raises:
        LmrlBenchError: The run cannot start.
    """
    loaded = task if isinstance(task, Task) else load_task(task)
    base = {**(given or {}), "algorithm": {"name": algorithm}, "seed": seed}
    if given and given.get("algorithm", {}).get("name") == algorithm:
        base["algorithm"] = given["algorithm"]
    config = resolve(loaded, base, overrides=overrides)
    return execute_with_start(config, loaded, progress=progress, fresh=fresh)


def execute_with_start(
    config: RunConfig, task: Task, *, progress: Listener = silent, fresh: bool = False
) -> RunRecord:
    """Runs a resolved configuration; trains the task's supervised policy first if the run needs it.

    Raises:
        LmrlBenchError: The run cannot start.
        KeyboardInterrupt: The user stopped while the supervised policy was trained.
    """
    check_writable(run_folder(config))  # before minutes are spent on a start
    if config.algorithm.name != "supervised":
        ensure_start(task, config.policy, progress)
    return execute(config, task, progress=progress, fresh=fresh)


def run_folder(config: RunConfig) -> Path:
    """Returns the folder of a run: as configured, or results/runs/<task>/<row>/<seed>."""
    default = Path("results") / "runs" / config.task / config.row / str(config.seed)
    return config.runtime.output or default


def execute(
    config: RunConfig, task: Task, *, progress: Listener = silent, fresh: bool = False
) -> RunRecord:
    """Runs a resolved configuration; returns an existing completed record of the same run unless `fresh`.

    Raises:
        LmrlBenchError: The run cannot start; nothing has been written then.
    """
    folder = run_folder(config)
    check_writable(folder)
    with RunLock(folder):
        done = None if fresh else _completed(folder, config, task)
        if done is not None:
            progress(Event(_name(config), "finished", 1.0, text="already completed"))
            return done
        session = open_session(config, task)
        if fresh:  # the old record would stand beside new curves if this run were killed
            remove_checkpoint(folder)
            (folder / RECORD).unlink(missing_ok=True)
        state = load_checkpoint(folder, key=_key(config, task))
        journal = Journal(folder, session)
        return _finish(session, journal, state, progress)


def _finish(
    session: Session, journal: Journal, state: dict[str, Any] | None, progress: Listener
) -> RunRecord:
    """Trains and tests; whatever happens becomes the record."""
    config = session.config
    trainer = Trainer(session, journal, progress, key=_key(config, session.task))
    progress(Event(_name(config), "started", text="resumed" if state else "started"))
    status: Status = "completed"
    error: BaseException | None = None
    try:
        with _stop_on_signal(trainer):
            trainer.train(state)
            trainer.test()
        if config.runtime.keep_policy:
            session.policy.save(journal.folder / POLICY)
    except (DivergedError, RewardNotFiniteError) as caught:
        status, error = "diverged", caught
    except (Interrupted, KeyboardInterrupt) as caught:
        status, error = "interrupted", caught
    except Exception as caught:  # a bad run is data, not a crash
        status, error = "failed", caught
    trace = format_traceback(error) if status == "failed" and error else None
    record = journal.record(status, error, trace)
    write_record(journal.folder, record)
    if status == "completed":
        remove_checkpoint(journal.folder)
    progress(Event(_name(config), "finished", 1.0, values=_headline(record), text=status))
    return record


def _completed(folder: Path, config: RunConfig, task: Task) -> RunRecord | None:
    """Returns the completed record of exactly this run, if it is there."""
    if not (folder / RECORD).exists():
        return None
    record = read_record(folder)
    same = record.config_digest == config.digest() and record.seed == config.seed
    if record.status != "completed" and same:
        return None
    if not same or record.task.digest != task.digest:
        raise RecordError(
            f"{folder} holds the record of another run ({record.id}); "
            "choose another --output, or --fresh to replace it"
        )
    return record


def _key(config: RunConfig, task: Task) -> str:
    return f"{config.digest()}/{task.digest}/{config.seed}"


def _name(config: RunConfig) -> str:
    return f"{config.task}/{config.row}/{config.seed}"


def _headline(record: RunRecord) -> dict[str, float]:
    test = record.results.get("test")
    values = {"wall_s": record.time.wall_s}
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
