"""Turns rows into samples: prompt template, references, identifier, and checks of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lmrl_bench.core.errors import DataError, TaskError, nearest
from lmrl_bench.core.strict_json import require_encodable
from lmrl_bench.data.sample import Sample
from lmrl_bench.speedups.garbage import collector_off
from lmrl_bench.tasks.files import data_file
from lmrl_bench.tasks.hub import read_dataset
from lmrl_bench.tasks.plugin import Plugin
from lmrl_bench.tasks.readers import READERS, Row, is_blank
from lmrl_bench.tasks.spec import DataSpec, PromptSpec, Split, TaskSpec
from lmrl_bench.tasks.template import Template

_NO_META: Mapping[str, Any] = MappingProxyType({})


def read_samples(
    folder: Path, spec: TaskSpec, split: Split, needing_references: Callable[[], Sequence[str]]
) -> tuple[Sample, ...]:
    """Reads, renders and checks all rows of one split.

    Args:
        folder: The task folder.
        spec: The task's definition.
        split: The split.
        needing_references: Returns the rewards and metrics that read references; called only if a
            row has none.

    Raises:
        DataError: A file is missing or damaged, a row is unusable, an identifier repeats, or the
            number of rows differs from the declared one.
        TaskError: The template or the plug-in is invalid.
        DownloadError: The download that contains the file is not installed.
    """
    prompt_of = _Prompts(spec.prompt, folder / "task.yaml")
    data = spec.data
    samples: list[Sample] = []
    known: set[str] = set()
    with collector_off():
        for number, row in enumerate(_rows(folder, spec, split)):
            identifier = _identifier(data, split, number, row)
            if identifier in known:
                rows = enumerate(_rows(folder, spec, split))  # read again: places are not kept
                places = (r.place for n, r in rows if _identifier(data, split, n, r) == identifier)
                raise DataError(
                    f"{row.place}: the id '{identifier}' was already used at {next(places)}; "
                    "ids must be unique"
                )
            known.add(identifier)
            references = _references(data, row, identifier)
            if not references:
                _require_none_needed(folder, data, row, identifier, needing_references)
            prompt = prompt_of(row, identifier)
            sample = Sample(
                identifier,
                prompt.text,
                references,
                _meta(data, row),
                prompt.written,
                prompt.messages,
            )
            _require_encodable(row.place, sample)
            samples.append(sample)
    _check_number(folder, spec, split, len(samples))
    return tuple(samples)


class _Prompt(NamedTuple):
    """One prompt; see `Sample`."""

    text: str
    written: tuple[tuple[int, int], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()


class _Prompts:
    """Renders the prompts of rows: one text, or the messages of a chat and their plain text."""

    def __init__(self, spec: PromptSpec, place: Path) -> None:
        self._roles = [message.role for message in spec.messages or ()]
        sources = [message.content for message in spec.messages or ()] or [spec.template]
        self._templates = [Template(source, place) for source in sources]

    def __call__(self, row: Row, identifier: str) -> _Prompt:
        texts = [template(row, identifier) for template in self._templates]
        if self._roles:
            messages = tuple(zip(self._roles, texts, strict=True))
            prompt = "\n".join(f"{role}: {content}" for role, content in messages)
            return _Prompt(prompt, messages=messages)
        return _Prompt(texts[0], self._templates[0].written(row, texts[0]))


def _rows(folder: Path, spec: TaskSpec, split: Split) -> Iterable[Row]:
    if spec.data.reader == "hf-datasets":
        return read_dataset(folder, spec.data, split)
    if spec.data.reader == "plugin":
        return _plugin_rows(folder, spec, split)
    if spec.data.reader not in READERS:
        known = [*READERS.names(), "hf-datasets", "plugin"]
        raise TaskError(
            f"{folder / 'task.yaml'}: data.reader: unknown reader '{spec.data.reader}'"
            f"{nearest(spec.data.reader, known)} (allowed: {', '.join(known)})"
        )
    return READERS.get(spec.data.reader)(data_file(folder, spec.data, split))


def _plugin_rows(folder: Path, spec: TaskSpec, split: Split) -> Iterator[Row]:
    yield from Plugin(folder).read(spec, split, data_file(folder, spec.data, split))


def _check_number(folder: Path, spec: TaskSpec, split: Split, found: int) -> None:
    expected = spec.data.file(split).rows
    source = spec.data.file(split).path or spec.data.dataset
    if not found:
        raise DataError(
            f"{source}: the split '{split}' of {folder / 'task.yaml'} has no rows; add data, or "
            f"correct data.{split}"
        )
    if expected is not None and found != expected:
        raise DataError(
            f"{source}: {found} rows, expected {expected} (data.{split}.rows of "
            f"{folder / 'task.yaml'}); "
            "restore the file, or increase the task's version and update the number"
        )


def _column(row: Row, name: str, key: str) -> Any:
    if name not in row.values:
        found = [str(column) for column in row.values]
        raise DataError(
            f"{row.place}: no column '{name}' ({key}){nearest(name, found)} (columns: "
            f"{', '.join(found)})"
        )
    return row.values[name]


def _identifier(data: DataSpec, split: Split, number: int, row: Row) -> str:
    if data.id is None:
        return f"{split}-{number}"
    value = _column(row, data.id, "data.id")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(
            f"{row.place}: the column '{data.id}' (data.id) holds {value!r:.60}; an id must be text or "
            "a whole number"
        )
    if not str(value).strip():
        raise DataError(f"{row.place}: the column '{data.id}' (data.id) is empty")
    return str(value)


def _meta(data: DataSpec, row: Row) -> Mapping[str, Any]:
    if not data.meta:
        return _NO_META
    return MappingProxyType({name: _column(row, name, "data.meta") for name in data.meta})


def _references(data: DataSpec, row: Row, identifier: str) -> tuple[str, ...]:
    """Returns the row's references; empty if the columns hold null or an empty list."""
    names = _reference_columns(data, row)
    if len(names) == 1:  # fast path: a single text
        text = row.values.get(names[0])
        if isinstance(text, str) and not is_blank(text):
            return (text,)
    found: list[str] = []
    for name in names:
        value = _column(row, name, "data.references")
        texts = value if isinstance(value, list) else [] if value is None else [value]
        for text in texts:
            if not isinstance(text, str) or is_blank(text):
                raise DataError(
                    f"{row.place}: row '{identifier}' has a reference that is empty or not text "
                    f"(column '{name}': {text!r:.60}); complete or remove the row, or write null if "
                    "it has no reference"
                )
            found.append(text)
    return tuple(found)


