"""Digests of data: canonical JSON and files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

_CHUNK = 1 << 16
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """Returns the canonical JSON text of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: The value contains NaN or infinity.
    """
    return _CANONICAL.encode(value)


def digest(value: Any) -> str:
    """Returns the sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def require_finite(value: Any) -> None:
    """Rejects NaN and infinity in JSON data; numbers out of range are parsed as infinity.

    Raises:
        ValueError: The value contains one of them.
    """
    text = to_json(value, inf_nan_mode="constants")
    if b"Infinity" in text or b"NaN" in text:
        json.dumps(value, allow_nan=False)  # slow, but exact: a text may contain the word


def file_sha256(path: Path) -> str:
    """Returns the sha256 (hex) of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:  # unbuffered: leaderboards hash many small files
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


class _Stamp(NamedTuple):
    """Facts about a file that change with its content."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


_known: Final[dict[str, tuple[_Stamp, str]]] = {}
"""Absolute path to the stamp and the sha256 of the file that was there."""
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000


def file_digest(path: Path) -> str:
    """Returns the sha256 (hex) of a file's bytes; computed once per process while the file stays as it is.

    Raises:
        OSError: The file cannot be read.
    """
    key = os.path.abspath(path)  # noqa: PTH100 - `resolve` costs a system call for every folder
    stamp = _stamp(path)
    known = _known.get(key)
    if known is not None and known[0] == stamp:
        return known[1]
    now = time.time_ns()
    found = file_sha256(path)
    # A file system stamps files with the time of the last tick. Whoever writes twice within one tick leaves the
    # stamp as it was, so a file that has just been written is not remembered. Git calls this "racily clean".
    if _settled(stamp, now) and _stamp(path) == stamp:
        _known[key] = (stamp, found)
    return found


def _stamp(path: Path) -> _Stamp:
    state = path.stat()
    # The time of the inode's last change cannot be set back, as the time of modification can (`cp -p`, `rsync -t`).
    return _Stamp(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _settled(stamp: _Stamp, now: int) -> bool:
    """Returns whether the next write, at `now` or later, is sure to change the stamp."""
    coarse = stamp.changed_ns % 1_000_000_000 == 0  # FAT and some network drives: whole seconds
    tick = _COARSE_TICK_NS if coarse else _TICK_NS
    return now - max(stamp.modified_ns, stamp.changed_ns) > tick
