"""Checks of a folder of results before anything in it is read: foreign files, links, sizes."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.verification import FILE as VERIFICATION
from lmrl_bench.leaderboards.verification import MAX_BYTES
from lmrl_bench.records.files import is_leftover
from lmrl_bench.records.store import CONFIG, CURVES, RECORD, SAMPLES

LIMITS: Final = {
    RECORD: 200_000,
    CONFIG: 50_000,
    CURVES: 2_000_000,
    SAMPLES: 5_000_000,
    VERIFICATION: MAX_BYTES,
}
"""Bytes. The largest files of the leaderboard `quickstart` have 10,000, 1,000, 20,000 and 200,000."""
UNPACKED_LIMIT: Final = 100_000_000
"""Bytes of a samples.parquet as it is stored and as it is read: a small file may hold a huge table."""
DECODINGS: Final = 3
"""A test prompt is answered once each in `test`, `test-greedy` and `test-unfiltered`."""
NOT_COMMITTED: Final = frozenset(
    {"checkpoint", "policy", "policy.sha256", "tensorboard", "wandb", ".lock", "log.txt"}
)
"""Files that a run leaves next to its record, and .gitignore keeps out."""
_SEED = 3


class Tree(NamedTuple):
    """A folder as it was found.

    Attributes:
        problems: what does not belong into it, each with its path and the remedy.
        runs: folders of runs, task/entry/seed, that are safe to read; sorted.
        checks: files of checks, task/entry/verification.json, that are safe to read; sorted.
    """

    problems: list[str]
    runs: list[Path]
    checks: list[Path]


def look(root: Path) -> Tree:
    """Looks at a folder `<task>/<entry>/<seed>/<file>` without following a link or opening a file.

    Raises:
        RecordError: `root` is not a folder, or a link to one.
    """
    if root.is_symlink():
        raise RecordError(f"{root}: is a link; name the folder of results itself")
    if not root.is_dir():
        raise RecordError(f"{root}: there is no such folder of results; name one, as in "
                          "results/quickstart")  # fmt: skip
    found = Tree([], [], [])
    for task in _folders(root, found, 1):
        for entry in _folders(task, found, 2):
            for run in _folders(entry, found, _SEED):
                problems = list(_run_problems(run))
                found.problems.extend(problems)
                if not problems:
                    found.runs.append(run)
    return found


def unsafe(run: Path) -> str | None:
    """Returns why the files of a run should not be read: a link, or too large; None if they may be."""
    try:
        paths = sorted(run.iterdir())
    except OSError as error:  # gone since it was found, or not readable
        return f"{run}: cannot be read ({error.strerror})"
    for path in paths:
        if path.name in LIMITS and (kind := _kind(path)) != "file":
            return _link(path) if kind == "link" else f"{path}: is not a file; restore it"
        if path.name in LIMITS and (reasons := _too_large(path)):
            return reasons[0]
    return None


def unpacked(folder: Path, rows: int, prompts: int) -> str | None:
    """Returns why a samples.parquet is too large once read, or not as long as the record says.

    The table is never made: texts are measured in the file's own dictionaries, a batch at a time.

    Args:
        folder: The folder of the run.
        rows: Rows by the record.
        prompts: The cell's `evaluation.test_samples`.
    """
    try:
        texts = _texts(pq.read_metadata(folder / SAMPLES))
        with pq.ParquetFile(folder / SAMPLES, read_dictionary=texts) as file:
            if file.metadata.num_rows != rows:
                return f"{SAMPLES} holds {file.metadata.num_rows} rows, the record says {rows}"
            if rows > DECODINGS * prompts:
                return f"{SAMPLES} holds {rows:,} rows, more than {DECODINGS} times {prompts:,}"
            size = _listed_size(file.metadata)
            for batch in file.iter_batches(batch_size=64, use_threads=False) if _fits(size) else ():
                size += sum(_decoded_size(column) for column in batch.columns)
                if not _fits(size):
                    break
    except (OSError, pa.ArrowException) as error:
        return f"{SAMPLES} cannot be read ({error})"
    return None if _fits(size) else f"{SAMPLES} unpacks to more than {UNPACKED_LIMIT:,} bytes"


def _fits(size: int) -> bool:
    return size <= UNPACKED_LIMIT


def _chunks(header: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    for index in range(header.num_row_groups):
        group = header.row_group(index)
        yield from (group.column(number) for number in range(group.num_columns))


def _texts(header: pq.FileMetaData) -> list[str]:
    chunks = _chunks(header)
    return sorted({c.path_in_schema for c in chunks if c.physical_type == "BYTE_ARRAY"})


def _listed_size(header: pq.FileMetaData) -> int:
    """Bytes by the header: what is stored, or eight for each value, if that is more."""
    return sum(max(c.total_uncompressed_size, 8 * c.num_values) for c in _chunks(header))


def _decoded_size(column: pa.Array) -> int:
    """Bytes of a column once every text stands where it belongs."""
    while pa.types.is_list(column.type):
        column = column.flatten()
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)


def _folders(parent: Path, found: Tree, depth: int) -> Iterator[Path]:
    """Yields the folders of a level; whatever else lies there is a problem, or a file of checks."""
    for path in sorted(parent.iterdir()):
        kind = _kind(path)
        if kind == "link":
            found.problems.append(_link(path))
        elif kind == "folder":
            yield path
        elif kind == "file" and path.name == VERIFICATION and depth == _SEED:
            too_large = _too_large(path)
            found.problems.extend(too_large)
            found.checks.extend([] if too_large else [path])
        else:
            found.problems.append(_stranger(path, "<task>/<entry>/<seed>/"))


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
    if is_leftover(path.name):
        return (
            f"{path}: a temporary file of a run or check that was killed; call the same command again, "
            "which removes it, or remove it yourself"
        )
    return f"{path}: does not belong here (allowed: {allowed}); remove it"
