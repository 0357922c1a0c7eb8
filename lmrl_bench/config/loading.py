"""Loads and validates configuration.

A YAML file becomes a pydantic model, or one error that lists all problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from lmrl_bench.config.located import KeyPath, Located
from lmrl_bench.config.problems import describe
from lmrl_bench.config.yaml_core import parse_yaml
from lmrl_bench.core.errors import ConfigError

__all__ = ["Located", "find_problems", "load_yaml", "validate"]

M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path) -> Located:
    """Reads a YAML file that contains one mapping, keeping line and column of every key.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML (1.2 core schema), repeats a key, or
            is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(_not_utf8(path, error)) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    located = parse_yaml(text, str(path))
    if located.data is None:
        raise ConfigError(f"{path}:1: expected a mapping (key: value), the file is empty")
    if not isinstance(located.data, dict):
        raise ConfigError(f"{path}:1: expected a mapping (key: value), got {located.data!r:.60}")
    return located


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """Describes the first line that is not UTF-8, with a guess at the encoding."""
    content, found = error.object, error.object[error.start]
    line = content.count(b"\n", 0, error.start) + 1
    guess = "Windows-1252" if 0x80 <= found < 0xA0 else "Latin-1 or Windows-1252"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        guess = "UTF-16"
    return (
        f"{path}:{line}: not UTF-8 (byte {found:#04x}), looks like {guess}; save the file as UTF-8"
    )


def validate(model_class: type[M], located: Located | Mapping[str, Any], prefix: str = "") -> M:
    """Builds the model, or raises one error with a line for every problem.

    Types are strict, as in JSON: text is not a number, and `true` is not 1; whole numbers are
    accepted as numbers, and lists as tuples.

    Args:
        model_class: Any pydantic model, such as TaskSpec or RunConfig.
        located: Data with places, or plain data.
        prefix: Prefix of every key in messages (`algorithm.`); parts obtained with `Located.sub`
            have theirs already.

    Raises:
        ConfigError: Lines `file:line: key.path: what is wrong (allowed …); did you mean 'x'?`.
    """
    result = _attempt(model_class, located, prefix)
    if isinstance(result, list):
        raise ConfigError("\n".join(result))
    return result


def find_problems(
    model_class: type[BaseModel], located: Located | Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Returns the lines that `validate` would raise, to combine problems of several models."""
    result = _attempt(model_class, located, prefix)
    return result if isinstance(result, list) else []


def _attempt(
    model_class: type[M], located: Located | Mapping[str, Any], prefix: str
) -> M | list[str]:
    located = located if isinstance(located, Located) else Located.plain(located)
    if prefix:
        path: KeyPath = tuple(part for part in prefix.split(".") if part)
        located = Located(located.data, located.places, path)
    try:
        return model_class.model_validate_json(
            to_json(located.data, inf_nan_mode="constants"), strict=True
        )
    except ValidationError as error:
        return describe(error, model_class, located)
