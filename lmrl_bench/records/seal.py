"""Writes and checks digests of a folder's files, in the format of `sha256sum`."""

from __future__ import annotations

import os
from pathlib import Path

from lmrl_bench.core.atomic import sync_folder
from lmrl_bench.core.digests import file_digest
from lmrl_bench.core.errors import RecordError
from lmrl_bench.records.files import write_atomic

_DIGEST = 64


def seal_path(folder: Path) -> Path:
    """Returns the file of digests: `policy.sha256` for the folder `policy`."""
    return folder.with_name(f"{folder.name}.sha256")


def write_seal(folder: Path) -> None:
    """Flushes all files of the folder to disk and writes their digests.

    Raises:
        RecordError: A file cannot be read, or the digests cannot be written.
    """
    try:
        for path in _files(folder):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            sync_folder(place)
        write_atomic(seal_path(folder), _text(folder).encode())
    except OSError as error:
        raise RecordError(f"{folder}: cannot be read: {error.strerror or error}") from error


def seal_problem(folder: Path) -> str | None:
    """Returns how the files differ from their digests; None if they match or have no digests."""
    try:
        wanted = _digests(seal_path(folder).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"{seal_path(folder)} is damaged ({error})"
    try:
        found = _digests(_text(folder))
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror or error}"
    for name in sorted({*wanted, *found}):
        if name not in found:
            return f"{folder.parent / name} is missing"
        if name not in wanted:
            return f"{folder.parent / name} was added"
        if wanted[name] != found[name]:
            return f"{folder.parent / name} has changed (sha256 differs)"
    return None


def _digests(text: str) -> dict[str, str]:
    """Returns path to digest."""
    return {line[_DIGEST + 2 :]: line[:_DIGEST] for line in text.split("\n")[:-1]}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _text(folder: Path) -> str:
    """Returns one line per file: digest, two spaces, path relative to the folder's parent.

    Raises:
        OSError: A file cannot be read.
    """
    lines = []
    for path in _files(folder):
        lines.append(f"{file_digest(path)}  {path.relative_to(folder.parent).as_posix()}\n")
    return "".join(lines)
