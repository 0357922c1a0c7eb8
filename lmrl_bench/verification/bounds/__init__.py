"""Bounds on the numbers of a completed run: from the task, the configuration, the tokenizer, and the other files.

`lmrl_bench.verification.bounds_table` lists every field with its bounds, and what is believed instead. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.records.record import RunRecord
from lmrl_bench.tasks.task import Task
from lmrl_bench.verification.bounds import completions, curves, facts, results
from lmrl_bench.verification.bounds.run import open_run

__all__ = ["problems"]


def problems(folder: Path, record: RunRecord, task: Task) -> list[str]:
    """Returns every value of a completed run that cannot be, by field; none for an honest one.

    Args:
        folder: The folder of the run; its files have been read safely before.
        record: Its record.
        task: The installed task, in the version that the record names.
    """
    try:
        run = open_run(folder, record, task)
    except LmrlBenchError as error:
        return [str(error)]
    return [
        reason for part in (facts, results, curves, completions) for reason in _of(part.check(run))
    ]


def _of(reasons: Iterator[str]) -> Iterator[str]:
    try:
        yield from reasons
    except LmrlBenchError as error:
        yield str(error)
