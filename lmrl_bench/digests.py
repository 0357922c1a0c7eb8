"""Digests of data: canonical JSON and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """Returns the sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the sha256 (hex) of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:  # boards hash many small files
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
