"""Wraps a plain function as a metric: its values and their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import FloatArray, Metric, MetricResult, check_batch
from lmrl_bench.metrics.plain import (
    Declared,
    F,
    PlainFunction,
    checked_needs,
    declaration,
    declare,
)

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

_ROUNDING = 1e-6  # floating-point error beyond the bounds that is not a mistake


def metric(
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    higher_is_better: bool | None = True,
    needs: Iterable[str] = (),
) -> Callable[[F], F]:
    """Declares bounds, direction and inputs of a metric function.

    Args:
        bounds: Smallest and largest possible value. With finite bounds the metric can be a reward
            without `scale`. Values outside are an error.
        higher_is_better: Direction; None if neither direction is better.
        needs: Fields of a sample that the function reads: "prompt", "references", "meta".

    Raises:
        MetricError: The bounds are not in increasing order, or `needs` names an unknown field.
    """
    low, high = bounds
    if not low < high:
        raise MetricError(
            f"@metric: bounds are {bounds}; the first number must be below the second"
        )
    declared = Declared((low, high), higher_is_better, checked_needs(needs, MetricError))
    return lambda function: declare(function, declared)


class FunctionMetric(Metric):
    """Uses the values of a plain function as a metric; the corpus value is their mean.

    Args:
        name: Name in task.yaml.
        function: `(completions, samples) -> list[float]`; see `lmrl_bench.metrics.plain`.
        args: Additional arguments of the function.

    Raises:
        MetricError: Unknown or wrong arguments.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], args: Mapping[str, Any] | None = None
    ) -> None:
        declared = declaration(function)
        self.name = name
        self.bounds = declared.bounds or (-math.inf, math.inf)
        self.higher_is_better = declared.higher_is_better
        self._function = PlainFunction("metric", name, function, args or {}, MetricError)
        self.needs = self._function.needs

    @property
    def signature(self) -> str:
        """Name, function, digest of the function's file, and arguments."""
        return f"{self.name}|{self._function.signature}"

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions; the corpus value is the mean.

        Raises:
            MetricError: Lengths differ, `B` is 0, or the function raises or does not return one
                finite number within the bounds per completion.
        """
        check_batch(self.name, completions, samples)
        values = self._function(completions, samples)
        self._check(values, samples)
        return MetricResult(float(values.mean()), values)

    def _check(self, values: FloatArray, samples: Sequence[Sample]) -> None:
        low, high = self.bounds
        outside = ~np.isfinite(values) | (values < low - _ROUNDING) | (values > high + _ROUNDING)
        for row in np.flatnonzero(outside)[:1]:
            raise MetricError(
                f"{self._function.where}: returned {values[row]:g} for sample '{samples[row].id}'; "
                f"its values must be finite and within its bounds {low:g} to {high:g}"
            )
