"""A leaderboard's records as one long-form Parquet table (`leaderboard export`), for DuckDB or pandas."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.collect import Expectation, damage, left_out, records_of
from lmrl_bench.leaderboards.consistency import check_task
from lmrl_bench.leaderboards.ranking import UNFILTERED
from lmrl_bench.leaderboards.spec import Cell, LeaderboardSpec, cells
from lmrl_bench.records.files import write_atomic
from lmrl_bench.records.record import RunRecord, SplitResults, TaskInfo
from lmrl_bench.records.store import find_folders

SUFFIX = ".parquet"
COLUMNS: dict[str, pa.DataType] = {
    "leaderboard": pa.string(),
    "task": pa.string(),
    "entry": pa.string(),
    "algorithm": pa.string(),
    "seed": pa.int64(),
    "status": pa.string(),
    "split": pa.string(),
    "decoding": pa.string(),
    "filtered": pa.bool_(),
    "metric": pa.string(),
    "role": pa.string(),
    "lower_is_better": pa.bool_(),
    "value": pa.float64(),
    "n": pa.int64(),
    "tokens": pa.int64(),
    "kl": pa.float64(),
    "mean_length": pa.float64(),
    "truncated_share": pa.float64(),
    "wall_s": pa.float64(),
    "record_id": pa.string(),
    "record_digest": pa.string(),
    "config_digest": pa.string(),
    "task_version": pa.int64(),
    "task_digest": pa.string(),
}
"""Columns of the table; results/README.md says what they hold."""


def export(
    leaderboard: LeaderboardSpec,
    results_root: Path,
    output: Path,
    expected: Expectation,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Writes the table of a leaderboard; the same records give the same bytes with the same pyarrow.

    Args:
        leaderboard: The leaderboard.
        results_root: The folder of all results.
        output: The file, `*.parquet`.
        expected: What the record of each cell must say; see `collect`.
        say: Takes a line for each cell that is left out because its files are damaged.

    Returns:
        The number of rows.

    Raises:
        RecordError: As in `collect`; or `output` has another ending or cannot be written.
    """
    if output.suffix != SUFFIX:
        raise RecordError(f"{output}: the table is a parquet file; let its name end with {SUFFIX}")
    table = leaderboard_rows(leaderboard, results_root, expected, say)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(output, buffer.getvalue())
    return int(table.num_rows)


def leaderboard_rows(
    leaderboard: LeaderboardSpec,
    results_root: Path,
    expected: Expectation,
    say: Callable[[str], None] = lambda _: None,
) -> pa.Table:
    """Returns one row per record and metric, in the order of the leaderboard.

    A seed without results, whatever the reason, has one row whose metric and value are null.
    `say` takes a line for each cell whose files are damaged, which counts as missing.

    Raises:
        RecordError: As in `collect`.
    """
    grid = cells(leaderboard)
    known = set(find_folders(results_root / leaderboard.name))
    damaged: dict[Path, str] = {}
    records = records_of(leaderboard.name, grid, results_root, expected, known, damaged)
    for folder, reason in damaged.items():
        place = folder.relative_to(results_root).as_posix()
        say(left_out(place, damage(reason), leaderboard.name))
    for task in leaderboard.tasks:
        folders = [c.folder(results_root, leaderboard.name) for c in grid if c.task == task.task]
        check_task({f: found for f in folders if (found := records[f]) is not None})
    rows = [
        row
        for cell in grid
        for row in _of_cell(
            leaderboard.name, cell, records[cell.folder(results_root, leaderboard.name)]
        )
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(COLUMNS.items())))


def _of_cell(leaderboard: str, cell: Cell, record: RunRecord | None) -> Iterator[dict[str, Any]]:
    name = {
        "leaderboard": leaderboard,
        "task": cell.task,
        "entry": cell.entry,
        "algorithm": cell.config["algorithm"]["name"],
        "seed": cell.seed,
    }
    if record is None:
        yield {**name, "status": "missing"}
        return
    run = {
        **name,
        "status": record.status,
        "tokens": record.budget.tokens,
        "wall_s": record.time.wall_s,
        "record_id": record.id,
        "record_digest": record.digest(),
        "config_digest": record.config_digest,
        "task_version": record.task.version,
        "task_digest": record.task.digest,
    }
    if record.status != "completed":
        yield run
        return
    for decoding, results in record.results.items():
        for row in _of_results(results, record.task):
            acts = record.traits.filters_tokens or UNFILTERED in record.results
            filtered = acts and decoding != UNFILTERED
            split = decoding.partition("-")[0]
            yield {**run, "split": split, "decoding": decoding, "filtered": filtered, **row}


def _of_results(results: SplitResults, task: TaskInfo) -> Iterator[dict[str, Any]]:
    """Yields the reward, its parts and every metric, each with the drift from the initial policy."""
    drift = {
        "kl": results.kl_to_reference,
        "mean_length": results.mean_length,
        "truncated_share": results.truncated_share,
    }
    measures = [
        ("reward", "reward", results.reward, results.n),
        *(
            ("reward part", name, part, results.n)
            for name, part in results.reward_components.items()
        ),
        *(
            (_role(name, task), name, found.value, found.n)
            for name, found in results.metrics.items()
        ),
    ]
    for role, name, value, n in measures:
        lower = role in ("primary", "held-out", "other") and name in task.lower_is_better
        yield {
            "metric": name, "role": role, "lower_is_better": lower, "value": value, "n": n, **drift
        }  # fmt: skip


def _role(metric: str, task: TaskInfo) -> str:
    if metric == task.primary_metric:
        return "primary"
    return "held-out" if metric in task.held_out_metrics else "other"
