"""The values that a plain function returns, checked: one finite number for each response."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from lmrl_bench.core.errors import LmrlBenchError
from lmrl_bench.core.wording import short_repr
from lmrl_bench.metrics.base import FloatArray

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


def per_response(
    returned: Any, samples: Sequence[Sample], where: str, raised: type[LmrlBenchError]
) -> FloatArray:
    """Returns `(B,)` numbers; they may still be NaN or infinite.

    Lists, tuples, iterators, NumPy arrays and tensors of numbers or booleans are taken. None, which
    other libraries read as "not scored", is refused: every response needs a number.

    Args:
        returned: What the function returned.
        samples: The `B` samples.
        where: Kind, name, file and line of the function, for messages.
        raised: The error for everything else.
    """
    values = _listed(returned, len(samples), where, raised)
    if len(values) != len(samples):
        first = f", the first of which is '{samples[0].id}'" if samples else ""
        raise raised(
            f"{where}: returned {len(values)} values for {len(samples)} responses{first}; "
            "return one number for each"
        )
    rows = np.empty(len(values), dtype=np.float64)
    for row, (value, sample) in enumerate(zip(values, samples, strict=True)):
        number = as_number(value)
        if number is None:
            hint = "; give a response that earns nothing 0.0" if value is None else ""
            raise raised(
                f"{where}: returned {short_repr(value)} for sample '{sample.id}'; "
                f"return one number for each response{hint}"
            )
        rows[row] = number
    return rows


def _listed(returned: Any, count: int, where: str, raised: type[LmrlBenchError]) -> Sequence[Any]:
    values = returned
    if hasattr(values, "detach"):  # a tensor, of whatever device
        values = values.detach().cpu().tolist()
    elif isinstance(values, np.ndarray):
        values = values.tolist()
    if _is_coroutine(values):
        raise raised(f"{where}: is an async function; give a plain one")
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(
        values, Iterable
    ):
        raise raised(
            f"{where}: returned {short_repr(returned)}; return a list with one number for each of the "
            f"{count} responses"
        )
    return list(values)


def _is_coroutine(value: Any) -> bool:
    """Whether a value is a coroutine; it is closed, so that Python does not warn."""
    if not hasattr(value, "__await__"):
        return False
    if hasattr(value, "close"):
        value.close()
    return True


def as_number(value: Any) -> float | None:
    """The value as a number, or None if it is none."""
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
            return math.inf  # refused either way
    return None
