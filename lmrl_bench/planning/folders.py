"""The folder of a run: where it is, and whether it holds the record of that run, finished and undamaged. No torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrl_bench.config.run import RunConfig
from lmrl_bench.config.yaml_core import dump_yaml, parse_yaml
from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.records.expected import ExpectedRun, differences
from lmrl_bench.records.files import is_leftover
from lmrl_bench.records.lock import LOCK
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.seal import seal_problem
from lmrl_bench.records.store import CONFIG, RECORD, check_files, damaged, read_record

if TYPE_CHECKING:
    from lmrl_bench.tasks.task import Task

RUNS = Path("results") / "runs"
POLICY = "policy"
"""Folder of the trained policy below the run's, with `runtime.keep_policy`."""
CHECKPOINT = "checkpoint"


def run_folder(config: RunConfig) -> Path:
    """Returns the folder of a run: as configured, or results/runs/<task>/<row>/<seed>."""
    return config.runtime.output or RUNS / config.task / config.row / str(config.seed)


def own_folder(task: Task, config: RunConfig) -> RunConfig:
    """Returns the configuration of a single run with its folder written out.

    The default configuration of an algorithm on a task lies in results/runs/<task>/<row>/<seed>. Any other one (another
    policy, any `--set` that can change a result) lies next to it, in <row>-<first 8 digits of its digest>, so that
    trying settings never meets the record of other settings, and the same command finds its own run again.
    """
    from lmrl_bench.planning.resolve import resolve_unchecked

    if config.runtime.output is not None:
        return config
    default = resolve_unchecked(task, {"algorithm": {"name": config.algorithm.name}})
    row = (
        config.row if config.digest() == default.digest() else f"{config.row}-{config.digest()[:8]}"
    )
    place = RUNS / config.task / row / str(config.seed)
    runtime = config.runtime.model_copy(update={"output": place})
    return config.model_copy(update={"runtime": runtime})


def run_name(config: RunConfig) -> str:
    """Returns <task>/<row>/<seed>, the run's name in events and lists."""
    return f"{config.task}/{config.row}/{config.seed}"


class StaleRecordError(RecordError):
    """The folder of a run holds the record of another one."""


class DamagedRunError(RecordError):
    """The folder is this run's, but its record or a file that goes with it is damaged: run it again."""


class DamagedConfigError(DamagedRunError):
    """Only `config.yaml` is damaged, which can be written again."""


def done_record(
    config: RunConfig, folder: Path, expected: ExpectedRun, *, retry_failed: bool
) -> RunRecord | None:
    """Returns the record of exactly this run if nothing is left to do.

    A run that completed or diverged is done: it would do the same again. One that was interrupted
    goes on.

    Args:
        config: The run.
        folder: Its folder.
        expected: What its record must say to count.
        retry_failed: Whether a run that failed is to be run again.

    Raises:
        StaleRecordError: The folder holds the record of another run: another seed, other settings,
            a changed task, another start.
        DamagedRunError: It is this run's folder, but the record or a file that it names is damaged.
        RecordError: The record cannot be read, and nothing shows that it is this run's.
    """
    if not os.path.lexists(folder / RECORD):
        return None
    if reason := damaged(folder):
        _require_own(config, folder, reason)
        raise DamagedRunError(reason)
    record = read_record(folder)
    different = [str(found) for found in differences(record, expected)]
    if record.seed != config.seed:
        different.insert(0, f"seed is {record.seed} in the record, {config.seed} today")
    if different:
        raise StaleRecordError(
            f"{folder} holds the record of another run ({record.id}: {'; '.join(different[:3])}); "
            "choose another --out, or --rerun all to replace it"
        )
    if record.status == "interrupted" or (record.status == "failed" and retry_failed):
        return None
    _require_whole(config, folder, record)
    return record


def untidy(folder: Path) -> bool:
    """Whether something lies in the folder that a finished run does not leave: whoever takes its lock removes it."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return False
    return any(name in (CHECKPOINT, LOCK) or is_leftover(name) for name in names)


def published_config(config: RunConfig) -> dict[str, Any]:
    """Returns the content of `config.yaml`."""
    return {**config.scientific(), "label": config.label, "seed": config.seed}


def has_config(config: RunConfig, folder: Path) -> bool:
    """Whether `config.yaml` is there and says what this run's says."""
    path, wanted = folder / CONFIG, published_config(config)
    try:
        text = path.read_text(encoding="utf-8")
        return text == dump_yaml(wanted) or parse_yaml(text, str(path)).data == wanted
    except (OSError, ValueError, ConfigError):
        return False


def _require_own(config: RunConfig, folder: Path, reason: str) -> None:
    """Proves that a folder whose record is damaged is this run's: what is in it can be made again.

    Raises:
        RecordError: Nothing shows it.
    """
    if not has_config(config, folder):
        raise RecordError(
            f"{reason}, and {CONFIG} next to it is not this run's; choose another --out, delete the "
            "folder, or --rerun all to replace it"
        )


def _require_whole(config: RunConfig, folder: Path, record: RunRecord) -> None:
    """Proves that everything that a finished run leaves is there and undamaged.

    Raises:
        DamagedRunError: Something is not.
    """
    try:
        check_files(folder, record)
    except (RecordError, OSError) as error:  # also if the record lacks a part
        raise DamagedRunError(str(error).partition(";")[0]) from error
    if config.runtime.keep_policy and (reason := seal_problem(folder / POLICY)):
        raise DamagedRunError(reason)
    if not has_config(config, folder):
        raise DamagedConfigError(f"{folder / CONFIG}: missing or not this run's")
