"""Checks arguments from YAML against the annotations of a class or function."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from lmrl_bench.core.errors import LmrlBenchError, nearest
from lmrl_bench.metrics.foreign import border

T = TypeVar("T")


def construct(
    kind: str,
    name: str,
    factory: Callable[..., T],
    args: Mapping[str, Any],
    error: type[LmrlBenchError],
) -> T:
    """Calls `factory(**args)` after checking names and types against its annotations.

    Args:
        kind: Kind of object that is built, for messages ("metric", "reward").
        name: Its registered name.
        factory: A class with an annotated constructor, or an annotated function.
        args: Arguments by name.
        error: Exception type to raise; its message lists all problems.
    """
    checked = check_arguments(kind, name, factory, args, error)
    with border(f"while {kind} '{name}' was made", factory, error):
        return factory(**checked)


def check_arguments(
    kind: str,
    name: str,
    factory: Callable[..., Any],
    args: Mapping[str, Any],
    error: type[LmrlBenchError],
    *,
    skip: Collection[str] = (),
) -> dict[str, Any]:
    """Returns the arguments converted to their annotated types; see `construct`.

    Args:
        kind: Kind of object, for messages.
        name: Its registered name.
        factory: A class or function.
        args: Arguments by name.
        error: Exception type to raise; its message lists all problems.
        skip: Parameters that the caller fills.
    """
    parameters = inspect.signature(factory).parameters
    named = {
        key: parameter
        for key, parameter in parameters.items()
        if key not in skip
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    rest = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = hints_of(factory)
    problems = [_unknown(key, list(named)) for key in args if key not in named and not rest]
    problems += [
        f"argument '{key}' is missing"
        for key, parameter in named.items()
        if parameter.default is parameter.empty and key not in args
    ]
    checked = {key: args[key] for key in args if rest and key not in named}
    for key in args.keys() & named.keys():
        try:
            checked[key] = convert(hints.get(key, Any), args[key])
        except ValueError as problem:
            problems.append(f"argument '{key}' is {args[key]!r}: {problem}")
    if problems:
        raise error(f"{kind} '{name}': " + "; ".join(problems))
    return checked


def hints_of(factory: Callable[..., Any]) -> dict[str, Any]:
    """Returns the annotations of a class's constructor or of a function.

    An annotation that cannot be resolved (a name imported only for type checkers) stays a string.
    """
    while isinstance(factory, functools.partial):
        factory = factory.func
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        return typing.get_type_hints(function)
    except Exception:  # evaluating an annotation runs arbitrary code
        # Resolve one by one, so that a single bad annotation does not disable the other checks.
        return {key: _resolved(function, hint) for key, hint in _annotations(function).items()}


def _annotations(function: Any) -> dict[str, Any]:
    return dict(getattr(function, "__annotations__", {}))


def _resolved(function: Any, hint: Any) -> Any:
    alone = types.SimpleNamespace(
        __annotations__={"one": hint}, __globals__=getattr(function, "__globals__", {})
    )
    try:
        return typing.get_type_hints(alone)["one"]
    except Exception:
        return hint


def convert(hint: Any, value: Any) -> Any:
    """Converts `value` to the type `hint`.

    Raises:
        ValueError: The value has another type; the message says what is allowed.
    """
    if isinstance(hint, str):
        raise ValueError(f"its annotation {hint!r} cannot be resolved; import the name at run time")
    try:
        converted = _adapter(hint).validate_python(value)
    except ValidationError as error:
        reasons = dict.fromkeys(detail["msg"] for detail in error.errors())
        raise ValueError(" or ".join(reasons)) from None
    _require_same_kind(value, converted)
    return converted


def _require_same_kind(value: Any, converted: Any) -> None:
    """Rejects lax conversions by pydantic: text to number, `true` to 1, 1 to `true`."""
    if isinstance(value, list | tuple) and isinstance(converted, list | tuple):
        for before, after in zip(value, converted, strict=False):
            _require_same_kind(before, after)
    if isinstance(value, Mapping) and isinstance(converted, Mapping):
        for key in value.keys() & converted.keys():
            _require_same_kind(value[key], converted[key])
    if isinstance(converted, int | float) and (
        isinstance(value, str) or isinstance(value, bool) != isinstance(converted, bool)
    ):
        wanted = "true or false" if isinstance(converted, bool) else "a number, without quotes"
        raise ValueError(f"Input should be {wanted}")


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # models and dataclasses bring their own configuration
        return TypeAdapter(hint)


def _unknown(key: str, allowed: list[str]) -> str:
    return (
        f"unknown argument '{key}'{nearest(key, allowed)} (allowed: {', '.join(allowed) or 'none'})"
    )
