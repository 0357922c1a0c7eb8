"""Reads JSON that somebody else may have written: one value for each key, and only numbers that a file may hold."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from lmrl_bench.core.strict_json import unique_keys

_LARGEST: Final = 2**63 - 1
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER: Final = b"0" * 19
_SHOWN: Final = 5


def parse_json(content: bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: It is not JSON, not UTF-8, or nested too deep; a key is given twice in one object; a number is not
            finite or is an integer of more than 64 bits.
    """
    value = from_json(content, allow_inf_nan=False)
    require_plain(value, content)
    return value


def require_plain(value: Any, content: bytes) -> None:
    """Proves what `parse_json` promises of a JSON text that was read already, or of the lines of several.

    Raises:
        ValueError: As `parse_json`; also where only reading the lines one by one can tell.
    """
    compact = to_json(value, inf_nan_mode="constants")
    if b"Infinity" in compact or b"NaN" in compact:
        json.dumps(value, allow_nan=False)  # unless a text has the word
    # A second value for one key adds a colon, or an escape hides one: only then is the text read again.
    if b"\\u" in content or content.count(b":") != compact.count(b":"):
        json.loads(content, object_pairs_hook=unique_keys)
    if _LONG_NUMBER in content.translate(_DIGITS_ALIKE):  # many times faster than an expression
        json.loads(content, parse_int=_require_64_bits)


def problems_of(error: ValidationError) -> str:
    """Returns the first problems of a file in one line: field and reason, without the values."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found[:_SHOWN]]
    more = len(found) - _SHOWN
    return "; ".join(shown + ([f"and {more} more"] if more > 0 else []))


def _require_64_bits(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > _LARGEST:
        raise ValueError(f"the integer {digits[:20]}… has more than 64 bits")
    return int(digits)
