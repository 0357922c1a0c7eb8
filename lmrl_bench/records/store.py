"""Reads and writes the folders of runs: `record.json` and the files next to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lmrl_bench.core.digests import digest
from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.curves import (
    CURVES,
    CurvesMark,
    CurvesWriter,
    ValidationPoint,
    curves_until,
    file_info,
    read_curves,
    read_points,
    write_curves,
)
from lmrl_bench.records.files import (
    check_writable,
    own_sha256,
    read_own,
    remove_file,
    writable,
    write_atomic,
)
from lmrl_bench.records.lock import RunLock
from lmrl_bench.records.parsing import parse_json, problems_of
from lmrl_bench.records.provenance import format_traceback
from lmrl_bench.records.record import SEAL, RunRecord
from lmrl_bench.records.samples import SAMPLES, SHOWN_SAMPLES, read_samples, write_samples

__all__ = [
    "CONFIG",
    "CURVES",
    "RECORD",
    "SAMPLES",
    "SHOWN_SAMPLES",
    "CurvesMark",
    "CurvesWriter",
    "RunLock",
    "ValidationPoint",
    "check_files",
    "check_place",
    "check_writable",
    "curves_until",
    "damaged",
    "file_info",
    "find_folders",
    "find_records",
    "format_traceback",
    "read_curves",
    "read_points",
    "read_record",
    "read_samples",
    "remove_record",
    "writable",
    "write_atomic",
    "write_curves",
    "write_record",
    "write_samples",
    "write_text",
]

RECORD = "record.json"
CONFIG = "config.yaml"
SCHEMA = 1


def write_record(folder: Path, record: RunRecord) -> Path:
    """Writes `record.json` atomically; call it last, after all other files of the run.

    Raises:
        RecordError: A number of the record is not finite, or the folder cannot be written.
    """
    path = folder / RECORD
    content = record.model_dump(mode="json")
    try:
        content[SEAL] = digest(content)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RecordError(f"{path}: a number of the record is not finite ({error})") from error
    write_atomic(path, f"{text}\n".encode())
    return path


def _no_record(folder: Path) -> str:
    """Returns why a folder has no record: it is missing, contains runs, or is unfinished."""
    if not folder.is_dir():
        runs = sorted(path.parent.name for path in folder.parent.glob(f"*/{RECORD}"))
        return f"{folder}: no such folder" + (f" (runs there: {', '.join(runs)})" if runs else "")
    runs = sorted(path.parent.name for path in folder.glob(f"*/{RECORD}"))
    if runs:
        return f"{folder}: contains runs but is not one; name one of them: {', '.join(runs)}"
    return f"{folder}/{RECORD}: there is no record; the run has not finished, run or resume it"


def read_record(folder: Path | str) -> RunRecord:
    """Reads the record of a run.

    Raises:
        RecordError: Missing, not JSON, another schema, or wrong fields; the message names file and
            remedy.
    """
    path = f"{folder}/{RECORD}"
    try:
        content = parse_json(read_own(path))
    except FileNotFoundError:
        raise RecordError(_no_record(Path(folder))) from None
    except (OSError, ValueError) as error:
        _check_own(path)
        raise RecordError(
            f"{path}: corrupt ({error}); restore it or run again with --rerun all"
        ) from error
    _check_schema(path, content)
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        raise RecordError(
            f"{path}: not a valid record ({problems_of(error)}); restore it or run again with --rerun all"
        ) from error


def damaged(folder: Path) -> str | None:
    """Returns why `record.json` is not as it was written; None if it is, or if that is unknown.

    A record of another schema, or of a version that wrote no digest, may be intact.
    """
    path = f"{folder}/{RECORD}"
    try:
        content = parse_json(read_own(path))
    except (OSError, ValueError) as error:
        return f"{path}: damaged ({error})"
    if not isinstance(content, dict):
        return f"{path}: damaged (not a JSON object)"
    seal = content.pop(SEAL, None)
    if seal is not None and seal != digest(content):
        return f"{path}: damaged ({SEAL} differs)"
    return None


def remove_record(folder: Path) -> None:
    """Removes the record of a run that continues or restarts, before its other files change.

    Raises:
        FolderError: It cannot be removed.
    """
    remove_file(folder / RECORD)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically (UTF-8), for example `config.yaml`.

    Raises:
        RecordError: The folder cannot be written.
    """
    write_atomic(path, text.encode())


def find_folders(root: Path | str) -> list[Path]:
    """Returns the folders below `root` with a record, sorted.

    Raises:
        RecordError: `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise RecordError(
            f"{root}: there is no such results folder; run `lmrl-bench leaderboard run` first"
        )
    # Sorted like paths, which themselves are slow to compare.
    folders = sorted(_folders(str(root)), key=lambda folder: folder.split(os.sep))  # noqa: PTH206
    return [Path(folder) for folder in folders]


def _folders(folder: str) -> Iterator[str]:
    """Like `os.walk` with fewer system calls; ignores links and unreadable folders."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _folders(entry.path)
        elif entry.name == RECORD and not entry.is_dir():
            yield folder


def find_records(root: Path | str) -> list[RunRecord]:
    """Returns all records below `root`, sorted by folder.

    Raises:
        RecordError: `root` is not a folder, or a record cannot be read.
    """
    return [read_record(folder) for folder in find_folders(root)]


def check_files(folder: Path, record: RunRecord) -> None:
    """Checks that a record is complete and that the files next to it are unchanged.

    Raises:
        RecordError: A completed run lacks a part; the record names another file than the run's own;
            or a file is missing, is a link, or has another digest.
    """
    if lacking := record.lacking():
        raise RecordError(
            f"{folder / RECORD}: a completed run has {', '.join(lacking)}, but this record does not; "
            "restore it or run again with --rerun all"
        )
    for info, name in ((record.curves, CURVES), (record.samples, SAMPLES)):
        if info is None:
            continue
        path = f"{folder}/{name}"
        if info.path != name:
            raise RecordError(f"{folder / RECORD}: names '{info.path}' where '{name}' belongs")
        if _sha256(path) != info.sha256:
            raise RecordError(
                f"{path}: changed since the record was written (sha256 differs); "
                "restore it or run again with --rerun all"
            )


def _sha256(path: str) -> str:
    try:
        return own_sha256(path)
    except OSError:
        if not Path(path).is_file():
            raise RecordError(
                f"{path}: missing, but the record names it; restore it or run again"
            ) from None
        _check_own(path)
        raise


def check_place(folder: Path, root: Path) -> None:
    """Checks that no folder between `root` and the folder of a run is a link; `root` may be one.

    Raises:
        RecordError: A folder on the way is a link.
    """
    for place in (folder, *folder.parents[: len(folder.relative_to(root).parts) - 1]):
        if place.is_symlink():
            raise RecordError(
                f"{folder}: a folder on the way is a link; put the run's own folder here"
            )


def _check_own(path: str) -> None:
    if Path(path).is_symlink():
        raise RecordError(f"{path}: is a link; put the run's own file here")


def _check_schema(path: str, content: Any) -> None:
    if not isinstance(content, dict):
        raise RecordError(
            f"{path}: corrupt (not a JSON object); restore it or run again with --rerun all"
        )
    schema = content.get("schema")
    if schema != SCHEMA:
        raise RecordError(
            f"{path}: record schema {schema!r}, but this version of lmrl-bench reads {SCHEMA}; "
            "use the version that wrote it, or run again"
        )