def _reference_columns(data: DataSpec, row: Row) -> Sequence[str]:
    """Returns the columns of `data.references`; by default `references`, if that column exists."""
    if data.references is None:
        return []
    if "references" not in data.model_fields_set and "references" not in row.values:
        return []
    return [data.references] if isinstance(data.references, str) else data.references


def _require_none_needed(
    folder: Path,
    data: DataSpec,
    row: Row,
    identifier: str,
    needing_references: Callable[[], Sequence[str]],
) -> None:
    """Rejects a row without references if a reward or metric needs them."""
    names = needing_references()
    if not names:
        return
    columns = _reference_columns(data, row)
    why = f"column {', '.join(columns)}" if columns else "data.references names no column"
    raise DataError(
        f"{row.place}: row '{identifier}' has no reference ({why}), but {', '.join(names)} of "
        f"{folder / 'task.yaml'} requires one in every row; complete or remove the row, name the "
        "column in data.references, or choose other rewards and metrics"
    )


def _require_encodable(place: str, sample: Sample) -> None:
    try:
        require_encodable([sample.id, sample.prompt, sample.references, *_values(sample.meta)])
    except ValueError as error:
        raise DataError(f"{place}: row '{ascii(sample.id)[1:-1]}': {error}") from error


def _values(meta: Mapping[str, Any]) -> Iterable[Any]:
    return meta.values() if meta else ()
