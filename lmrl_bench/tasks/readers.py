"""Readers turn a data file into rows, each with the place it came from. No torch.

A reader never guesses: a row that cannot be parsed is an error with file and line. To add a format,
write one function here and one line in `READERS`; a format used by a single task belongs in its
`plugin.py`.
"""

from __future__ import annotations

import csv
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lmrl_bench.core.errors import DataError
from lmrl_bench.core.parquet import unreadable
from lmrl_bench.core.registry import Registry
from lmrl_bench.core.strict_json import parse_json
from lmrl_bench.tasks.text_files import open_text

LONGEST_LINE: Final = 10_000_000
"""Longest JSON line or CSV field, in characters."""

_MARK: Final = "\ufeff"  # byte-order mark; skipped at the start of a file


class Row(NamedTuple):
    """One row of a data file.

    Attributes:
        place: File and line (or row number), for messages.
        values: Column name to value.
    """

    place: str
    values: Mapping[str, Any]


Reader = Callable[[Path], Iterator[Row]]

READERS: Registry[Reader] = Registry(
    "data reader",
    {
        "jsonl": "lmrl_bench.tasks.readers:read_jsonl",
        "csv": "lmrl_bench.tasks.readers:read_csv",
        "tsv": "lmrl_bench.tasks.readers:read_tsv",
        "parquet": "lmrl_bench.tasks.readers:read_parquet",
    },
)


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yields the objects of a JSON-lines file, plain or gzip (`.gz`).

    Raises:
        DataError: Corrupt gzip, text that is not UTF-8, a line that is not a JSON object, or one
            that `parse_json` rejects.
    """
    name = str(path)
    with open_text(path) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE + 1), ""), start=1):
            place = f"{name}:{number}"
            if len(line) > LONGEST_LINE:
                raise DataError(f"{place}: the line has more than {LONGEST_LINE:,} characters")
            if line.isspace():
                continue
            try:
                values = parse_json(line)
            except ValueError as error:
                raise DataError(
                    f"{place}: not JSON ({error}); expected one object per line{_hint(line)}"
                ) from error
            if not isinstance(values, dict):
                raise DataError(
                    f"{place}: expected a JSON object, found {line.strip()[:60]!r}{_hint(line)}"
                )
            yield Row(place, values)


def _hint(line: str) -> str:
    """Returns a guess at why a line is not a JSON object."""
    if line.startswith(_MARK):
        return "; the line starts with a byte-order mark, typical of concatenated files: remove it"
    if line.lstrip().startswith("["):
        return "; the file looks like one JSON list: write one object per line"
    return ""


def read_csv(path: Path) -> Iterator[Row]:
    """Yields the rows of a comma-separated file with a header line, plain or gzip (`.gz`).

    Raises:
        DataError: Corrupt gzip, text that is not UTF-8, no header, a missing or repeated column
            name, or a row whose number of fields differs from the header's.
    """
    return _read_separated(path, ",")


def read_tsv(path: Path) -> Iterator[Row]:
    """Yields the rows of a tab-separated file; quoting and errors as in `read_csv`."""
    return _read_separated(path, "\t")


def _read_separated(path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_LINE)
    with open_text(path) as stream:
        reader = csv.reader(_plain_lines(stream, path), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        start = 1  # first line of the current row; a quoted field may span several lines
        try:
            for fields in reader:
                if header is None:
                    header = _header(fields, path, delimiter)
                elif fields:
                    yield _row(header, fields, f"{path}:{reader.line_num}")
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{start}: not CSV ({_reason(error)})") from error
    if header is None:
        raise DataError(f"{path}:1: no header line; the first line must name the columns")


def _plain_lines(lines: Iterable[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise DataError(f"{path}:{number}: contains a NUL character; remove it")
        if line.startswith(_MARK):
            raise DataError(
                f"{path}:{number}: the line starts with a byte-order mark, typical of concatenated "
                "files; remove it"
            )
        if number == 1 and re.fullmatch(r"sep=.\s*", line):
            raise DataError(
                f"{path}:1: '{line.strip()}' is specific to Excel; remove this line, and save the file "
                "with commas (.csv) or tabs (.tsv)"
            )
        yield line


def _reason(error: csv.Error) -> str:
    if str(error) == "unexpected end of data":
        return "a quote opened here is never closed; double a quote inside a field"
    if "expected after" in str(error):
        return (
            f"{error}: text follows a closing quote; quote the whole field, and double each quote "
            "inside it"
        )
    return str(error)


def _header(names: Sequence[str], path: Path, delimiter: str) -> list[str]:
    if not any(name.strip() for name in names):
        raise DataError(f"{path}:1: no header line; the first line must name the columns")
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(
                f"{path}:1: column {number} of the header has no name; name or remove it "
                "(pandas writes one for its index unless `to_csv` gets index=False)"
            )
        if name in names[: number - 1]:
            raise DataError(f"{path}:1: the column '{name}' occurs twice; rename one")
    other = next((mark for mark in ";\t|," if mark != delimiter and mark in names[0]), None)
    if other and "".join(names).count(other) >= len(names):
        columns = "the header is one column," if len(names) == 1 else "the first column is"
        raise DataError(
            f"{path}:1: {columns} '{names[0]:.60}'; it looks separated by {other!r}, "
            f"but the reader expects {delimiter!r}"
            + (" (.tsv is for tabs)" if other == "\t" else "")
        )
    return list(names)


def _row(header: Sequence[str], fields: Sequence[str], place: str) -> Row:
    if len(fields) != len(header):
        raise DataError(
            f"{place}: the row has {len(fields)} fields, but the header has {len(header)} "
            f"({', '.join(header)}); quote fields that contain separators or line breaks"
        )
    return Row(place, dict(zip(header, fields, strict=True)))


def read_parquet(path: Path) -> Iterator[Row]:
    """Yields the rows of a Parquet file.

    Raises:
        DataError: The file is not Parquet, is truncated, repeats a column name, or contains text
            that is not UTF-8.
    """
    import pyarrow.parquet

    _require_readable(path)
    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for values in _plain_rows(batch, path):
                number += 1
                yield Row(f"{path}, row {number}", values)


def _plain_rows(batch: Any, path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError, NotImplementedError) as error:  # such as the year 300,000
        raise DataError(
            f"{path}: a value that Python cannot represent ({error}); store the column as text"
        ) from error
    return rows


def _require_readable(path: Path) -> None:
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    problem = _problem(path.resolve(), state.st_mtime_ns, state.st_size)
    if problem:
        raise DataError(f"{path}: cannot be read as Parquet ({problem})")


@functools.cache
def _problem(path: Path, _modified: int, _size: int) -> str | None:
    return unreadable([path]).get(path)


ENDINGS: Final = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


def is_blank(text: str) -> bool:
    """Returns whether a text has no visible character, only spaces, zero-width or control ones."""
    if text[:1].isalnum():  # fast path for nearly all texts
        return False
    return all(
        unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cc", "Cf") for character in text
    )


def reader_of_file(path: Path) -> str:
    """Returns the name of the reader for a file name (`rows.jsonl.gz` gives "jsonl").

    Raises:
        DataError: The file's extension is not known.
    """
    whole = path.name.lower()
    name = whole.removesuffix(".gz")
    for ending, reader in ENDINGS.items():
        if name.endswith(ending) and (name == whole or reader != "parquet"):
            return reader
    raise DataError(
        f"{path}: unknown extension; use .jsonl, .csv or .tsv (optionally with .gz), or .parquet"
    )
