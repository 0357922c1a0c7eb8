"""Trains one recorded seed again (`results retrain`) and says whether the record holds.

On one CPU thread, one machine and one set of versions a run repeats bit for bit. Anywhere else it
cannot promise that, and the new number must lie where one more seed of the entry is expected:
mean ± t(n-1) · sd · √(1 + 1/n) of the entry's other seeds.

Compares all facts but `policy.parameters` (records of older versions count tied weights more than once) and the
event that a run was resumed with other code or versions.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.digests import digest
from lmrl_bench.core.errors import (
    ConfigError,
    LmrlBenchError,
    PolicyError,
    RecordError,
    VerificationError,
)
from lmrl_bench.core.events import Listener, silent
from lmrl_bench.leaderboards.spec import cells, read_leaderboard
from lmrl_bench.leaderboards.verification import other_seeds_interval, primary_value
from lmrl_bench.planning.plan import RerunPolicy, RunPlan, plan_run
from lmrl_bench.planning.resolve import resolve
from lmrl_bench.records.expected import differences
from lmrl_bench.records.provenance import CHANGED
from lmrl_bench.records.record import Provenance, RunRecord
from lmrl_bench.records.store import RECORD, check_files, check_place, find_folders, read_record
from lmrl_bench.stats.intervals import Interval
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task
from lmrl_bench.verification.tree import unsafe


@dataclass(frozen=True)
class RetrainedRun:
    """A record and the run that was made from its configuration.

    Attributes:
        record: The record that was checked.
        new: The record of the new run.
        interval: The prediction interval of the entry's other seeds, which holds the new primary metric;
            None where the facts are equal, results, curves and answers included.
        elsewhere: In what the machines or versions differ; empty where bits should repeat.
    """

    record: RunRecord
    new: RunRecord
    interval: Interval | None
    elsewhere: list[str]

    @property
    def how(self) -> Literal["bitwise", "interval"]:
        """The kind of agreement that was shown."""
        return "bitwise" if self.interval is None else "interval"


def retrain(
    folder: Path,
    output: Path,
    *,
    device: str = "cpu",
    policy: Path | None = None,
    progress: Listener = silent,
) -> RetrainedRun:
    """Trains the run of a record again and compares.

    Args:
        folder: `<task>/<entry>/<seed>` of the record; the same folder holds the entry's other seeds.
        output: Where the new run is written; a run that was interrupted there goes on.
        device: Where it trains.
        policy: The folder of the policy, where the record names one; default: as the leaderboard's file names it.
        progress: Takes events.

    Raises:
        RecordError: The record cannot be read, a folder is a link, or `output` holds a finished run.
        ConfigError: The record was made with another task or initial policy than the installed ones.
        VerificationError: The record does not hold; says what was compared.
        KeyboardInterrupt: The user stopped; it goes on when called again.
    """
    entry_folder(folder)
    record = _read(folder)
    check_files(folder, record)
    if record.status == "interrupted":
        raise ConfigError(f"{folder}: the run was interrupted; there is no result to check")
    task = load_task(record.task.name)
    place = policy or _policy_of_leaderboard(folder, record)
    try:
        with _policy_at_its_name(record, place):
            return _rerun(folder.absolute(), record, task, output.absolute(), device, progress)
    except PolicyError as error:
        if place is not None:
            raise
        raise PolicyError(
            f"{error}\nwhere the record's policy is a folder, it keeps the name only: give the folder with "
            "--policy FOLDER"
        ) from error


def _rerun(
    folder: Path, record: RunRecord, task: Task, output: Path, device: str, progress: Listener
) -> RetrainedRun:
    config = _config(record, task, output, device)
    plan = plan_run(task, config, rerun=RerunPolicy.FAILED)
    plan.initial.require_fitting()
    different = differences(record, plan.expected)
    if different:
        raise ConfigError(
            f"{folder}: cannot be trained again here: {'; '.join(map(str, different[:3]))}; use the "
            "version of lmrl-bench, task and initial policy that made it"
        )
    _check_unfinished(output)
    new = _train(plan, progress)
    return judge(folder, record, new)


def _policy_of_leaderboard(folder: Path, record: RunRecord) -> Path | None:
    """The folder that the leaderboard of a run names as its policy, if there is such a leaderboard and folder."""
    place = folder.absolute()
    try:
        leaderboard = read_leaderboard(place.parents[2].name)
    except (LmrlBenchError, IndexError):
        return None  # not below the folder of a known leaderboard
    for cell in cells(leaderboard):
        if (cell.task, cell.entry, cell.seed) == (record.task.name, record.entry, record.seed):
            model = (cell.config.get("policy") or {}).get("model")
            found = Path(str(model)).expanduser()
            return found if model and found.is_dir() else None
    return None


@contextlib.contextmanager
def _policy_at_its_name(record: RunRecord, policy: Path | None) -> Iterator[None]:
    """Changes to a folder where the record's name of its policy leads to the policy's folder.

    Raises:
        ConfigError: The record names no policy of its own, or the folder is none.
    """
    if policy is None:
        yield
        return
    name = (record.config.get("policy") or {}).get("model")
    if not isinstance(name, str):
        raise ConfigError(
            f"--policy {policy}: the record's policy is the task's default, and not a folder"
        )
    if not policy.is_dir():
        raise ConfigError(f"--policy {policy}: there is no such folder")
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary, name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(policy.resolve(), target_is_directory=True)
        with contextlib.chdir(temporary):
            yield


def judge(folder: Path, record: RunRecord, new: RunRecord) -> RetrainedRun:
    """Compares a record with the one that was made again.

    Raises:
        VerificationError: They are neither equal, nor is the new value where it is expected.
    """
    elsewhere = _elsewhere(record.provenance, new.provenance)
    if digest(_compared(record)) == digest(_compared(new)):
        return RetrainedRun(record, new, None, elsewhere)
    bits = _first_differences(record, new)
    if (record.status, new.status) != ("completed", "completed"):
        raise VerificationError(
            f"{folder}: the run {record.status} in the record and {new.status} now ({bits})"
        )
    value, metric, recorded = primary_value(new), new.task.primary_metric, primary_value(record)
    if record.task.primary_metric != metric:
        raise VerificationError(
            f"{folder}: the primary metric is {record.task.primary_metric} in the record, {metric} now"
        )
    interval = _expected_interval(folder, record, bits)
    where = f"[{interval.low:.6g}, {interval.high:.6g}]"
    if not interval.contains(value):
        raise VerificationError(
            f"{folder}: not the same bits ({bits}), and {metric} is {value:.6g} now, outside {where}, "
            "the 95 % prediction interval of the entry's other seeds; the record says "
            f"{recorded:.6g}"
        )
    return RetrainedRun(record, new, interval, elsewhere)


def entry_folder(folder: Path) -> Path:
    """Returns the folder of the entry that a run's folder lies in.

    Raises:
        RecordError: One of them is a link, so that the entry would be another one than it seems; or the folder lies
            too near the root of the file system to be a run's.
    """
    place = Path(os.path.abspath(folder))  # noqa: PTH100 - `resolve` would follow links
    if len(place.parents) < 2:
        raise RecordError(f"{folder}: not the folder of a run (it holds no {RECORD})")
    check_place(place, place.parents[1])
    return place.parent


def read_entry(folder: Path, record: RunRecord) -> list[RunRecord]:
    """Returns the records of the entry that a run's folder lies in, its own among them.

    Raises:
        RecordError: One cannot be read, or is not of the entry, or lies elsewhere than its seed says.
    """
    entry, records = entry_folder(folder), []
    for path in find_folders(entry):
        found = _read(path)
        mates = [(r.task.name, r.entry, r.config_digest) for r in (record, found)]
        if path != entry / str(found.seed) or mates[0] != mates[1]:
            raise RecordError(
                f"{path}: holds {found.id}, which is not a seed of the entry there; remove it"
            )
        records.append(found)
    return records


def _read(folder: Path) -> RunRecord:
    if folder.is_dir() and (reason := unsafe(folder)):
        raise RecordError(reason)
    return read_record(folder)


def _config(record: RunRecord, task: Task, output: Path, device: str) -> RunConfig:
    """The record's configuration, resolved again so that it is checked like any other."""
    runtime = {"output": str(output), "device": device, "threads": record.provenance.threads}
    given = {**record.config, "entry": record.entry, "seed": record.seed, "runtime": runtime}
    return resolve(task, given)


