"""Finds runs in a results folder: one summary per run, plus damaged and unfinished folders."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl_bench.core.errors import ConfigError, RecordError, nearest
from lmrl_bench.records.record import RunRecord, Status
from lmrl_bench.records.store import CONFIG, CURVES, RECORD, SAMPLES, read_record

SORTS = ("task", "algorithm", "entry", "status", "reward", "metric", "tokens", "when", "folder")
_PARTS = {RECORD, CONFIG, CURVES, SAMPLES}


@dataclass(frozen=True)
class RunSummary:
    """Summary of one run.

    Attributes:
        task: Name of the task.
        entry: Name on a leaderboard; by default the algorithm's name.
        algorithm: Name of the algorithm.
        seed: Root seed.
        status: How the run ended.
        reward: Mean reward on the test split, or else on the validation split; None without
            results.
        metric: The task's primary metric.
        value: Primary metric on the same split; None without results.
        tokens: Completion tokens generated in training.
        when: End of the run, in ISO 8601.
        folder: Folder of the run.
        id: Identifier, as printed by `lmrl-bench run`.
    """

    task: str
    entry: str
    algorithm: str
    seed: int
    status: Status
    reward: float | None
    metric: str
    value: float | None
    tokens: int
    when: str
    folder: Path
    id: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the summary as plain data."""
        return {**self.__dict__, "folder": str(self.folder)}


@dataclass(frozen=True)
class Listing:
    """Runs below a folder.

    Attributes:
        runs: Selected runs in the requested order.
        damaged: Folders whose record cannot be read, with the reason.
        unfinished: Folders with files of a run but without a record: running, or killed.
    """

    runs: list[RunSummary]
    damaged: dict[Path, str]
    unfinished: list[Path]


def list_runs(
    folder: str | Path = "results",
    *,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    entries: Sequence[str] = (),
    statuses: Sequence[str] = (),
    sort: str = "folder",
) -> Listing:
    """Finds the runs below a folder.

    Args:
        folder: A folder of results, at any depth above the runs.
        tasks: Only these tasks.
        algorithms: Only these algorithms.
        entries: Only these entries.
        statuses: Only "completed", "failed", "diverged" or "interrupted".
        sort: "folder", "task", "algorithm", "entry", "status", "reward", "metric", "tokens" or
            "when"; numbers and times sort largest first.

    Returns:
        One summary per run; and the folders whose record is damaged or missing.

    Raises:
        RecordError: There is no such folder.
        ConfigError: An unknown status or order.
    """
    _require(sort, SORTS, "--sort")
    for status in statuses:
        _require(status, ("completed", "failed", "diverged", "interrupted"), "--status")
    root = Path(folder)
    if not root.is_dir():
        raise RecordError(
            f"{root}: there is no such results folder; `lmrl-bench run` writes runs to results/"
        )
    found = Listing([], {}, [])
    for run, names in _run_folders(str(root)):
        if RECORD not in names:
            found.unfinished.append(Path(run))
            continue
        try:
            summary = summarize(Path(run), read_record(run))
        except RecordError as error:
            found.damaged[Path(run)] = str(error)
            continue
        chosen = (
            (tasks, summary.task),
            (algorithms, summary.algorithm),
            (entries, summary.entry),
            (statuses, summary.status),
        )
        if all(not wanted or value in wanted for wanted, value in chosen):
            found.runs.append(summary)
    found.runs.sort(key=_order(sort))
    return found


def summarize(folder: Path, record: RunRecord) -> RunSummary:
    """Returns the summary of a record."""
    results = record.results.get("test") or record.results.get("validation")
    metric = record.task.primary_metric
    value = results.metrics.get(metric) if results else None
    return RunSummary(
        task=record.task.name,
        entry=record.entry,
        algorithm=str(record.algorithm.get("name", "")),
        seed=record.seed,
        status=record.status,
        reward=results.reward if results else None,
        metric=metric,
        value=value.value if value else None,
        tokens=record.budget.tokens,
        when=record.time.finished,
        folder=folder,
        id=record.id,
    )


def find_run(run: str | Path, root: str | Path = "results") -> Path:
    """Returns the folder of a run.

    Args:
        run: The folder, the run's id as printed by `lmrl-bench run`, or task/entry/seed.
        root: Folder of all results, searched for names.

    Raises:
        RecordError: There is no such run, or there are several.
    """
    folder = Path(run)
    if os.path.lexists(folder / RECORD):
        return folder
    if folder.is_file() and folder.name in _PARTS:
        return folder.parent
    if folder.is_dir():
        read_record(folder)  # raises with the reason
    name = str(run)
    known = list_runs(root).runs if Path(root).is_dir() else []
    found = [s for s in known if name in (s.id, f"{s.task}/{s.entry}/{s.seed}")]
    if len(found) == 1:
        return found[0].folder
    if found:
        folders = ", ".join(str(s.folder) for s in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise RecordError(f"{name}: several runs have this name: {folders}{more}; name the folder")
    names = [s.id for s in known]
    raise RecordError(
        f"{name:.200}: neither the folder of a run nor the name of one below {root}"
        f"{nearest(name, names)} (`lmrl-bench results list` prints the names)"
    )


def _run_folders(folder: str) -> Iterator[tuple[str, set[str]]]:
    """Yields folders with files of a run and the names of these files; does not follow links."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    inner = []
    names = set()
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            inner.append(entry.path)
        elif entry.name in _PARTS:
            names.add(entry.name)
    # A config.yaml alone may belong to something else; curves belong only to runs.
    if RECORD in names or CURVES in names:
        yield folder, names
        return  # subfolders belong to the run: a checkpoint, a policy
    for path in inner:
        yield from _run_folders(path)


def _order(sort: str) -> Callable[[RunSummary], tuple[Any, ...]]:
    name = {"metric": "value"}.get(sort, sort)

    def key(summary: RunSummary) -> tuple[Any, ...]:
        value = getattr(summary, name)
        place = (summary.task, summary.entry, summary.seed)
        if name == "folder":
            return (value.parts,)
        if name == "when":
            return (_newest_first(value), *place)
        if isinstance(value, int | float) or value is None:
            # Runs without a number come last, whatever the direction.
            return (value is None, -(value or 0), *place)
        return (value, *place)

    return key


def _newest_first(moment: str) -> float:
    return -datetime.datetime.fromisoformat(moment).timestamp()


def _require(value: str, allowed: Sequence[str], option: str) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{option} {value:.60}: unknown value{nearest(value, list(allowed))} "
            f"(allowed: {', '.join(allowed)})"
        )
