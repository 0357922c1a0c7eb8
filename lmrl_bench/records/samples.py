"""`samples.parquet`: a run's answers to all test prompts, so that anyone can score them again.

Columns: sample_id; decoding ("test", "test-greedy", "test-unfiltered"); seed_index (0 unless a prompt
is answered several times); prompt_sha256; prompt and references (text, for the first
`SHOWN_SAMPLES` rows of each decoding, for pages; otherwise null); completion; completion_ids; terminated;
reward; one `metric/<name>` per metric with per-sample values; one `reward/<name>` per part of the
reward; and, if rewards or metrics return more than numbers, info: a JSON object per row, from
`reward/<part>/<name>` or `metric/<metric>/<name>` to a text, number, true, false or null.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import RecordError
from lmrl_bench.core.strict_json import Fact, parse_json
from lmrl_bench.records.files import write_atomic
from lmrl_bench.records.record import FileInfo

SAMPLES = "samples.parquet"
SHOWN_SAMPLES = 8
_SCORES = ("metric/", "reward/")
COLUMNS: dict[str, pa.DataType] = {
    "sample_id": pa.string(),
    "decoding": pa.string(),
    "seed_index": pa.int32(),
    "prompt_sha256": pa.string(),
    "prompt": pa.string(),
    "references": pa.list_(pa.string()),
    "completion": pa.string(),
    "completion_ids": pa.list_(pa.int32()),
    "terminated": pa.bool_(),
    "reward": pa.float64(),
}
INFO = "info"
LONGEST_INFO = 1_000_000
"""Maximum number of characters of one row's info."""

_WHOLE = tuple(name for name in COLUMNS if name not in ("prompt", "references"))
_GIVEN = tuple(name for name in COLUMNS if name not in ("seed_index", "prompt_sha256"))


def write_samples(folder: Path, rows: Sequence[Mapping[str, Any]]) -> FileInfo:
    """Writes the rows atomically; equal rows give equal bytes.

    Args:
        folder: The folder of the run.
        rows: Mappings with `sample_id`, `decoding`, `prompt`, `references`, `completion`, `completion_ids`,
            `terminated`, `reward`, any `metric/<name>` and `reward/<name>`, optionally an `info`
            mapping, and `seed_index` if not 0. The prompt's digest is computed here; its text is
            kept only for the first rows.

    Raises:
        RecordError: A column is missing or unknown, a value has the wrong type, or the folder
            cannot be written.
    """
    path = folder / SAMPLES
    scores = sorted({name for row in rows for name in row if name not in (*COLUMNS, INFO)})
    _check(path, rows, scores)
    # Most runs have no info, and then no column for it.
    info = [(INFO, pa.string())] if any(row.get(INFO) for row in rows) else []
    schema = pa.schema([*COLUMNS.items(), *((name, pa.float64()) for name in scores), *info])
    try:
        table = pa.Table.from_pylist(list(_completed(rows)), schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise RecordError(f"{path}: a sample cannot be written: {error}") from error
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=65_536)
    write_atomic(path, buffer.getvalue())
    return FileInfo(path=SAMPLES, sha256=file_sha256(path), rows=table.num_rows)


def read_samples(folder: Path | str, without: Collection[str] = ()) -> pa.Table:
    """Returns the samples as an Arrow table (`.to_pandas()`, `.to_pylist()`).

    Args:
        folder: The folder of the run.
        without: Columns to omit.

    Raises:
        RecordError: The file is missing or not valid.
    """
    path = Path(folder, SAMPLES)
    try:
        with pq.ParquetFile(path) as file:  # read_table would start a data set and threads
            _check_schema(path, file.schema_arrow)
            kept = [name for name in file.schema_arrow.names if name not in without]
            table = file.read(columns=kept, use_threads=False)
            table.validate(full=True)  # texts may not be UTF-8
            _check_whole(path, table)
            return table
    except (OSError, pa.ArrowInvalid) as error:
        raise RecordError(
            f"{path}: cannot be read ({error}); run again with --rerun all"
        ) from error


