"""Readers: a data file becomes rows, each with the place it came from. Text only, no torch.

A reader never guesses: a row that does not parse is an error that names the file and the line. A
reader of another format is one function below and one line in `READERS`; a single task's own format
goes into its `plugin.py`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lmrl_bench.errors import DataError
from lmrl_bench.registry import Registry

_SCAN = json.JSONDecoder().scan_once  # type: ignore[attr-defined] # in no stub
_LINE_ENDS = ("\n", "\r\n", "")
_LONGEST_CSV_FIELD = 10_000_000  # characters; csv's own limit is 131,072


class Row(NamedTuple):
    """One row of a data file.

    Attributes:
        place: file and line (or row number), for messages.
        values: column name to value.
    """

    place: str
    values: Mapping[str, Any]


Reader = Callable[[Path], Iterator[Row]]

READERS: Registry[Reader] = Registry(
    "data reader",
    {
        "jsonl": "lmrl_bench.tasks.readers:read_jsonl",
        "csv": "lmrl_bench.tasks.readers:read_csv",
        "parquet": "lmrl_bench.tasks.readers:read_parquet",
    },
)


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yields the objects of a JSON-lines file, plain or gzip (`.gz`).

    Raises:
        DataError: Corrupt gzip, text that is not UTF-8, or a line that is not a JSON object.
    """
    name = str(path)
    with _open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.isspace():
                continue
            place = f"{name}:{number}"
            try:
                values = _parsed(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{place}: not JSON ({error.msg} at column {error.colno}); one object per "
                    "line is expected"
                ) from error
            if not isinstance(values, dict):
                raise DataError(f"{place}: a JSON object is expected, found {line.strip()[:60]!r}")
            yield Row(place, values)


def _parsed(line: str) -> Any:
    """As `json.loads`, which costs a short line twice the time; that one is left to name what is wrong."""
    try:
        value, end = _SCAN(line, 0)
    except (StopIteration, json.JSONDecodeError):
        return json.loads(line)
    return value if line[end:] in _LINE_ENDS else json.loads(line)


def read_csv(path: Path) -> Iterator[Row]:
    """Yields the rows of a comma-separated file with a header line, plain or gzip (`.gz`).

    Raises:
        DataError: Corrupt gzip, text that is not UTF-8, no header, or a row whose number of fields
            is not the header's.
    """
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    with _open_text(path) as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            if not reader.fieldnames:
                raise DataError(f"{path}:1: no header line; the first line must name the columns")
            for values in reader:
                place = f"{path}:{reader.line_num}"
                if None in values or None in values.values():
                    raise DataError(
                        f"{place}: the row does not have the header's {len(reader.fieldnames)} "
                        "fields "
                        f"({', '.join(reader.fieldnames)}); quote fields that hold commas or "
                        "line breaks"
                    )
                yield Row(place, values)
        except csv.Error as error:
            raise DataError(f"{path}:{reader.reader.line_num}: not CSV ({error})") from error


def read_parquet(path: Path) -> Iterator[Row]:
    """Yields the rows of a Parquet file.

    Raises:
        DataError: The file is not Parquet, or is cut short.
    """
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", values)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not readable as Parquet after row {number} ({error})") from error


def reader_of_file(path: Path) -> str:
    """Returns the reader's name for a file name (`rows.jsonl.gz` gives "jsonl").

    Raises:
        DataError: No reader is known for the file's ending.
    """
    name = path.name.removesuffix(".gz")
    endings = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
    for ending, reader in endings.items():
        if name.endswith(ending):
            return reader
    raise DataError(
        f"{path}: the ending tells no format; use .jsonl, .jsonl.gz, .csv, .csv.gz or .parquet"
    )


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOBase]:
    """Opens a UTF-8 text, through gzip if it ends in `.gz`; what goes wrong names the file."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="")
        ) as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error}); convert the file to UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: corrupt gzip ({error}); restore the file from its source or build it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: not readable ({error.strerror or error})") from error
