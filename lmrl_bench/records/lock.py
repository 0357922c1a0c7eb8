"""One run, one process: a lock file with process id and host.

The lock of a process that died on this host is taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from lmrl_bench.errors import RecordError

LOCK = ".lock"
_held: set[Path] = set()


class RunLock:
    """Context manager that keeps a second process out of a run's folder.

    Args:
        folder: The folder of the run; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.resolve() / LOCK

    def __enter__(self) -> RunLock:
        """Takes the lock.

        Raises:
            RecordError: A living process on this host, or any process on another host, holds it.
        """
        with _opened(self.path) as handle:
            owner = _owner(os.read(handle, 4096))
            if owner is not None and self._alive(owner):
                raise RecordError(
                    f"{self.path}: process {owner['pid']} on {owner['host']} is running here; wait "
                    "for it, or remove the file if that process is no longer this run"
                )
            content = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
            os.ftruncate(handle, 0)
            os.pwrite(handle, content.encode(), 0)
            _held.add(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _opened(self.path):
            self.path.unlink(missing_ok=True)
            _held.discard(self.path)

    def _alive(self, owner: dict[str, Any]) -> bool:
        if owner["host"] != socket.gethostname():
            return True  # cannot be seen from here
        if owner["pid"] == os.getpid():
            return self.path in _held  # else a process of an earlier boot had our number
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _owner(content: bytes) -> dict[str, Any] | None:
    """The owner that a lock file names, or None: empty, or cut short when its writer was killed."""
    try:
        owner = json.loads(content)
        return {"pid": int(owner["pid"]), "host": str(owner["host"])}
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Opens the lock file for one process at a time, while it is read and written."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RecordError(f"{path}: cannot be locked: {error.strerror or error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _still_there(path, handle):
                yield handle
                return
        finally:
            os.close(handle)


def _still_there(path: Path, handle: int) -> bool:
    """False if the file was removed by its owner while we waited for it."""
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
