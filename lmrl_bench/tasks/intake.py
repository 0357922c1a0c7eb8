"""Reads user data for `lmrl-bench task new`: chooses columns, and reports every dropped row."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lmrl_bench.core.errors import DataError, TaskError, nearest
from lmrl_bench.core.strict_json import MAX_DEPTH, depth, require_encodable
from lmrl_bench.core.wording import counted
from lmrl_bench.tasks.hub import read_folder
from lmrl_bench.tasks.readers import READERS, Row, is_blank, reader_of_file

Pairs = list[dict[str, Any]]

_PROMPT_NAMES = ("prompt", "source", "src", "document", "question", "input", "text", "context")
_REFERENCE_NAMES = (
    "reference", "references", "target", "tgt", "summary", "answer", "answers", "completion", "response", "output",
)  # fmt: skip
_OURS: Final = ("id", "prompt", "reference")
_UNKEEPABLE = "<unkeepable>"


@dataclass
class Kept:
    """The rows of one source, with remarks for the user.

    Attributes:
        rows: Rows with `id`, `prompt`, `reference` (text or list of texts) and additional columns.
        notes: What was dropped or changed, with counts.
        columns: Names of the additional columns.
    """

    rows: Pairs
    notes: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


def source_rows(path: Path) -> Mapping[str, Iterable[Row]]:
    """Returns the rows of a file as `{"": rows}`, or of each split in a `save_to_disk` folder.

    Raises:
        DataError: The file or folder does not exist, or its format is unknown.
    """
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return {"": READERS.get(reader_of_file(path))(path)}


@dataclass(frozen=True)
class Columns:
    """Columns that make up a sample.

    Attributes:
        prompt: Prompt column; None to infer it from the names.
        references: Columns with reference texts (text or list of texts); empty to infer one, None
            if the rows have no references.
        source: Split that these columns come from; the other splits need the same names.
    """

    prompt: str | None
    references: Sequence[str] | None
    source: str = ""


def keep(path: Path, rows: Iterable[Row], wanted: Columns) -> tuple[Kept, Columns]:
    """Chooses the columns and converts each row to JSON-compatible data.

    Args:
        path: Source of the rows, for messages.
        rows: Rows from any reader.
        wanted: The columns known so far.

    Returns:
        The rows, and the chosen columns.

    Raises:
        TaskError: A column does not exist or cannot be inferred.
        DataError: A row cannot be read, or has no prompt or reference.
    """
    found = list(rows)
    if not found:
        raise DataError(f"{path}: no rows")
    chosen = _choose(path, found, wanted)
    assert chosen.prompt is not None
    references = chosen.references or []
    if twice := [name for name, count in Counter(references).items() if count > 1]:
        raise TaskError(f"{path}: --reference-column names '{twice[0]}' twice; name it once")
    columns = _names_of(found)
    return _Keeper(columns, chosen.prompt, references, _own_ids(found)).kept(found), chosen


def _choose(path: Path, rows: Sequence[Row], wanted: Columns) -> Columns:
    columns = _names_of(rows)
    first = [str(column) for column in rows[0].values]  # infer only columns that the first row has
    if wanted.source and (
        missing := [c for c in (wanted.prompt, *(wanted.references or [])) if c not in columns]
    ):
        raise TaskError(
            f"{path}: no column {_shown(str(missing[0]), quoted=True)}, unlike '{wanted.source}' "
            f"(columns: {', '.join(map(_shown, columns))}); all splits need the same names"
        )
    prompt = _column(wanted.prompt, _PROMPT_NAMES, columns, first, path, "--prompt-column")
    others = [column for column in columns if column != prompt]
    if wanted.references is None or (not wanted.references and set(others) <= {"id"}):
        return Columns(prompt, None)
    names: Sequence[str | None] = wanted.references or [None]
    return Columns(
        prompt,
        [
            _column(given, _REFERENCE_NAMES, others, first, path, "--reference-column")
            for given in names
        ],
    )


def _names_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(column) for row in rows for column in row.values))


def _column(
    given: str | None,
    usual: Sequence[str],
    columns: Sequence[str],
    first: Sequence[str],
    path: Path,
    option: str,
) -> str:
    listed = ", ".join(map(_shown, columns))
    if given is not None:
        if given not in columns:
            raise TaskError(
                f"{path}: no column {_shown(given, quoted=True)}{nearest(given, columns)} (columns: {listed}); "
                f"correct {option}"
            )
        return given
    alike: dict[str, list[str]] = {}
    for column in columns:
        alike.setdefault(column.strip().casefold(), []).append(column)
    for name in usual:
        if name in columns and name in first:
            return name
        if name not in columns and len(same := alike.get(name, [])) == 1 and same[0] in first:
            return same[0]
    without = "; without references: --no-references" if option == "--reference-column" else ""
    raise TaskError(
        f"{path}: cannot infer the column; name it with {option} (columns: {listed or 'no others'})"
        f"{without}"
    )


def _shown(name: str, *, quoted: bool = False) -> str:
    """Returns a column name for messages, quoted if it has invisible characters."""
    plain = name == name.strip() and name.isprintable() and name
    return (f"'{name}'" if quoted else name) if plain else repr(name)


def _own_ids(rows: Sequence[Row]) -> bool:
    """Returns whether the column `id` holds unique texts or whole numbers."""
    values = [row.values.get("id") for row in rows]
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        return False
    texts = [str(value) for value in values]
    return all(text.strip() for text in texts) and len(set(texts)) == len(texts)


class _Keeper:
    """Converts rows to the written form, and counts all changes."""

    def __init__(
        self, columns: Sequence[str], prompt: str, references: Sequence[str], own_ids: bool
    ) -> None:
        self._prompt, self._references = prompt, references
        used = {prompt, *references, *(["id"] if own_ids else [])}
        self._names = _new_names([column for column in columns if column not in used])
        self._own_ids = own_ids and "id" not in (prompt, *references)
        self._columns = columns
        self._counts: Counter[str] = Counter()

    def kept(self, rows: Sequence[Row]) -> Kept:
        pairs = [self._pair(row) for row in rows]
        several = any(len(pair["reference"]) > 1 for pair in pairs)
        for pair in pairs:
            if not self._references:
                del pair["reference"]
            elif not several:
                pair["reference"] = pair["reference"][0]
        left_out = self._left_out(pairs)
        unique = list(_named(_without_repetitions(pairs), self._own_ids))
        if dropped := len(pairs) - len(unique):
            self._counts[
                f"{counted(dropped, 'row')} dropped: equal to an earlier row in every column"
            ] = 1
        notes = [text.replace("#", counted(count, "value")) for text, count in self._counts.items()]
        renamed = [
            f"'{old}' is renamed to '{new}'" for old, new in self._names.items() if old != new
        ]
        columns = [name for name in self._names.values() if name not in left_out]
        return Kept(unique, [*renamed, *notes], columns)

    def _pair(self, row: Row) -> dict[str, Any]:
        prompt = self._texts(row, self._prompt)
        if len(prompt) != 1:
            raise DataError(
                f"{row.place}: the column '{self._prompt}' holds a list; a prompt must be one text"
            )
        references = [text for name in self._references for text in self._texts(row, name)]
        rest = {
            new: self._plain(row.values[old], old)
            for old, new in self._names.items()
            if old in row.values
        }
        for name in self._columns:
            if name not in row.values:
                self._counts[f"column '{name}': # missing in rows without it"] += 1
        identifier = str(row.values["id"]) if self._own_ids else ""
        pair = {"id": identifier, "prompt": prompt[0], "reference": references, **rest}
        try:
            require_encodable(pair)
        except ValueError as error:
            raise DataError(f"{row.place}: {error}") from error
        return pair

    def _texts(self, row: Row, column: str) -> list[str]:
        """Returns the texts of a column; numbers and booleans are converted to their JSON text."""
        value = row.values.get(column)
        values = value if isinstance(value, list) else [value]
        texts = []
        for part in values:
            if (text := _as_text(part)) is not None:
                self._counts[f"column '{column}': # written as text"] += 1
                part = text
            if not isinstance(part, str) or is_blank(part):
                raise DataError(
                    f"{row.place}: the column '{column}' is empty or not text ({part!r:.60}); "
                    f"{_remedy(part)}"
                )
            texts.append(part)
        if not texts:
            raise DataError(
                f"{row.place}: the column '{column}' is empty (a list without texts); complete or "
                "remove the row"
            )
        return texts

    def _plain(self, value: Any, column: str) -> Any:
        """Returns the value of an additional column in JSON-compatible form."""
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, float):
            if math.isfinite(value):
                return value
            self._counts[f"column '{column}': # not finite, written as null"] += 1
            return None
        if isinstance(value, datetime.date | datetime.time | decimal.Decimal):
            self._counts[f"column '{column}': # written as text ({type(value).__name__})"] += 1
            return value.isoformat() if not isinstance(value, decimal.Decimal) else str(value)
        if isinstance(value, list | tuple) and depth(value) <= MAX_DEPTH:
            return [self._plain(part, column) for part in value]
        if isinstance(value, Mapping) and depth(value) <= MAX_DEPTH:
            return {str(key): self._plain(part, column) for key, part in value.items()}
        self._counts[f"column '{column}' dropped: # of type {type(value).__name__}"] += 1
        return _UNKEEPABLE

    def _left_out(self, pairs: Pairs) -> set[str]:
        """Removes columns that JSON cannot represent from all rows."""
        bad = {
            name
            for pair in pairs
            for name in self._names.values()
            if name in pair and _UNKEEPABLE in _parts(pair[name])
        }
        for pair in pairs:
            for name in bad:
                pair.pop(name, None)
        return bad


def _new_names(columns: Sequence[str]) -> dict[str, str]:
    """Returns the names of additional columns; reserved ones (`id`, …) become `own_id`, …."""
    names: dict[str, str] = {}
    for column in columns:
        name = f"own_{column}" if column in _OURS else column
        while name in names.values() or (name != column and name in columns):
            name = f"own_{name}"
        names[column] = name
    return names


def _as_text(value: Any) -> str | None:
    """Returns a number, boolean or date as text, or None for other values."""
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return None


def _remedy(value: Any) -> str:
    if isinstance(value, bytes):
        return "store the column as UTF-8 text"
    if isinstance(value, Mapping | list | tuple):
        return "store the plain text in a column"
    return "complete or remove the row"


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _parts(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _parts(part)
    else:
        yield value


def _without_repetitions(pairs: Pairs) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for pair in pairs:
        key = json.dumps(pair, sort_keys=True)
        if key not in seen:
            seen.add(key)
            yield pair


def _named(pairs: Iterable[dict[str, Any]], own_ids: bool) -> Iterator[dict[str, Any]]:
    """Sets ids to a hash of prompt and references; other rows with the same texts get a number."""
    known: Counter[str] = Counter()
    for pair in pairs:
        if not own_ids:
            texts = [pair["prompt"], *as_list(pair.get("reference", []))]
            name = hashlib.sha1("\0".join(texts).encode()).hexdigest()[:12]
            known[name] += 1
            pair["id"] = name if known[name] == 1 else f"{name}-{known[name]}"
        yield pair


def as_list(value: str | list[str]) -> list[str]:
    """Returns the references of a written row as a list."""
    return value if isinstance(value, list) else [value]
