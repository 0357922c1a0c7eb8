"""Writes down what `results rescore` and `results retrain` have shown: a check per entry."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from lmrl_bench.leaderboards.verification import (
    Check,
    Retrained,
    add_check,
    digests,
    primary_value,
)
from lmrl_bench.records.store import find_records
from lmrl_bench.verification.rescore import Rescored
from lmrl_bench.verification.retrain import RetrainedRun, entry_folder, read_entry


def write_rescored(found: Rescored, by: str) -> tuple[list[Path], list[str]]:
    """Writes a check of level 1 for every entry of which all runs were scored again, wholly.

    Args:
        found: What was rescored.
        by: Who checked.

    Returns:
        The files, and why some entries have none.

    Raises:
        RecordError: A file cannot be read or written.
    """
    files, reasons = [], []
    for entry in _entries(found.records):
        records = find_records(entry)
        left_out = sorted(
            {n for folder, names in found.left_out.items() if folder.parent == entry for n in names}
        )
        unseen = [
            str(record.seed)
            for record in records
            if record.status == "completed" and entry / str(record.seed) not in found.records
        ]
        if left_out or unseen:
            what = [f"{', '.join(left_out)} not recomputed"] if left_out else []
            what += [f"seeds {', '.join(unseen)} not rescored"] if unseen else []
            reasons.append(f"{entry}: not verified: {'; '.join(what)}")
        else:
            files.append(add_check(entry, _check(1, by, digests(records))))
    return files, reasons


def write_retraining(folder: Path, found: RetrainedRun, by: str) -> Path:
    """Writes a check of level 3 for the entry of a run that was trained again.

    Raises:
        RecordError: A file cannot be read or written.
    """
    new = found.new
    retrained = Retrained(
        seed=new.seed,
        how=found.how,
        value=primary_value(new) if new.status == "completed" else None,
        digest=(found.record if found.how == "bitwise" else new).digest(),
    )
    records = digests(read_entry(folder, found.record))
    return add_check(entry_folder(folder), _check(3, by, records, retrained))


def _check(
    level: Literal[1, 3], by: str, records: dict[int, str], retrained: Retrained | None = None
) -> Check:
    return Check(
        level=level,
        by=by,
        date=datetime.datetime.now(datetime.UTC).date(),
        records=records,
        package_version=version("lmrl-bench"),
        retrained=retrained,
    )


def _entries(folders: Iterable[Path]) -> list[Path]:
    return sorted({folder.parent for folder in folders})
