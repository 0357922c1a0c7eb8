"""Checks what foreign code returns: per completion one number, and one fact of each name."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.core.strict_json import Fact
from lmrl_bench.core.wording import short_repr
from lmrl_bench.metrics.base import FloatArray, Info

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


def per_completion(
    returned: Any, samples: Sequence[Sample], where: str, raised: type[LmrlBenchError]
) -> FloatArray:
    """Returns `(B,)` numbers, which may still be NaN or infinite.

    Accepts lists, tuples, iterators, NumPy arrays and tensors of numbers or booleans. Rejects None,
    which other libraries read as "not scored": every completion needs a number.

    Args:
        returned: The function's return value.
        samples: The `B` samples.
        where: Kind, name, file and line of the function, for messages.
        raised: Exception type for invalid values.
    """
    values = _listed(returned, len(samples), where, raised)
    if len(values) != len(samples):
        first = f", the first for sample '{samples[0].id}'" if samples else ""
        raise raised(
            f"{where}: returned {len(values)} values for {len(samples)} completions{first}; "
            "return one number for each"
        )
    rows = np.empty(len(values), dtype=np.float64)
    for row, (value, sample) in enumerate(zip(values, samples, strict=True)):
        number = as_number(value)
        if number is None:
            hint = "; use 0.0 for a completion that earns nothing" if value is None else ""
            raise raised(
                f"{where}: returned {short_repr(value)} for sample '{sample.id}'; "
                f"return one number for each completion{hint}"
            )
        rows[row] = number
    return rows


def _listed(returned: Any, count: int, where: str, raised: type[LmrlBenchError]) -> Sequence[Any]:
    values = returned
    if hasattr(values, "detach"):  # a tensor on any device
        values = values.detach().cpu().tolist()
    elif isinstance(values, np.ndarray):
        values = values.tolist()
    if _is_coroutine(values):
        raise raised(f"{where}: is an async function; give a plain function")
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(
        values, Iterable
    ):
        raise raised(
            f"{where}: returned {short_repr(returned)}; return a list with one number for each of "
            f"the {count} completions"
        )
    return list(values)


LONGEST_FACT: Final = 1000
"""Characters of a text in `info`; a longer one is cut and ends in an ellipsis."""

MOST_FACTS: Final = 32
"""Names in one `info`."""

_FACT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def checked_info(
    info: Any, samples: Sequence[Sample], where: str, raised: type[LmrlBenchError]
) -> Info:
    """Returns `info` as plain Python values, `B` for each name.

    Texts are cut to `LONGEST_FACT` characters; half of a surrogate pair and NUL, which no file can
    hold, are written as escapes.

    Args:
        info: What a metric or reward says of its completions.
        samples: The `B` samples.
        where: Kind and name of the metric or reward, for messages.
        raised: The error for everything else.

    Raises:
        LmrlBenchError: Not a mapping from names to `B` texts, finite numbers, booleans or None.
    """
    if not isinstance(info, Mapping):
        raise raised(
            f"{where}: info is {short_repr(info)}; give a mapping from a name to one fact for each "
            "completion"
        )
    if len(info) > MOST_FACTS:
        raise raised(f"{where}: info has {len(info)} names; give at most {MOST_FACTS}")
    checked: dict[str, tuple[Fact, ...]] = {}
    for name, facts in info.items():
        if not isinstance(name, str) or not _FACT_NAME.fullmatch(name):
            raise raised(
                f"{where}: info has the name {short_repr(name)}; a name is at most 64 letters, "
                "digits, hyphens, underscores and periods"
            )
        if isinstance(facts, np.ndarray):
            facts = facts.tolist()
        if isinstance(facts, str | bytes | Mapping) or not isinstance(facts, Iterable):
            raise raised(f"{where}: info['{name}'] is {short_repr(facts)}; give a list")
        listed = list(facts)
        if len(listed) != len(samples):
            raise raised(
                f"{where}: info['{name}'] has {len(listed)} values for {len(samples)} completions; "
                "give one for each (None where there is nothing to say)"
            )
        checked[name] = tuple(
            _fact(value, f"{where}: info['{name}']", sample, raised)
            for value, sample in zip(listed, samples, strict=True)
        )
    return checked


def _fact(value: Any, where: str, sample: Sample, raised: type[LmrlBenchError]) -> Fact:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        shown = value if len(value) <= LONGEST_FACT else f"{value[: LONGEST_FACT - 1]}…"
        return shown.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise raised(
        f"{where} is {short_repr(value)} for sample '{sample.id}'; give a text, a finite number, "
        "true, false or None"
    )


def _is_coroutine(value: Any) -> bool:
    """Returns whether a value is a coroutine, and closes it to avoid Python's warning."""
    if not hasattr(value, "__await__"):
        return False
    if hasattr(value, "close"):
        value.close()
    return True


def as_number(value: Any) -> float | None:
    """Returns the value as a number, or None if it is not a number."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.numel() != 1 or value.is_complex():
            return None
        return float(value)
    if isinstance(value, np.generic | np.ndarray):
        value = value.item() if value.size == 1 else None
    if isinstance(value, numbers.Real | Decimal):
        try:
            return float(value)
        except OverflowError:
            return math.inf  # too large for a float; rejected later, like any infinite value
    return None
