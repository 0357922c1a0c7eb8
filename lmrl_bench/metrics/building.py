"""Builds metrics from registered values: subclasses, factories and plain functions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from lmrl_bench.core.errors import LmrlBenchError, MetricError
from lmrl_bench.core.wording import short_repr
from lmrl_bench.metrics.arguments import construct
from lmrl_bench.metrics.base import Metric
from lmrl_bench.metrics.foreign import border, is_foreign, source_place
from lmrl_bench.metrics.functions import FunctionMetric
from lmrl_bench.metrics.plain import checked_needs, function_needs, is_function, returns


def build_metric(name: str, value: Any, args: Mapping[str, Any]) -> Metric:
    """Builds a metric from its registered value.

    Raises:
        MetricError: The value is not a metric, its arguments are wrong, or its declaration is.
    """
    if reason := wrong_kind("metric", value, Metric):
        raise MetricError(f"metric '{name}' {reason}")
    if is_function(value) and not returns(value, Metric):
        return FunctionMetric(name, value, args)
    made: Metric = construct("metric", name, value, args, MetricError)
    if is_foreign(type(made)):
        check_declared("metric", name, made, Metric, MetricError)
        _check_bounds(name, made)
    return made


def needs_of(value: Any) -> frozenset[str]:
    """Returns the fields of a sample that a registered class or function declares to read.

    A function without a declaration that takes `samples` may read any field; it needs none.
    """
    if is_function(value):
        return function_needs(value)
    found: frozenset[str] = getattr(value, "needs", frozenset())
    return found


def wrong_kind(kind: str, value: Any, base: type) -> str | None:
    """Returns why a value cannot be a metric (or reward), or None if it can."""
    if is_function(value) or (inspect.isclass(value) and issubclass(value, base)):
        return None
    article = f"the class {value.__name__}" if inspect.isclass(value) else short_repr(value)
    hint = f"; give its class, {type(value).__name__}" if isinstance(value, base) else ""
    allowed = f"lmrl_bench.{kind}s.{base.__name__}"
    return (
        f"is {article}; give a function (completions, samples) -> list[float], "
        f"or a subclass of {allowed}{hint}"
    )


def check_declared(
    kind: str, name: str, made: Any, base: type, raised: type[LmrlBenchError]
) -> None:
    """Checks the attributes of an object from foreign code; a missing name is set.

    Raises:
        LmrlBenchError: The object has the wrong type, or an attribute is missing or wrong.
    """
    place = f"{kind} '{name}' ({source_place(made)})"
    if not isinstance(made, base):
        raise raised(f"{place}: returned {short_repr(made)}, expected a {base.__name__}")
    if not isinstance(getattr(made, "name", None), str):
        made.name = name  # type: ignore[attr-defined]
    with border(f"while the signature of {kind} '{name}' was read", made, raised):
        signature = made.signature  # type: ignore[attr-defined]
    if not isinstance(signature, str) or "\n" in signature or not signature:
        raise raised(
            f"{place}: signature is {short_repr(signature)}; give one line of text that names "
            "every setting that affects the value"
        )
    try:
        checked_needs(made.needs, raised)  # type: ignore[attr-defined]
    except LmrlBenchError as error:
        raise raised(f"{place}: {error}") from None


def _check_bounds(name: str, made: Metric) -> None:
    place = f"metric '{name}' ({source_place(made)})"
    bounds = getattr(made, "bounds", None)
    try:
        low, high = map(float, bounds)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise MetricError(
            f"{place}: bounds is {short_repr(bounds)}; give the smallest and the largest value, "
            "such as (0.0, 1.0)"
        )
    if made.higher_is_better not in (True, False, None):
        raise MetricError(
            f"{place}: higher_is_better is {made.higher_is_better!r} (allowed: True, False, None)"
        )
