"""Validates Parquet files from users in a separate process. No torch.

A damaged or malicious file can crash its reader inside Arrow's C++ code, where no exception can be
caught. A child process therefore reads it first. One child reads many files (0.3 s to start, then
at full speed), so a check of a whole leaderboard starts only one.

This file is also the child's script, so it imports nothing from the package.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 8 * 2**30
"""Largest size of a file's values in memory; a small file can repeat a text a billion times."""

_SECONDS = 60.0  # time limit per child, plus one second per MB
_BATCH_ROWS = 4096
_FINE: set[tuple[int, ...]] = set()
"""States of files that this process has found to be valid."""


def unreadable(paths: Sequence[Path]) -> dict[Path, str]:
    """Reads every value of Parquet files in a child process.

    Returns:
        The problem of each file that cannot be read or contains text that is not UTF-8.
    """
    problems: dict[Path, str] = {}
    states = {path: _state(path) for path in paths}
    waiting = [path for path in paths if states[path] not in _FINE]
    while waiting:
        answers, end = _ask(waiting)
        problems |= {waiting[i]: text for i, text in enumerate(answers) if text}
        if len(answers) < len(waiting):
            problems[waiting[len(answers)]] = end
        waiting = waiting[len(answers) + 1 :]
    _FINE.update(states[path] for path in paths if path not in problems)
    return problems


def _state(path: Path) -> tuple[int, ...]:
    """Returns values that change with the content of a file; empty without a file."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _ask(paths: Sequence[Path]) -> tuple[list[str], str]:
    """Returns an answer per file that the child reached (empty if valid), and how it ended."""
    seconds = _SECONDS + sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
    question = json.dumps([MAX_BYTES, *map(str, paths)])
    try:
        child = subprocess.run(
            [sys.executable, "-P", __file__],
            input=question.encode("ascii"),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        output, end = child.stdout, _end(child.returncode)
    except subprocess.TimeoutExpired as error:
        output, end = error.stdout or b"", f"reading it takes longer than {seconds:.0f} s"
    lines = [line for line in output.splitlines(keepends=True) if line.endswith(b"\n")]
    return [json.loads(line) for line in lines], end


def _end(code: int) -> str:
    if code >= 0:
        return f"the process that read it exited with {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"the process that read it was killed by {name}"


def _problem(path: str, max_bytes: int) -> str:
    import pyarrow
    import pyarrow.parquet

    row, size = 0, 0
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=False) as file:
            if problem := _twice(file.schema_arrow.names):
                return problem
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                batch.validate(full=True)  # text that is not UTF-8, among others
                row, size = row + batch.num_rows, size + batch.nbytes
                if size > max_bytes:
                    return f"more than {max_bytes / 2**30:g} GiB of values; split the file"
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError, RecursionError) as error:
        first = (str(error).splitlines() or [""])[0]
        place = f"after row {row}: " if row else ""
        return place + (first or type(error).__name__)
    return ""


def _twice(names: Sequence[str]) -> str:
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    return f"the column '{twice[0]}' occurs twice; rename one" if twice else ""


def _main() -> None:
    max_bytes, *paths = json.load(sys.stdin)
    for path in paths:
        print(json.dumps(_problem(path, max_bytes)), flush=True)


if __name__ == "__main__":
    _main()
