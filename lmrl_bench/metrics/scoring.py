"""Calls any metric: errors of foreign metrics become one message, and their results are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import FloatArray, Metric, MetricResult
from lmrl_bench.metrics.foreign import is_foreign, scoring_border, source_place
from lmrl_bench.metrics.values import checked_info, per_completion

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


def score(
    metric: Metric, completions: Sequence[str], samples: Sequence[Sample], *, finite: bool = True
) -> MetricResult:
    """Scores `B` completions with any metric.

    Args:
        metric: The metric.
        completions: The completions.
        samples: Their samples.
        finite: Reject NaN and infinite values, which a mean would hide or spread.

    Raises:
        MetricError: The metric rejects the batch, raises, or does not return a `MetricResult` with
            `B` values per sample (or None).
    """
    if is_foreign(type(metric)):
        result = _checked(metric, _foreign(metric, completions, samples), samples)
    else:
        result = metric.score(completions, samples)
    if finite:
        _require_finite(metric, result, samples)
    return result


def _foreign(metric: Metric, completions: Sequence[str], samples: Sequence[Sample]) -> Any:
    def again(rows: Sequence[int]) -> object:
        return metric.score([completions[row] for row in rows], [samples[row] for row in rows])

    with scoring_border(f"metric '{metric.name}'", metric, MetricError, samples, again):
        return metric.score(completions, samples)


def _checked(metric: Metric, result: Any, samples: Sequence[Sample]) -> MetricResult:
    where = f"metric '{metric.name}' ({source_place(metric)})"
    if not isinstance(result, MetricResult):
        raise MetricError(
            f"{where}: score() returned {type(result).__name__}; "
            "return MetricResult(value, per_sample)"
        )
    values = None
    if result.per_sample is not None:
        values = per_completion(result.per_sample, samples, where, MetricError)
    try:
        value = float(result.value)
    except (TypeError, ValueError):
        raise MetricError(f"{where}: value is {result.value!r}, expected a number") from None
    info = checked_info(result.info, samples, where, MetricError)
    return MetricResult(value, values, result.details, info)


def _require_finite(metric: Metric, result: MetricResult, samples: Sequence[Sample]) -> None:
    rows: FloatArray = np.zeros(0) if result.per_sample is None else result.per_sample
    bad = np.flatnonzero(~np.isfinite(rows))
    if len(bad):
        raise MetricError(
            f"metric '{metric.name}' is {rows[bad[0]]} for sample '{samples[bad[0]].id}' "
            f"({len(bad)} of {len(rows)} rows); its values must be finite numbers"
        )
    if not np.isfinite(result.value):
        raise MetricError(
            f"metric '{metric.name}' is {result.value} on {len(samples)} completions; "
            "it must be a finite number"
        )
