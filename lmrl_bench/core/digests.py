"""Digests of data: canonical JSON and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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