def info_of(row: Mapping[str, Any]) -> dict[str, Fact]:
    """Returns the info of one row of samples; empty if the file has no such column.

    Raises:
        RecordError: The column has other content than `write_samples` writes.
    """
    text = row.get(INFO)
    if text is None:
        return {}
    place = f"{SAMPLES}: info of the sample {row['sample_id']:.80}"
    if len(text) > LONGEST_INFO:
        raise RecordError(f"{place} has {len(text):,} characters (at most {LONGEST_INFO:,})")
    try:
        info = parse_json(text)
    except ValueError as error:
        raise RecordError(f"{place} is not JSON ({error}); run again with --rerun all") from None
    if not isinstance(info, dict) or not info:
        raise RecordError(f"{place} is not a mapping with at least one fact")
    for name, value in info.items():
        if not name.startswith(_SCORES) or not isinstance(value, str | int | float | None):
            raise RecordError(
                f"{place} has {name[:80]!r}: {str(value)[:40]!r}; facts are texts, numbers, true, "
                "false or null, named reward/… or metric/…"
            )
    return info


def _check_schema(path: Path, schema: pa.Schema) -> None:
    twice = [name for number, name in enumerate(schema.names) if name in schema.names[:number]]
    if twice:
        raise RecordError(f"{path}: the column '{twice[0]:.80}' is there twice; restore it")
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        raise RecordError(
            f"{path}: lacks the columns {', '.join(missing)}; run again with --rerun all"
        )
    unknown = _unknown(schema.names)
    if unknown:
        raise RecordError(f"{path}: unknown columns {_listed(unknown)}; restore it")
    types = {**COLUMNS, INFO: pa.string()}
    wrong = [field.name for field in schema if field.type != types.get(field.name, pa.float64())]
    if wrong:
        raise RecordError(f"{path}: columns of another type: {_listed(wrong)}; restore it")


def _check_whole(path: Path, table: pa.Table) -> None:
    empty = [name for name in _WHOLE if name in table.column_names and table[name].null_count]
    if not empty and "completion_ids" in table.column_names:
        empty = [
            "completion_ids" for c in table["completion_ids"].chunks if c.flatten().null_count
        ][:1]
    if empty:
        raise RecordError(
            f"{path}: has an empty field in {_listed(empty)}; run again with --rerun all"
        )


def _unknown(names: Iterable[str]) -> list[str]:
    """Returns the names that are not columns of such a file."""
    return [n for n in names if n not in (*COLUMNS, INFO) and not n.startswith(_SCORES)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(ascii(name[:80])[1:-1] for name in names[:5])


def _check(path: Path, rows: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> None:
    unknown = _unknown(scores)
    if unknown:
        allowed = ", ".join([*COLUMNS, "metric/…", "reward/…"])
        raise RecordError(f"{path}: unknown columns {', '.join(unknown)} (allowed: {allowed})")
    for number, row in enumerate(rows):
        missing = [name for name in _GIVEN if name not in row]
        if missing:
            raise RecordError(f"{path}: row {number} lacks {', '.join(missing)}")


def _completed(rows: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    shown: dict[str, int] = {}
    for row in rows:
        count = shown[row["decoding"]] = shown.get(row["decoding"], 0) + 1
        keep = count <= SHOWN_SAMPLES
        yield {
            **row,
            "seed_index": row.get("seed_index", 0),
            "prompt_sha256": hashlib.sha256(row["prompt"].encode()).hexdigest(),
            "prompt": row["prompt"] if keep else None,
            "references": list(row["references"]) if keep else None,
            INFO: _json(row.get(INFO)),
        }


def _json(info: Mapping[str, Fact] | None) -> str | None:
    """Returns facts as JSON with sorted names, so that equal facts give equal bytes."""
    if not info:
        return None
    return json.dumps(info, sort_keys=True, ensure_ascii=False, allow_nan=False)
