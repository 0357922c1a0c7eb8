"""Digests of data: canonical JSON and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_SMALL = 1 << 20


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
    with path.open("rb") as stream:
        start = stream.read(_SMALL)
        if len(start) < _SMALL:  # file_digest takes a large buffer first, for every small file
            return hashlib.sha256(start).hexdigest()
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()
