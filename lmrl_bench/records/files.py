"""Writing files so that a reader sees the old one or the new one, never half of one; reading many."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lmrl_bench.errors import RecordError

_CHUNK = 1 << 16


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
        sync_folder(path.parent)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def read_own(path: str) -> bytes:
    """Returns the content of a file that is no link.

    Raises:
        OSError: It is a link, or cannot be read.
    """
    return b"".join(_chunks(path, os.O_NOFOLLOW))


def read_whole(path: str) -> bytes:
    """Returns the content of a file, or of the one that it links to.

    Raises:
        OSError: It cannot be read.
    """
    return b"".join(_chunks(path))


def own_sha256(path: str) -> str:
    """Returns the sha256 (hex) of a file that is no link.

    Raises:
        OSError: It is a link, or cannot be read.
    """
    found = hashlib.sha256()
    for chunk in _chunks(path, os.O_NOFOLLOW):
        found.update(chunk)
    return found.hexdigest()


def _chunks(path: str, flags: int = 0) -> Iterator[bytes]:
    """Reads with as few calls of the system as there can be: boards read many small files."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    try:
        while chunk := os.read(handle, _CHUNK):
            yield chunk
    finally:
        os.close(handle)


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


def sync_folder(folder: Path) -> None:
    """Flushes the folder's entries, so that the renaming survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
