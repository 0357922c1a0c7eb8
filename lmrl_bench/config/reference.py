"""Writes the reference of all run settings from the configuration classes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lmrl_bench.config.run import RunConfig

_WORDS: dict[Any, str] = {
    int: "whole number", float: "number", bool: "true or false", str: "text", Path: "folder",
}  # fmt: skip
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


class Setting(NamedTuple):
    """A field of the run configuration, as named by `--set` and in YAML."""

    name: str
    type: str
    default: str
    description: str


def settings() -> list[Setting]:
    """Returns the settings of all runs; for an algorithm's, see `lmrl-bench algorithm show`."""
    return settings_of(RunConfig)


def settings_of(model: type[BaseModel]) -> list[Setting]:
    """Returns the settings of one configuration class, with full names for nested ones."""
    return list(_settings(model, ""))


def settings_markdown() -> str:
    """Returns the Markdown table of all settings."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, kind, default, words in settings():
        lines.append(
            f"| `{name}` | {kind.replace('|', 'or')} | {f'`{default}`' if default else ''} | {words} |"
        )
    return "\n".join(lines) + "\n"


def _settings(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        full = f"{prefix}{name}"
        inner = _model_of(field.annotation)
        if inner is None or type(None) in get_args(field.annotation):
            yield Setting(full, _type(field), _default(field), field.description or "")
        if inner is not None:
            yield from _settings(inner, f"{full}.")


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Returns the configuration class of a nested, possibly optional, part."""
    for kind in get_args(annotation) or (annotation,):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {value if isinstance(value, int) else format(value, 'g')}"
        for part in field.metadata
        for bound, sign in _BOUNDS.items()
        if (value := getattr(part, bound, None)) is not None
    ]
    return " ".join([_words(field.annotation), *bounds])


def _words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin is list:
        return f"list of {_words(inner[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(kind) for kind in inner if kind is not type(None))
    return _WORDS.get(annotation, "mapping")


def _default(field: FieldInfo) -> str:
    """Returns the default in YAML; empty for a required setting."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _write() -> None:
    path = Path(__file__).with_name("README.md")
    head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{settings_markdown()}{END}{tail}", encoding="utf-8")


BEGIN = "<!-- settings:begin (made by `python -m lmrl_bench.config.reference`) -->"
END = "<!-- settings:end -->"

if __name__ == "__main__":
    _write()
