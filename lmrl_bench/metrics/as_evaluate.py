"""Wraps a metric of this package as an `evaluate.Metric`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evaluate
from datasets import Features, Value
from datasets import Sequence as SequenceFeature

from lmrl_bench.core.errors import MetricError
from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics.base import Metric


def to_evaluate(metric: Metric) -> evaluate.Metric:
    """Wraps a metric as an `evaluate.Metric`, used as `compute(predictions=…, references=…)`.

    `references` holds texts or lists of texts. The columns `references` and `prompts` exist only if
    the metric reads them. The result contains the corpus value under the metric's name, its details
    and, where the metric has one, `per_sample`.

    Raises:
        MetricError: The metric reads the `meta` field of samples.
    """
    if "meta" in metric.needs:
        raise MetricError(
            f"metric '{metric.name}' reads the meta field of samples; `evaluate` has no such column"
        )
    return _AsEvaluate(metric)


class _AsEvaluate(evaluate.Metric):  # type: ignore[misc]
    """Adapts a metric to the interface of `evaluate`."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        super().__init__(config_name=metric.name, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = [_features(self._metric, several=several) for several in (True, False)]
        return evaluate.MetricInfo(
            description=(type(self._metric).__doc__ or "").strip(),
            citation="",
            inputs_description=f"Columns: {', '.join(features[0])}. {self._metric.signature}",
            features=features if "references" in self._metric.needs else features[:1],
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[Any] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        samples = [
            Sample(
                id=str(row),
                prompt="" if prompts is None else prompts[row],
                references=() if references is None else _as_tuple(references[row]),
            )
            for row in range(len(predictions))
        ]
        result = self._metric.score(list(predictions), samples)
        output: dict[str, Any] = {self._metric.name: result.value, **(result.details or {})}
        if result.per_sample is not None:
            output["per_sample"] = result.per_sample.tolist()
        return output


def _features(metric: Metric, *, several: bool) -> Features:
    text = Value("string")
    columns: dict[str, Any] = {"predictions": text}
    if "references" in metric.needs:
        columns["references"] = SequenceFeature(text) if several else text
    if "prompt" in metric.needs:
        columns["prompts"] = text
    return Features(columns)


def _as_tuple(references: str | Sequence[str]) -> tuple[str, ...]:
    return (references,) if isinstance(references, str) else tuple(references)
