"""Writes a task's data: splits by hash, and gzipped JSON lines whose bytes depend only on the rows.

Used by `lmrl-bench task new` and by `build.py` in task folders.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl_bench.core.atomic import atomic_file
from lmrl_bench.core.digests import file_sha256
from lmrl_bench.tasks.spec import Split


def split_of(key: str) -> Split:
    """Returns the split of a unit: 80 % train, 10 % validation, 10 % test.

    Args:
        key: Identifies what must stay together (page, source package, prompt), never a single row.
    """
    remainder = int(hashlib.sha1(key.encode()).hexdigest(), 16) % 100
    return "test" if remainder < 10 else "validation" if remainder < 20 else "train"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Writes rows to a `.jsonl.gz` file atomically and returns its sha256 (hex).

    The file contains no time stamp and no file name; keys keep their order. Another version of zlib
    may compress to other bytes, with the same lines inside.
    """
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as stream,
    ):
        stream.write(lines.encode())
    return file_sha256(path)


def write_or_compare(
    splits: Mapping[Split, Sequence[Mapping[str, Any]]], folder: Path, *, compare: bool
) -> bool:
    """Last step of a `build.py`: writes the splits to `folder`, or compares them with its files.

    Prints one line per split: the entry for `task.yaml`, or the result of the comparison.

    Returns:
        Whether all rows equal those in the folder; always true after writing.
    """
    equal = True
    for split, rows in splits.items():
        path = folder / f"{split}.jsonl.gz"
        if compare:
            with gzip.open(path, "rt", encoding="utf-8") as stream:
                same = [json.loads(line) for line in stream] == list(rows)
            print(f"{split}: {len(rows)} rows, {'equal to' if same else 'DIFFERENT from'} {path}")
            equal = equal and same
        else:
            sha256 = write_rows(path, rows)
            print(
                f"{split}: {{path: {folder.name}/{path.name}, rows: {len(rows)}, sha256: {sha256}}}"
            )
    return equal
