"""Writing files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lmrl_bench.errors import RecordError


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file through a temporary one beside it, flushed to the disk before it is renamed.

    Raises:
        RecordError: The folder cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it private to the user
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def check_writable(folder: Path, option: str = "--output") -> None:
    """Proves that a file can be written in the folder, before any work is done; leaves nothing behind.

    Args:
        folder: The folder; it may be missing.
        option: The command line's option that names it, for the message.

    Raises:
        RecordError: It cannot; names the folder and the remedy.
    """
    with writable(folder, option):
        pass


@contextmanager
def writable(folder: Path, option: str = "--output") -> Iterator[None]:
    """Makes the folder and proves that it can be written; of what was made, what stays empty goes in the end.

    Args:
        folder: The folder.
        option: The command line's option that names it, for the message.

    Raises:
        RecordError: It cannot; names the folder and the remedy.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        _prove_writable(folder, option)
        yield
    finally:
        with suppress(OSError):  # the first one that is not empty
            for path in made:
                path.rmdir()


def _prove_writable(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable."):
            pass
    except OSError as error:
        raise RecordError(
            f"{folder}: results cannot be written here ({error.strerror or error}); "
            f"make the folder writable or choose another with {option}"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Flushes the folder's entries, so that the renaming survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
