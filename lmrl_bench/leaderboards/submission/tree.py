"""What lies in a folder of results, looked at before anything in it is read: strangers, links, sizes."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lmrl_bench.errors import RecordError
from lmrl_bench.leaderboards.verification import FILE as VERIFICATION
from lmrl_bench.leaderboards.verification import MAX_BYTES
from lmrl_bench.records.store import CONFIG, CURVES, RECORD, SAMPLES

LIMITS: Final = {
    RECORD: 200_000,
    CONFIG: 50_000,
    CURVES: 2_000_000,
    SAMPLES: 5_000_000,
    VERIFICATION: MAX_BYTES,
}
"""Bytes. The largest files of the board `quickstart` have 10,000, 1,000, 20,000 and 200,000."""
UNPACKED_LIMIT: Final = 50_000_000
"""Bytes of a samples.parquet as its own header counts them: a small file may hold a huge table."""
NOT_COMMITTED: Final = frozenset({"checkpoint", "policy", "tensorboard", ".lock", "log.txt"})
"""What a run leaves beside its record, and .gitignore keeps out."""
_SEED = 3


class Tree(NamedTuple):
    """A folder as it was found.

    Attributes:
        problems: what does not belong into it, each with its path and the remedy.
        runs: folders of runs, task/row/seed, that are safe to read; sorted.
    """

    problems: list[str]
    runs: list[Path]


def look(root: Path) -> Tree:
    """Looks at a folder `<task>/<row>/<seed>/<file>` without following a link or opening a file.

    Raises:
        RecordError: `root` is not a folder, or a link to one.
    """
    if root.is_symlink():
        raise RecordError(f"{root}: is a link; name the folder of results itself")
    if not root.is_dir():
        raise RecordError(f"{root}: there is no such folder of results; name one, as in "
                          "results/quickstart")  # fmt: skip
    problems: list[str] = []
    runs: list[Path] = []
    for task in _folders(root, problems, 1):
        for row in _folders(task, problems, 2):
            for run in _folders(row, problems, _SEED):
                found = list(_run_problems(run))
                problems += found
                if not found:
                    runs.append(run)
    return Tree(problems, runs)


def unpacked(folder: Path, rows: int) -> Iterator[str]:
    """Yields why a samples.parquet is too large once read, or not as long as the record says."""
    try:
        header = pq.read_metadata(folder / SAMPLES)
    except (OSError, pa.ArrowException) as error:
        yield f"{SAMPLES} cannot be read ({error})"
        return
    size = sum(header.row_group(index).total_byte_size for index in range(header.num_row_groups))
    if header.num_rows != rows:
        yield f"{SAMPLES} holds {header.num_rows} rows, the record says {rows}"
    if size > UNPACKED_LIMIT:
        yield f"{SAMPLES} unpacks to {size:,} bytes, more than the {UNPACKED_LIMIT:,} allowed"


def _folders(parent: Path, problems: list[str], depth: int) -> Iterator[Path]:
    """Yields the folders of a level; whatever else lies there is a problem."""
    for path in sorted(parent.iterdir()):
        kind = _kind(path)
        if kind == "link":
            problems.append(_link(path))
        elif kind == "folder":
            yield path
        elif kind == "file" and path.name == VERIFICATION and depth == _SEED:
            problems += _too_large(path)
        else:
            problems.append(_stranger(path, "<task>/<row>/<seed>/"))


def _run_problems(run: Path) -> Iterator[str]:
    for path in sorted(run.iterdir()):
        kind = _kind(path)
        if kind == "link":
            yield _link(path)
        elif path.name in NOT_COMMITTED:
            continue
        elif kind != "file" or path.name not in LIMITS or path.name == VERIFICATION:
            yield _stranger(path, ", ".join((RECORD, CONFIG, CURVES, SAMPLES)))
        else:
            yield from _too_large(path)


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device"


def _too_large(path: Path) -> list[str]:
    size, limit = path.lstat().st_size, LIMITS[path.name]
    if size <= limit:
        return []
    return [f"{path}: {size:,} bytes, more than the {limit:,} that such a file may have; "
            "was it written by lmrl-bench? restore it"]  # fmt: skip


def _link(path: Path) -> str:
    return f"{path}: is a link; put the run's own folder or file here"


def _stranger(path: Path, allowed: str) -> str:
    return f"{path}: does not belong here (allowed: {allowed}); remove it"
