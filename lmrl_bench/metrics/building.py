"""From what a registry or a plug-in holds to a metric: subclasses, factories and plain functions."""

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
    """Makes a metric of what its name stands for.

    Raises:
        MetricError: It is none, its arguments are wrong, or what it declares is.
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
    """Returns what a registered class or function reads of a sample, as far as it says so.

    A function that says nothing and takes `samples` may read what it likes, so needs nothing.
    """
    if is_function(value):
        return function_needs(value)
    found: frozenset[str] = getattr(value, "needs", frozenset())
    return found


def wrong_kind(kind: str, value: Any, base: type) -> str | None:
    """Returns why a value is not a metric (or reward), or None if it may be one."""
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
    """Checks the attributes of an object of foreign code; a missing name is the registered one.

    Raises:
        LmrlBenchError: The object is of another kind, or an attribute is missing or wrong.
    """
    place = f"{kind} '{name}' ({source_place(made)})"
    if not isinstance(made, base):
        raise raised(f"{place}: is made as {short_repr(made)}, expected a {base.__name__}")
    if not isinstance(getattr(made, "name", None), str):
        made.name = name  # type: ignore[attr-defined]
    with border(f"while the signature of {kind} '{name}' was read", made, raised):
        signature = made.signature  # type: ignore[attr-defined]
    if not isinstance(signature, str) or "\n" in signature or not signature:
        raise raised(
            f"{place}: signature is {short_repr(signature)}; give one line of text with everything "
            "that can move a value"
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
        raise MetricError(f"{place}: higher_is_better is {made.higher_is_better!r}")