def _train(plan: RunPlan, progress: Listener) -> RunRecord:
    from lmrl_bench.runs.execute import execute

    new = execute(plan, progress=progress)
    if new.status == "interrupted":
        raise KeyboardInterrupt
    return new


def _check_unfinished(output: Path) -> None:
    if (output / RECORD).exists() and read_record(output).status != "interrupted":
        raise RecordError(f"{output}: holds a finished run; name an empty folder with --out")


def _elsewhere(old: Provenance, new: Provenance) -> list[str]:
    facts = [(name, getattr(old, name), getattr(new, name))
             for name in ("platform", "python", "device", "threads", "speedups", "package_version")]  # fmt: skip
    facts += [
        (name, old.packages.get(name), new.packages.get(name))
        for name in sorted({*old.packages, *new.packages})
    ]
    return [f"{name} {then} → {now}" for name, then, now in facts if then != now]


def _compared(record: RunRecord) -> dict[str, Any]:
    """The facts without those that the module's text leaves out."""
    facts = record.facts()
    facts["events"].pop(CHANGED, None)
    facts["events"].pop("control_tokens", None)  # older records did not count them
    if facts["policy"]:
        facts["policy"].pop("parameters")
    return facts


def _first_differences(record: RunRecord, new: RunRecord) -> str:
    """Names the parts of the two records that differ."""
    old, now = _compared(record), _compared(new)
    return ", ".join(name for name in old if old[name] != now[name]) + " differ"


def _expected_interval(folder: Path, record: RunRecord, bits: str) -> Interval:
    interval = other_seeds_interval(read_entry(folder, record), record.seed)
    if interval is None:
        raise VerificationError(
            f"{folder}: not the same bits ({bits}), and the entry has fewer than two other completed "
            "seeds; an interval needs two: train again on the machine and with the versions of "
            "the record"
        )
    return interval
