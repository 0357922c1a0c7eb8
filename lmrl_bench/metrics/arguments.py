"""Arguments from YAML against a constructor's signature, for metrics and rewards."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lmrl_bench.errors import LmrlBenchError, nearest

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
        kind: What is built, in the singular, for messages ("metric").
        name: Its name in the registry.
        factory: A class whose constructor is annotated.
        args: The arguments by name.
        error: Raised with all problems in one message.
    """
    parameters = inspect.signature(factory).parameters
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    problems = [_unknown(key, list(parameters)) for key in args if key not in parameters]
    problems += [
        f"argument '{key}' is missing"
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in args
    ]
    checked: dict[str, Any] = {}
    for key in args.keys() & parameters.keys():
        try:
            checked[key] = convert(hints.get(key, Any), args[key])
        except ValueError as problem:
            problems.append(f"argument '{key}' is {args[key]!r}: {problem}")
    if problems:
        raise error(f"{kind} '{name}': " + "; ".join(problems))
    return factory(**checked)


def convert(hint: Any, value: Any) -> Any:
    """Returns `value` as the type `hint`.

    Raises:
        ValueError: It is not of that type; the text says what is allowed.
    """
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
            value
        )
    except ValidationError as error:
        reasons = dict.fromkeys(detail["msg"] for detail in error.errors())
        raise ValueError(" or ".join(reasons)) from None


def _unknown(key: str, allowed: list[str]) -> str:
    return (
        f"unknown argument '{key}'{nearest(key, allowed)} (allowed: {', '.join(allowed) or 'none'})"
    )
