"""Writing a task's data: splits by hash, gzip JSON lines whose bytes depend on the rows alone.

Used by `lmrl-bench task new` and by the `build.py` of task folders.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.tasks.spec import Split


def split_of(key: str) -> Split:
    """Returns the split of whatever must stay together: 80 % train, 10 % validation, 10 % test.

    Args:
        key: Names the unit that is split (page, source package, prompt), never a single row of it.
    """
    remainder = int(hashlib.sha1(key.encode()).hexdigest(), 16) % 100
    return "test" if remainder < 10 else "validation" if remainder < 20 else "train"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Writes rows to a `.jsonl.gz` file, whole or not at all, and returns the file's sha256 (hex).

    There is no time stamp and no file name inside. Keys keep their order. Another zlib may compress
    to other bytes; the lines inside are the same everywhere.
    """
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    unfinished = path.with_name(f".{path.name}.unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        unfinished.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as stream,
    ):
        stream.write(lines.encode())
    unfinished.replace(path)
    return file_sha256(path)


def write_or_compare(
    splits: Mapping[Split, Sequence[Mapping[str, Any]]], folder: Path, *, compare: bool
) -> bool:
    """Ends a `build.py`: writes the splits into `folder`, or compares them with what lies there.

    Prints one line for each split: what belongs into `task.yaml`, or whether the rows are equal.

    Returns:
        Whether all rows are equal to those in the folder; always true after writing.
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
