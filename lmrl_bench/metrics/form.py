"""Metrics for the form of a completion: regular expressions and valid JSON, without references."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import regex

from lmrl_bench.core.digests import canonical_json
from lmrl_bench.core.errors import MetricError
from lmrl_bench.core.strict_json import unique_keys
from lmrl_bench.metrics.base import Metric, MetricResult, check_batch

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

Type = Literal["any", "object", "array", "string", "number", "integer", "boolean", "null"]
DEPTH: Final = 500
"""Deepest JSON nesting that is read; Python's own limit depends on the caller's stack."""
SECONDS: Final = 5.0
"""Time limit for matching one completion against a pattern."""
COUNTS: Final = 1_000_000
"""Largest product of a pattern's minimum repeat counts: compilation copies repeated groups."""


class _Form(Metric):
    """1 if a completion has the required form, else 0; mean over completions."""

    bounds = (0.0, 1.0)
    needs: frozenset[str] = frozenset()

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions.

        Raises:
            MetricError: Lengths differ, `B` is 0, or matching takes too long.
        """
        check_batch(self.name, completions, samples)
        rows = np.array(
            [
                self._has_form(text, sample)
                for text, sample in zip(completions, samples, strict=True)
            ],
            dtype=np.float64,
        )
        return MetricResult(float(rows.mean()), rows)

    @abstractmethod
    def _has_form(self, completion: str, sample: Sample) -> bool:
        """Returns whether a completion has the required form."""


class Regex(_Form):
    """1 if a regular expression matches the completion, else 0; mean over completions.

    A pattern that takes more than five seconds on one completion stops the run with an error:
    counting it as a mismatch would make scores depend on the machine.

    Args:
        pattern: A regular expression for the package `regex`, a superset of Python's `re`; checked
            when the task is loaded.
        match: "search" (anywhere in the completion) or "full" (the whole completion, with the white
            space at its ends).
        ignore_case: Ignore upper and lower case.
    """

    name = "regex"

    def __init__(
        self, pattern: str, match: Literal["search", "full"] = "search", ignore_case: bool = False
    ) -> None:
        self._pattern = _compiled(pattern, ignore_case=ignore_case)
        self._match = match
        self._ignore_case = ignore_case

    @property
    def signature(self) -> str:
        """Pattern, options and library."""
        pattern = canonical_json(self._pattern.pattern).replace("/", "\\u002f")
        return (
            f"regex|pattern:{pattern}|match:{self._match}"
            f"|case:{'lc' if self._ignore_case else 'mixed'}|regex:{version('regex')}"
        )

    def _has_form(self, completion: str, sample: Sample) -> bool:
        find = self._pattern.search if self._match == "search" else self._pattern.fullmatch
        try:
            return find(completion, timeout=SECONDS) is not None
        except TimeoutError:
            raise MetricError(
                f"metric 'regex': the pattern {self._pattern.pattern!r} takes more than "
                f"{SECONDS:g} s on the completion for sample '{sample.id}' ({completion[:40]!r}); "
                "rewrite it without nested repetitions"
            ) from None
        except MemoryError:
            raise MetricError(
                f"metric 'regex': the pattern {self._pattern.pattern!r:.200} runs out of memory on "
                f"the completion for sample  '{sample.id}' ({completion[:40]!r}); rewrite it"
            ) from None


def _compiled(pattern: str, *, ignore_case: bool) -> Any:
    """Compiles a pattern, and checks that compilation and matching terminate.

    Raises:
        MetricError: Invalid pattern, too many repetitions, or a recursion that consumes nothing.
    """
    place = f"metric 'regex': pattern {pattern!r:.200}"
    counts = [int(digits) if len(digits) < 9 else COUNTS + 1 for digits in _COUNT.findall(pattern)]
    if math.prod(count for count in counts if count) > COUNTS:
        raise MetricError(
            f"{place}: its counts ({{n}}) multiply to more than {COUNTS:,}, which may exhaust "
            "memory; use smaller counts, or * and +"
        )
    try:
        flags = regex.VERSION0 | (regex.IGNORECASE if ignore_case else 0)
        compiled = regex.compile(pattern, flags)
        # A pattern that recurses before it consumes a character hangs on any input.
        if _RECURSION.search(pattern):
            compiled.search("", timeout=0.1)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise MetricError(f"{place}: {error}") from None
    except (TimeoutError, MemoryError):
        raise MetricError(
            f"{place}: it recurses before it reads a character and would never finish"
        ) from None
    return compiled


class JsonValid(_Form):
    """1 if the completion is valid JSON of the required type, else 0; mean over completions.

    Valid means RFC 8259: no NaN or Infinity, and only white space around the value. Duplicate keys
    and nesting deeper than 500 levels count as invalid. Numbers may have any size.

    Args:
        root: Type of the whole value.
        keys: Keys that the object must have: a list, or a mapping from each key to its value's
            type.
        only: Reject keys other than `keys`.
    """

    name = "json-valid"

    def __init__(
        self,
        root: Type = "any",
        keys: list[str] | dict[str, Type] | None = None,
        only: bool = False,
    ) -> None:
        if keys and root not in ("any", "object"):
            raise MetricError(f"metric 'json-valid': keys require an object, but root is '{root}'")
        if only and not keys:
            raise MetricError("metric 'json-valid': only is true, but no keys are given")
        self._root: Type = "object" if keys else root
        wanted: Mapping[str, Type] = (
            keys if isinstance(keys, dict) else dict.fromkeys(keys or [], "any")
        )
        self._keys, self._only = dict(wanted), only

    @property
    def signature(self) -> str:
        """Root type, keys and their types."""
        keys = canonical_json(self._keys).replace("/", "\\u002f")
        return f"json-valid|root:{self._root}|keys:{keys}|only:{'yes' if self._only else 'no'}"

    def _has_form(self, completion: str, sample: Sample) -> bool:  # noqa: ARG002 - of the base
        if _depth(completion) > DEPTH:
            return False
        try:
            value = _DECODER.decode(completion)
        except ValueError:
            return False
        return _is_type(value, self._root) and self._has_keys(value)

    def _has_keys(self, value: Any) -> bool:
        if not self._keys:
            return True
        if self._only and set(value) - set(self._keys):
            return False
        return all(key in value and _is_type(value[key], kind) for key, kind in self._keys.items())


class _Integer(str):
    """An integer literal: Python refuses to convert more than 4,300 digits."""

    __slots__ = ()


class _Fraction(str):
    """A number literal with a decimal point or an exponent."""

    __slots__ = ()


def _depth(text: str) -> int:
    """Returns the deepest nesting of brackets outside strings."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


_COUNT: Final = re.compile(r"\{\s*(\d+)")
_RECURSION: Final = re.compile(r"\(\?(?:R|\d|&|P>)")
_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(r"[\[\]{}]")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=unique_keys,
    parse_int=_Integer,
    parse_float=_Fraction,
    parse_constant=_no_constant,
)


def _is_type(value: Any, kind: Type) -> bool:
    if kind == "string":
        return isinstance(value, str) and not isinstance(value, _Integer | _Fraction)
    types: dict[Type, Any] = {
        "any": object,
        "object": dict,
        "array": list,
        "number": (_Integer, _Fraction),
        "integer": _Integer,
        "boolean": bool,
        "null": type(None),
    }
    return isinstance(value, types[kind])
