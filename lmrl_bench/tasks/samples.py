"""From rows to samples: prompt template, references, identifier, and the checks of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment

from lmrl_bench.errors import DataError, TaskError, nearest
from lmrl_bench.garbage import collector_off
from lmrl_bench.tasks.files import data_file
from lmrl_bench.tasks.hub import read_dataset
from lmrl_bench.tasks.plugin import Plugin
from lmrl_bench.tasks.readers import READERS, Row
from lmrl_bench.tasks.spec import DataSpec, Split, TaskSpec
from lmrl_bench.text.sample import Sample

_ENVIRONMENT = SandboxedEnvironment(
    undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
)
_NO_META: Mapping[str, Any] = MappingProxyType({})


def read_samples(folder: Path, spec: TaskSpec, split: Split) -> tuple[Sample, ...]:
    """Reads, renders and checks all rows of one split.

    Args:
        folder: The task folder.
        spec: The task's definition.
        split: Which split.

    Raises:
        DataError: A file is missing or damaged, a row is unusable, an identifier comes twice, or
            the number of rows is not the declared one.
        TaskError: The template or the plug-in is wrong.
        AssetError: The asset that holds the file is not installed.
    """
    prompt_of = _Template(spec.prompt.template, folder / "task.yaml")
    data = spec.data
    samples: list[Sample] = []
    known: set[str] = set()
    with collector_off():
        for number, row in enumerate(_rows(folder, spec, split)):
            identifier = _identifier(data, split, number, row)
            if identifier in known:
                rows = enumerate(_rows(folder, spec, split))  # read again, as no place is kept
                places = (r.place for n, r in rows if _identifier(data, split, n, r) == identifier)
                raise DataError(
                    f"{row.place}: the id '{identifier}' was used before, at {next(places)}; "
                    "ids must be unique"
                )
            known.add(identifier)
            prompt, references = prompt_of(row, identifier), _references(data, row, identifier)
            samples.append(Sample(identifier, prompt, references, _meta(data, row)))
    _check_number(folder, spec, split, len(samples))
    return tuple(samples)


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
            "restore the file, or raise the task's version and write the new number"
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
    identifier = str(_column(row, data.id, "data.id"))
    if not identifier.strip():
        raise DataError(f"{row.place}: the column '{data.id}' (data.id) is empty")
    return identifier


def _meta(data: DataSpec, row: Row) -> Mapping[str, Any]:
    if not data.meta:
        return _NO_META
    return MappingProxyType({name: _column(row, name, "data.meta") for name in data.meta})


def _references(data: DataSpec, row: Row, identifier: str) -> tuple[str, ...]:
    names = [data.references] if isinstance(data.references, str) else data.references
    if len(names) == 1:  # most often one text
        text = row.values.get(names[0])
        if isinstance(text, str) and text.strip():
            return (text,)
    found: list[str] = []
    for name in names:
        value = _column(row, name, "data.references")
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise DataError(
                    f"{row.place}: row '{identifier}' has an empty reference or one that is no "
                    "text "
                    f"(column '{name}': {text!r:.60}); every row needs a reference: complete or "
                    "remove the row"
                )
            found.append(text)
    if not found:
        raise DataError(
            f"{row.place}: row '{identifier}' has no reference (column {', '.join(names)}); "
            "complete or remove the row"
        )
    return tuple(found)


class _Template:
    """The prompt template, compiled once; a column it names must be in every row."""

    def __init__(self, source: str, place: Path) -> None:
        self._source, self._place = source, place
        try:
            self._template = _ENVIRONMENT.from_string(source)
            self._plain = _plain_parts(_ENVIRONMENT.parse(source))
        except jinja2.TemplateSyntaxError as error:
            raise TaskError(f"{place}: prompt.template {source!r}: {error.message}") from error

    def __call__(self, row: Row, identifier: str) -> str:
        try:
            prompt = self._rendered(row.values)
        except jinja2.TemplateError as error:
            columns = ", ".join(str(column) for column in row.values)
            raise DataError(
                f"{row.place}: prompt.template {self._source!r} of {self._place}: "
                f"{error.message} (columns: {columns})"
            ) from error
        if not prompt.strip():
            raise DataError(
                f"{row.place}: row '{identifier}' gives an empty prompt; complete or remove the row"
            )
        return prompt

    def _rendered(self, values: Mapping[str, Any]) -> str:
        """Renders one row; texts in a plain template are joined, which a context of Jinja2's costs much more than."""
        if self._plain is not None:
            try:
                return "".join(
                    [values[part] if is_column else part for part, is_column in self._plain]
                )
            except (KeyError, TypeError):
                pass  # what is no text, or not there, is Jinja2's to write or to refuse
        return self._template.render(_text_keys(values))


def _plain_parts(template: nodes.Template) -> list[tuple[str, bool]] | None:
    """Returns what a template consists of if that is text and bare columns, as (text or name, is a column)."""
    parts: list[tuple[str, bool]] = []
    for statement in template.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            if isinstance(node, nodes.TemplateData):
                parts.append((node.data, False))
            elif isinstance(node, nodes.Name):
                parts.append((node.name, True))
            else:
                return None
    return parts


def _text_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in values.items()}
