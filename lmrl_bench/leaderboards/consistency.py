"""What may stand in one table: records of the same experiment, task, data and metrics.

Anything else is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl_bench.errors import RecordError
from lmrl_bench.leaderboards.spec import Cell
from lmrl_bench.records.record import RunRecord

_REMEDY = "run these cells again (`lmrl-bench bench`), or restore the records"


def check_cell(folder: Path, record: RunRecord, cell: Cell) -> None:
    """Proves that a record belongs where it lies and was made as the board says.

    Raises:
        RecordError: Another task, row or seed, or a setting that differs from the board's.
    """
    found = (record.task.name, record.row, record.seed)
    if found != (cell.task, cell.label, cell.seed):
        raise RecordError(
            f"{folder}: holds the record of {'/'.join(map(str, found))}, which belongs elsewhere; "
            f"{_REMEDY}"
        )
    made = {
        **record.config,
        "algorithm": {**record.config.get("algorithm", {}), **record.algorithm},
    }
    fixed = ("label", "seed", "task")
    asked = {key: value for key, value in cell.config.items() if key not in fixed}
    different = [
        f"{name} is {_at(made, name)!r} in the record, {value!r} on the board"
        for name, value in _leaves(asked)
        if _at(made, name) != value
    ]
    if different:
        raise RecordError(f"{folder}: made with other settings ({'; '.join(different)}); {_REMEDY}")


def check_row(records: Mapping[Path, RunRecord]) -> None:
    """Proves that all seeds of a row ran the same configuration and measured the same things.

    Raises:
        RecordError: Names the records that differ.
    """
    _same(records, {f: r.config_digest for f, r in records.items()}, "configuration digests")
    completed = {f: r for f, r in records.items() if r.status == "completed"}
    measured = {
        folder: {name: sorted(results.metrics) for name, results in record.results.items()}
        for folder, record in completed.items()
    }
    _same(completed, measured, "decodings or metrics")
    starts = {
        folder: record.policy and (record.policy.weights_sha256, record.policy.tokenizer_sha256)
        for folder, record in completed.items()
    }
    _same(completed, starts, "start weights or tokenizers")


def check_task(records: Mapping[Path, RunRecord]) -> None:
    """Proves that all rows of a task's table were measured in the same way on the same data.

    A run that failed early knows the task's version and digest only, so the rest is compared
    between completed runs.

    Raises:
        RecordError: Names what is mixed and the records that differ.
    """
    _same(records, {f: r.task.version for f, r in records.items()}, "task versions")
    _same(records, {f: r.task.digest for f, r in records.items()}, "task digests")
    completed = {f: r for f, r in records.items() if r.status == "completed"}
    for what, field in (
        ("data digests", "data"),
        ("metric signatures", "metric_signatures"),
        ("reward signatures", "reward_signature"),
        ("primary metrics", "primary_metric"),
        ("held-out metrics", "held_out_metrics"),
        ("metric directions", "lower_is_better"),
    ):
        _same(completed, {f: getattr(r.task, field) for f, r in completed.items()}, what)


def _same(records: Mapping[Path, RunRecord], values: Mapping[Path, Any], what: str) -> None:
    folders: Sequence[Path] = list(records)
    for folder in folders[1:]:
        if values[folder] != values[folders[0]]:
            raise RecordError(
                f"mixed {what} cannot stand in one table: {_short(values[folders[0]])} in "
                f"{folders[0]}, {_short(values[folder])} in {folder}; {_REMEDY}"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 70 else f"{text[:67]}..."


def _leaves(data: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        name = f"{path}.{key}" if path else key
        found += _leaves(value, name) if isinstance(value, Mapping) else [(name, value)]
    return found


def _at(data: Any, name: str) -> Any:
    for key in name.split("."):
        if not isinstance(data, Mapping) or key not in data:
            return "absent"
        data = data[key]
    return data
