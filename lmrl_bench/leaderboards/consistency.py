"""Checks that the records of one table belong to the leaderboard's current cells and to one experiment.

Any other record is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.spec import Cell
from lmrl_bench.records.expected import ExpectedRun, differences
from lmrl_bench.records.record import RunRecord

LARGEST = 1e100
"""Numbers beyond it have no variance that a computer can hold."""
_REMEDY = "run these cells again (`lmrl-bench leaderboard run`), or restore the records"
_SHOWN_RECORDS = 10
_SHOWN_FIELDS = 3


def stale(record: RunRecord, cell: Cell, expected: ExpectedRun) -> list[str]:
    """Returns why a record does not count as its cell: where it belongs, or the fields that differ."""
    found = (record.task.name, record.entry, record.seed)
    if found != (cell.task, cell.entry, cell.seed):
        return [f"holds the record of {'/'.join(map(str, found))}, which belongs elsewhere"]
    fields = [str(difference) for difference in differences(record, expected)]
    more = len(fields) - _SHOWN_FIELDS
    return fields[:_SHOWN_FIELDS] + ([f"and {more} more fields"] if more > 0 else [])


def refuse_stale(problems: Mapping[Path, Sequence[str]], leaderboard: str) -> None:
    """Raises one error that names every record that does not count as its cell, if there are any.

    Raises:
        RecordError: Folders, fields and the remedy.
    """
    if not problems:
        return
    lines = [f"{folder}: {'; '.join(reasons)}" for folder, reasons in problems.items()]
    if len(lines) > _SHOWN_RECORDS:
        lines[_SHOWN_RECORDS:] = [f"and {len(lines) - _SHOWN_RECORDS} more records"]
    raise RecordError(
        "\n".join(
            [
                *lines,
                f"these records are not of the leaderboard as it is today; run these cells again with: "
                f"lmrl-bench leaderboard run {leaderboard} --rerun stale (or restore settings, task or initial policy)",
            ]
        )
    )


def check_numbers(place: Path | str, numbers: Mapping[str, float]) -> None:
    """Proves that statistics can be computed with the numbers of a record or of its curves.

    Raises:
        RecordError: Names the first one that is too large.
    """
    if all(abs(value) <= LARGEST for value in numbers.values()):  # NaN is not
        return
    for name, value in numbers.items():
        if not abs(value) <= LARGEST:
            raise RecordError(
                f"{place}: {name} is {value:g}, not a number up to {LARGEST:g}: no statistics can take it; "
                "leave the entry out, or fix the cause and run it again"
            )


def check_entry(records: Mapping[Path, RunRecord]) -> None:
    """Proves that all seeds of an entry measured the same things.

    Raises:
        RecordError: Names the records that differ.
    """
    completed = {f: r for f, r in records.items() if r.status == "completed"}
    measured = {
        folder: {name: sorted(results.metrics) for name, results in record.results.items()}
        for folder, record in completed.items()
    }
    _same(measured, "decodings or metrics")


def check_task(records: Mapping[Path, RunRecord]) -> None:
    """Proves that all entries of a task's table started alike and were measured alike on the same data.

    A run that failed early knows the task's version and digest only, so the rest is compared
    between completed runs.

    Raises:
        RecordError: Names what is mixed and the records that differ.
    """
    completed = {f: r for f, r in records.items() if r.status == "completed"}
    for what, field in (
        ("data digests", "data"),
        ("metric signatures", "metric_signatures"),
        ("reward signatures", "reward_signature"),
        ("primary metrics", "primary_metric"),
        ("held-out metrics", "held_out_metrics"),
        ("metric directions", "lower_is_better"),
    ):
        _same({f: getattr(r.task, field) for f, r in completed.items()}, what)
    _check_initial_policies(records)


def _check_initial_policies(records: Mapping[Path, RunRecord]) -> None:
    """Entries that start from the same policy by name must do so by content, whatever machine ran them."""
    groups: dict[Any, dict[Path, RunRecord]] = {}
    for folder, record in records.items():
        if record.policy is not None:
            name = (record.policy.model, record.policy.revision, record.policy.init)
            groups.setdefault(name, {})[folder] = record
    for group in groups.values():
        starts = {
            folder: (
                record.policy.weights_sha256,
                record.policy.tokenizer_sha256,
                record.policy.base_weights_sha256,
                record.policy.sft_recipe_sha256,
            )
            for folder, record in group.items()
            if record.policy is not None
        }
        _same(starts, "weights or tokenizers of initial policies")


def _same(values: Mapping[Path, Any], what: str) -> None:
    items = iter(values.items())
    first, wanted = next(items, (Path(), None))
    for folder, value in items:
        if value != wanted:
            raise RecordError(
                f"mixed {what} cannot stand in one table: {_short(wanted)} in {first}, "
                f"{_short(value)} in {folder}; {_REMEDY}"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
