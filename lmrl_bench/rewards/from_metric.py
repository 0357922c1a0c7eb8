"""Uses any metric as a reward: its value per completion, mapped to [0, 1] with higher better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from lmrl_bench.core.errors import RewardError
from lmrl_bench.metrics.base import FloatArray, Metric
from lmrl_bench.metrics.scoring import score
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput, check_finite

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

Scale = bool | tuple[float, float]

USUAL_RANGES: Final[dict[str, tuple[float, float]]] = {
    "bertscore-minilm": (0.0, 1.0),  # cosines of real encoders are positive
    # 100 edits per 100 words is as bad as an empty completion; worse must not cost more.
    "ter": (0.0, 100.0),
}
"""Ranges for metrics whose bounds are infinite or not reached in practice."""


class MetricReward(RewardFunction):
    """Scaled per-sample value of a metric.

    With `scale: true` the metric's range is mapped linearly to [0, 1], clipped, and reversed if
    lower is better: BLEU and chrF become `x / 100`, TER becomes `max(0, 1 - x / 100)`. The range is
    the metric's bounds or `USUAL_RANGES`; metrics without finite bounds need an explicit range. A
    metric without a direction (`length`) is not reversed: as a reward, more is better. The
    per-sample value of `perplexity` is in nats per token.

    Args:
        metric: A metric with per-sample values.
        scale: True, false (the raw value, negated if lower is better), or the range `(low, high)`.

    Raises:
        RewardError: The metric exists only for a corpus, has no finite range and none is given, or
            the range is empty.
    """

    def __init__(self, metric: Metric, scale: Scale = True) -> None:
        if metric.corpus_only:
            raise RewardError(_corpus_only(metric.name))
        self.metric = metric
        self.name = metric.name
        self.needs = metric.needs
        self._range = _range(metric, scale)

    @property
    def signature(self) -> str:
        """Signature of the metric, range and direction."""
        scale = "no" if self._range is None else f"{self._range[0]:g}..{self._range[1]:g}"
        sign = "-" if self.metric.higher_is_better is False else "+"
        return f"{self.metric.signature}|scale:{scale}|sign:{sign}"

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Passes the samples to the metric."""
        self.metric.prepare(samples)

    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Scores `B` episodes.

        Raises:
            RewardError: A value is not finite, or the metric exists only for a corpus.
        """
        if not len(batch):
            return RewardOutput(np.zeros(0))
        result = score(self.metric, batch.completions, batch.samples, finite=False)
        values = result.per_sample
        if values is None:
            raise RewardError(_corpus_only(self.name))
        if self._range is not None:
            # Scaling would clip an infinite value to a harmless one.
            check_finite(self.name, values, batch)
        return RewardOutput(self._scaled(values), info=result.info)

    def _scaled(self, values: FloatArray) -> FloatArray:
        if self._range is None:
            return -values if self.metric.higher_is_better is False else values
        low, high = self._range
        # Clipped, because usual ranges are not bounds: a TER above 100 earns 0, not less.
        scaled = np.clip((values - low) / (high - low), 0.0, 1.0)
        return 1.0 - scaled if self.metric.higher_is_better is False else scaled


def _corpus_only(name: str) -> str:
    return (
        f"metric '{name}' exists only for a corpus and cannot be a reward; "
        "choose one with per-sample values"
    )


def _range(metric: Metric, scale: Scale) -> tuple[float, float] | None:
    if scale is False:
        return None
    low, high = USUAL_RANGES.get(metric.name, metric.bounds) if scale is True else scale
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RewardError(
            f"reward '{metric.name}': the metric has no finite bounds ({low:g} to {high:g}); "
            "give a range as `scale: [low, high]`, or `scale: false` for the raw value"
        )
    if low >= high:
        raise RewardError(
            f"reward '{metric.name}': scale is [{low:g}, {high:g}]; "
            "the first number must be smaller than the second"
        )
    return low, high
