"""Parses JSON strictly: everything that Python silently accepts beyond the standard is an error.

Python keeps the last of two equal keys, accepts `NaN`, converts `1e999` to infinity, and half of a
surrogate pair to a string that cannot be encoded. No torch.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NoReturn

Fact = str | int | float | bool | None
"""One JSON scalar: a thing to know about one completion, such as the class of an error."""

MAX_DEPTH: Final = 64
"""Limit on nested lists and mappings, so that recursive code cannot overflow the stack."""

MAX_DIGITS: Final = 1000
"""Limit on digits of an integer."""


def parse_json(text: str) -> Any:
    """Returns the value of one JSON text, which was decoded from UTF-8.

    Raises:
        ValueError: Invalid JSON, a repeated key, a number that is not finite or has more than
            `MAX_DIGITS` digits, nesting deeper than `MAX_DEPTH`, or text that UTF-8 cannot encode.
    """
    try:
        # scan_once skips the white-space handling of `decode`; most lines have nothing around them.
        value, end = _DECODER.scan_once(text, 0)  # type: ignore[attr-defined] # in no stub
        if text[end:].strip(" \t\r\n"):
            value = _DECODER.decode(text)
    except (StopIteration, json.JSONDecodeError):
        value = _decoded(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and depth(value) > MAX_DEPTH:
        raise ValueError(_too_deep())
    if "\\ud" in text or "\\uD" in text or "\\u0000" in text:
        require_encodable(value)
    return value


def require_encodable(value: Any) -> None:
    """Checks that all texts of a value, keys included, can be encoded as UTF-8 and have no NUL.

    Raises:
        ValueError: An invalid text; the message names the character.
    """
    for text in _texts(value):
        if "\0" in text:
            raise ValueError(f"{text[:60]!r} contains a NUL character (\\u0000); remove it")
        if text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = ascii(text[max(0, error.start - 20) : error.end + 20])
            raise ValueError(
                f"character {error.start + 1} of {found} is half of a surrogate pair (\\u"
                f"{ord(text[error.start]):04x}), which is not a character"
            ) from None


def depth(value: Any) -> int:
    """Returns the nesting depth of lists and mappings; stops counting above `MAX_DEPTH`."""
    found, level = 0, [value]
    while level := [part for part in level if isinstance(part, list | tuple | dict)]:
        found += 1
        if found > MAX_DEPTH:
            break
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
    return found


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting.extend(part)
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from None


def _too_deep() -> str:
    return f"lists and mappings are nested deeper than {MAX_DEPTH} levels"


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds an object from pairs, for `object_pairs_hook`.

    Raises:
        ValueError: A repeated key.
    """
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key '{twice:.60}' is given twice")
    return mapping


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(
            f"a number of {len(digits)} digits; at most {MAX_DIGITS} are supported (quote it to make it text)"
        )
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits:.40} is beyond the range of a float")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null, or omit the key")


_DECODER = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_int=_whole, parse_float=_finite, parse_constant=_constant
)
