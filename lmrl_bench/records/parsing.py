"""Reads JSON from untrusted sources: unique keys, and only numbers that a file can represent."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from lmrl_bench.core.strict_json import unique_keys

_LARGEST: Final = 2**63 - 1
# Maps all digits to 0, so that long numbers are found by a plain substring search.
_DIGITS_ALIKE: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER: Final = b"0" * 19
_SHOWN: Final = 5


def parse_json(content: bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: Not JSON, not UTF-8, nested too deeply, a repeated key, or a number that is not
            finite or is an integer of more than 64 bits.
    """
    value = from_json(content, allow_inf_nan=False)
    require_plain(value, content)
    return value


def require_plain(value: Any, content: bytes) -> None:
    """Checks the guarantees of `parse_json` for JSON that is already parsed (one or more lines).

    Raises:
        ValueError: As for `parse_json`; also if only parsing line by line could tell.
    """
    compact = to_json(value, inf_nan_mode="constants")
    if b"Infinity" in compact or b"NaN" in compact:
        json.dumps(value, allow_nan=False)  # slow, but exact: a text may contain the word
    # A repeated key adds a colon, or is hidden by an escape: only then is the text parsed again.
    if b"\\u" in content or content.count(b":") != compact.count(b":"):
        json.loads(content, object_pairs_hook=unique_keys)
    if _LONG_NUMBER in content.translate(_DIGITS_ALIKE):  # many times faster than a regex
        json.loads(content, parse_int=_require_64_bits)


def problems_of(error: ValidationError) -> str:
    """Returns the first problems of a file in one line: fields and reasons, without values."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found[:_SHOWN]]
    more = len(found) - _SHOWN
    return "; ".join(shown + ([f"and {more} more"] if more > 0 else []))


def _require_64_bits(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > _LARGEST:
        raise ValueError(f"the integer {digits[:20]}… has more than 64 bits")
    return int(digits)
