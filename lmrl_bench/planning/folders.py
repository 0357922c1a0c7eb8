"""The folder of a run: whether it holds the record of that run, finished and undamaged. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmrl_bench.config.yaml_core import dump_yaml, parse_yaml
from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.records.expected import ExpectedRun, differences
from lmrl_bench.records.files import is_leftover
from lmrl_bench.records.lock import LOCK
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.seal import seal_problem
from lmrl_bench.records.store import CONFIG, RECORD, check_files, damaged, read_record

POLICY = "policy"
"""Folder of the trained policy below the run's, with `runtime.keep_policy`."""
CHECKPOINT = "checkpoint"


class StaleRecordError(RecordError):
    """The folder of a run holds the record of another one."""


class DamagedRunError(RecordError):
    """The folder is this run's, but its record or a file that goes with it is damaged: run it again."""


class DamagedConfigError(DamagedRunError):
    """Only `config.yaml` is damaged, which can be written again."""


def done_record(
    folder: Path,
    expected: ExpectedRun,
    published: Mapping[str, Any],
    *,
    keep_policy: bool,
    retry_failed: bool,
) -> RunRecord | None:
    """Returns the record of exactly this run if nothing is left to do.

    A run that completed or diverged is done: it would do the same again. One that was interrupted
    goes on.

    Args:
        folder: The run's folder.
        expected: What its record must say to count.
        published: The content of its `config.yaml`.
        keep_policy: Whether its policy must be there, too.
        retry_failed: Whether a run that failed is to be run again.

    Raises:
        StaleRecordError: The folder holds the record of another run: another seed, other settings,
            a changed task, another initial policy.
        DamagedRunError: It is this run's folder, but the record or a file that it names is damaged.
        RecordError: The record cannot be read, and nothing shows that it is this run's.
    """
    if not os.path.lexists(folder / RECORD):
        return None
    if reason := damaged(folder):
        _require_own(folder, published, reason)
        raise DamagedRunError(reason)
    record = read_record(folder)
    different = [str(found) for found in differences(record, expected)]
    if record.seed != published["seed"]:
        different.insert(0, f"seed is {record.seed} in the record, {published['seed']} today")
    if different:
        raise StaleRecordError(
            f"{folder} holds the record of another run ({record.id}: {'; '.join(different[:3])}); "
            "choose another --out, or --rerun all to replace it"
        )
    if record.status == "interrupted" or (record.status == "failed" and retry_failed):
        return None
    _require_whole(folder, published, record, keep_policy)
    return record


def untidy(folder: Path) -> bool:
    """Returns whether the folder holds leftovers of an unfinished run; the next holder of its lock removes them."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return False
    return any(name in (CHECKPOINT, LOCK) or is_leftover(name) for name in names)


def has_config(folder: Path, published: Mapping[str, Any]) -> bool:
    """Returns whether the folder has a `config.yaml` that equals this run's."""
    path = folder / CONFIG
    try:
        text = path.read_text(encoding="utf-8")
        return text == dump_yaml(published) or parse_yaml(text, str(path)).data == published
    except (OSError, ValueError, ConfigError):
        return False


def _require_own(folder: Path, published: Mapping[str, Any], reason: str) -> None:
    """Proves that a folder whose record is damaged is this run's: what is in it can be made again.

    Raises:
        RecordError: Nothing shows it.
    """
    if not has_config(folder, published):
        raise RecordError(
            f"{reason}, and {CONFIG} next to it is not this run's; choose another --out, delete the "
            "folder, or --rerun all to replace it"
        )


def _require_whole(
    folder: Path, published: Mapping[str, Any], record: RunRecord, keep_policy: bool
) -> None:
    """Proves that everything that a finished run leaves is there and undamaged.

    Raises:
        DamagedRunError: Something is not.
    """
    try:
        check_files(folder, record)
    except (RecordError, OSError) as error:  # also if the record lacks a part
        raise DamagedRunError(str(error).partition(";")[0]) from error
    if keep_policy and (reason := seal_problem(folder / POLICY)):
        raise DamagedRunError(reason)
    if not has_config(folder, published):
        raise DamagedConfigError(f"{folder / CONFIG}: missing or not this run's")
