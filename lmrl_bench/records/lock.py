"""One process per run: a lock file with process id, start time and host.

The lock of a process that died on this host is taken over, even if another process has its id by
now. A lock file without a valid owner (empty, damaged) is ignored. The lock of another host must be
removed by hand.
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

from lmrl_bench.core.errors import RecordError

LOCK = ".lock"
_LARGEST_PID = 1 << 31
_held: set[Path] = set()


class RunLock:
    """Context manager that keeps other processes out of a run's folder.

    Args:
        folder: The folder of the run; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.resolve() / LOCK

    def __enter__(self) -> RunLock:
        """Takes the lock.

        Raises:
            RecordError: A live process on this host, or any process on another host, holds it.
        """
        with _opened(self.path) as handle:
            owner = _owner(os.read(handle, 4096))
            if owner is not None and self._alive(owner):
                raise RecordError(
                    f"{self.path}: process {owner['pid']} on {owner['host']} is running here; wait "
                    "for it, or remove the file if that process is no longer this run"
                )
            content = json.dumps(_this_process())
            try:
                os.ftruncate(handle, 0)
                os.pwrite(handle, content.encode(), 0)
            except OSError as error:
                raise _unlockable(self.path, error) from error
            _held.add(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _held.discard(self.path)
        if not self.path.parent.is_dir():
            return  # the folder was removed during the run, which has been reported
        with _opened(self.path) as handle:
            # Someone may have removed our file, or moved the folder away and started a new run
            # here.
            if _owner(os.read(handle, 4096)) in (None, _this_process()):
                self.path.unlink(missing_ok=True)

    def _alive(self, owner: dict[str, Any]) -> bool:
        if owner["host"] != socket.gethostname():
            return True  # processes on other hosts cannot be checked
        if owner["pid"] == os.getpid():
            return self.path in _held  # if not, a process of an earlier boot had our id
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return owner["started"] in (None, _started(owner["pid"]))


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}


def _started(pid: int) -> int | None:
    """Returns a process's start time in ticks since boot; None outside Linux."""
    try:
        # The process name may contain spaces and parentheses: fields count from the last one.
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        return int(after_name.split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _owner(content: bytes) -> dict[str, Any] | None:
    """Returns the owner in a lock file; None if it is empty, damaged, or incompletely written."""
    try:
        owner = json.loads(content)
        pid, host, started = owner["pid"], owner["host"], owner.get("started")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if type(pid) is not int or not 0 < pid < _LARGEST_PID or not isinstance(host, str):
        return None
    return {"pid": pid, "host": host, "started": started if type(started) is int else None}


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Opens the lock file exclusively while it is read and written."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise _unlockable(path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _still_there(path, handle):
                yield handle
                return
        finally:
            os.close(handle)


def _unlockable(path: Path, error: OSError) -> RecordError:
    return RecordError(
        f"{path}: cannot be locked: {error.strerror or error}; make the folder writable, and remove "
        "the file if it is not one that lmrl-bench wrote"
    )


def _still_there(path: Path, handle: int) -> bool:
    """Returns whether the file still exists; its owner may have removed it while we waited."""
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
