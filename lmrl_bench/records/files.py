"""Writes files atomically (readers see the old or the new file), and reads many files fast."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lmrl_bench.core.atomic import sync_folder
from lmrl_bench.core.errors import RecordError

_CHUNK = 1 << 16
_RANDOM = "[a-z0-9_]{8}"
"""Random part of names created by `tempfile`."""
_LEFTOVER = re.compile(
    rf"\.((record\.json|config\.yaml|curves\.jsonl|samples\.parquet|(policy|merged)\.sha256|verification\.json|writable)"
    rf"\.{_RANDOM}|(policy|merged)-{_RANDOM}(-old)?)"
)


class FolderError(RecordError):
    """A results folder cannot be written, or another program changed it during writing."""


def remove_file(path: Path) -> None:
    """Removes a file, a link, or an empty folder; does nothing if the path does not exist.

    Raises:
        FolderError: It cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise FolderError(
            f"{path}: cannot be removed: {error.strerror or error}; remove it manually"
        ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a temporary file next to the target, flushes it to disk, and renames it.

    The temporary file is locked while its writer is alive; files of killed writers are removed.

    Raises:
        FolderError: The folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, temporary = _locked_temporary(path)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            temporary.chmod(0o644)  # mkstemp creates files readable only by their owner
            temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        remedy = "; remove this folder" if path.is_dir() else ""
        raise FolderError(
            f"{path}: cannot be written: {error.strerror or error}{remedy}"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """Returns whether this is the name of a temporary file or folder of a killed run."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files and folders of killed runs; requires the folder's lock.

    Raises:
        RecordError: One of them cannot be removed.
    """
    try:
        for entry in list(os.scandir(folder)):
            if not is_leftover(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(
            f"{folder}: temporary files of a killed run cannot be removed: {error.strerror or error}"
        ) from error


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """Creates and locks a temporary file next to `path`; returns its handle and path."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # otherwise another process removed it before the lock
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Removes temporary files of `path` whose writers have died, as nobody locks them."""
    temporary = re.compile(re.escape(f".{path.name}.") + _RANDOM)
    for entry in os.scandir(path.parent):
        if not temporary.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
            continue
        with suppress(OSError):  # another process is using it, or was faster
            handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Path(entry.path).unlink()
            finally:
                os.close(handle)


def read_own(path: str) -> bytes:
    """Returns the content of a file; links are rejected.

    Raises:
        OSError: It is a link, or cannot be read.
    """
    return b"".join(_chunks(path, os.O_NOFOLLOW))


def read_whole(path: str) -> bytes:
    """Returns the content of a file, following links.

    Raises:
        OSError: It cannot be read.
    """
    return b"".join(_chunks(path))


def own_sha256(path: str) -> str:
    """Returns the sha256 (hex) of a file; links are rejected.

    Raises:
        OSError: It is a link, or cannot be read.
    """
    found = hashlib.sha256()
    for chunk in _chunks(path, os.O_NOFOLLOW):
        found.update(chunk)
    return found.hexdigest()


def _chunks(path: str, flags: int = 0) -> Iterator[bytes]:
    """Reads with a minimum of system calls, because leaderboards read many small files."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    try:
        while chunk := os.read(handle, _CHUNK):
            yield chunk
    finally:
        os.close(handle)


def check_writable(folder: Path, option: str = "--out") -> None:
    """Checks before any work that a file can be written in the folder; leaves nothing behind.

    Args:
        folder: The folder; it may not exist.
        option: Command-line option that names the folder, for the message.

    Raises:
        RecordError: It cannot be written; the message names folder and remedy.
    """
    with writable(folder, option):
        pass


@contextmanager
def writable(folder: Path, option: str = "--out") -> Iterator[None]:
    """Creates the folder and checks that it is writable; removes created folders that stay empty.

    Args:
        folder: The folder.
        option: Command-line option that names the folder, for the message.

    Raises:
        RecordError: It cannot be written; the message names folder and remedy.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        _prove_writable(folder, option)
        yield
    finally:
        with suppress(OSError):  # stops at the first folder that is not empty
            for path in made:
                path.rmdir()


def _prove_writable(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".writable.")
        os.close(handle)
        Path(name).unlink(missing_ok=True)  # the holder of the folder's lock may be faster
    except OSError as error:
        raise RecordError(
            f"{folder}: results cannot be written here ({error.strerror or error}); "
            f"make the folder writable or choose another with {option}"
        ) from error
