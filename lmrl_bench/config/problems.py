"""Turns pydantic's errors into messages for users.

Each message has file and line, the key, what is wrong, what is allowed, and the nearest match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lmrl_bench.config.located import KeyPath, Located, key_text
from lmrl_bench.core.errors import nearest

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "needs at least {min_length} item(s), has {actual_length}",
    "too_long": "may have at most {max_length} item(s), has {actual_length}",
    "string_too_short": "needs at least {min_length} character(s)",
    "string_too_long": "may have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
}


def describe(error: ValidationError, model_class: type[BaseModel], located: Located) -> list[str]:
    """Returns one line for every invalid key, in document order."""
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_path(detail, located.data), []).append(detail)
    ordered = sorted(found, key=lambda path: _order(path, located))
    return [_line(path, found[path], model_class, located) for path in ordered]


def _path(detail: ErrorDetails, data: Any) -> KeyPath:
    """Returns pydantic's location as a key path, without the names of union branches."""
    path: list[str | int] = []
    for part in detail["loc"]:
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(part)
    if detail["type"] == "missing":
        path.append(detail["loc"][-1])
    return tuple(path)


def _order(path: KeyPath, located: Located) -> tuple[str, int, str]:
    place = located.place(path)
    return (place.source, place.line or 0, key_text(path)) if place else ("", 0, key_text(path))


def _line(
    path: KeyPath, details: list[ErrorDetails], model_class: type[BaseModel], located: Located
) -> str:
    message = _message(path, details, model_class)
    where = _where(path, message, located)
    key = key_text((*located.prefix, *path))
    parts = [where] if where else []
    if key and not where.endswith(f"--set {key}"):
        parts.append(key)
    return ": ".join([*parts, message])


def _where(path: KeyPath, message: str, located: Located) -> str:
    """Returns the place of a key; for a mapping, the overrides that the message refers to."""
    if isinstance(_at(located.data, path), Mapping):
        named = [
            str(place)
            for inner, place in located.places.items()
            if len(inner) > len(path)
            and inner[: len(path)] == path
            and place.source.startswith("--set ")
            and re.search(rf"\b{re.escape(str(inner[-1]))}\b", message)
        ]
        if named:
            return ", ".join(dict.fromkeys(named))
    place = located.place(path)
    return str(place) if place else ""


def _at(data: Any, path: KeyPath) -> Any:
    for key in path:
        if isinstance(data, Mapping) and key in data:
            data = data[str(key)]
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return None
    return data


def _message(path: KeyPath, details: list[ErrorDetails], model_class: type[BaseModel]) -> str:
    first = details[0]
    if first["type"] == "extra_forbidden":
        allowed = sorted(
            {name for model in _models_at(model_class, path[:-1]) for name in _names(model)}
        )
        known = ", ".join(allowed) or "none, there are no settings here"
        return f"unknown key (allowed: {known}){nearest(str(path[-1]), allowed)}"
    if first["type"] == "missing":
        return f"missing, but required{_description(model_class, path)}"
    expected = list(dict.fromkeys(_EXPECTED[d["type"]] for d in details if d["type"] in _EXPECTED))
    others = list(dict.fromkeys(_explain(d) for d in details if d["type"] not in _EXPECTED))
    if expected:
        others.insert(0, f"expected {' or '.join(expected)}, got {_shown(first['input'])}")
    return "; or ".join(others)


def _explain(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        hint = nearest(str(detail["input"]), allowed)
        return f"unknown value {_shown(detail['input'])} (allowed: {context['expected']}){hint}"
    if detail["type"] in _BOUNDS:
        numbers = {
            key: f"{value:g}" if isinstance(value, float) else value
            for key, value in context.items()
        }
        bound = _BOUNDS[detail["type"]].format(**numbers)
        sized = "item" in bound
        return bound if sized else f"{bound}, got {_shown(detail['input'])}"
    if detail["type"] in ("value_error", "assertion_error"):
        return str(context["error"])
    return f"{detail['msg']}, got {_shown(detail['input'])}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _description(model_class: type[BaseModel], path: KeyPath) -> str:
    for model in _models_at(model_class, path[:-1]):
        for name, field in model.model_fields.items():
            if path[-1] in (name, field.alias) and field.description:
                return f" ({field.description})"
    return ""


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_at(model_class: type[BaseModel], path: KeyPath) -> list[type[BaseModel]]:
    """Returns the models at a key path; several if a field is a union."""
    models = [model_class]
    for key in path:
        if isinstance(key, int):
            continue  # a list's items were unwrapped with the list
        models = [
            inner
            for model in models
            for name, field in model.model_fields.items()
            if key in (name, field.alias)
            for inner in _models_in(field.annotation)
        ] or models
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
