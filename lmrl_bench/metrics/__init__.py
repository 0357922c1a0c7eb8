"""Metrics score texts: completions and samples in, numbers out.

Start with `base.Metric`, the interface. `METRICS` lists the registered metrics (plug-ins register
in the entry-point group `lmrl_bench.metrics`) and `make_metric` builds one from its name and
arguments. By module:

- `overlap` (BLEU, chrF, TER), `rouge`, `meteor`, `embedding` (BERTScore), `coverage`: similarity to
  reference texts
- `answers`, `form`: right or wrong answers, regular expressions, JSON
- `diversity`, `perplexity`, `learned`: variety, fluency, classifiers
- `functions`, `plain`, `building`, `arguments`, `foreign`, `values`: metrics from plain functions
- `external`, `as_evaluate`: metrics from and for the library `evaluate`

Importing this package does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmrl_bench.core.errors import ConfigError, nearest
from lmrl_bench.core.registry import Registry
from lmrl_bench.metrics.base import Metric, MetricResult
from lmrl_bench.metrics.building import build_metric
from lmrl_bench.metrics.functions import FunctionMetric, metric

__all__ = ["METRICS", "FunctionMetric", "Metric", "MetricResult", "make_metric", "metric"]

_HERE = "lmrl_bench.metrics"
_PATHS = ("model", "script")

METRICS: Registry[Any] = Registry(
    "metric",
    {
        "accuracy": f"{_HERE}.answers:Accuracy",
        "bertscore-minilm": f"{_HERE}.embedding:BertScore",
        "bleu": f"{_HERE}.overlap:Bleu",
        "chrf": f"{_HERE}.overlap:ChrF",
        "classifier": f"{_HERE}.learned:LearnedClassifier",
        "concept-coverage": f"{_HERE}.coverage:ConceptCoverage",
        "distinct": f"{_HERE}.diversity:Distinct",
        "distinct-1": f"{_HERE}.diversity:Distinct1",
        "distinct-2": f"{_HERE}.diversity:Distinct2",
        "evaluate": f"{_HERE}.external:EvaluateMetric",
        "exact-match": f"{_HERE}.answers:ExactMatch",
        "f1": f"{_HERE}.answers:TokenF1",
        "json-valid": f"{_HERE}.form:JsonValid",
        "length": f"{_HERE}.diversity:Length",
        "meteor-exact-stem": f"{_HERE}.meteor:MeteorExactStem",
        "msttr": f"{_HERE}.diversity:Msttr",
        "numeric-match": f"{_HERE}.answers:NumericMatch",
        "perplexity": f"{_HERE}.perplexity:Perplexity",
        "regex": f"{_HERE}.form:Regex",
        "rouge-1": f"{_HERE}.rouge:Rouge1",
        "rouge-2": f"{_HERE}.rouge:Rouge2",
        "rouge-l": f"{_HERE}.rouge:RougeL",
        "ter": f"{_HERE}.overlap:Ter",
    },
    group=_HERE,
)


def make_metric(
    metric: str | Callable[..., Any],
    args: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    own: Mapping[str, Any] | None = None,
) -> Metric:
    """Builds a metric.

    Args:
        metric: A name from `METRICS` or `own`, or a function
            `(completions, samples) -> list[float]`.
        args: Arguments of the metric's constructor or of the function.
        folder: The task folder; `model` and `script` arguments that exist in it are resolved
            relative to it.
        own: Additional metrics by name, from the task's plug-in.

    Raises:
        ConfigError: Unknown name.
        MetricError: Unknown, missing or wrong argument.
    """
    placed = _placed(args or {}, folder)
    if not isinstance(metric, str):
        return build_metric(getattr(metric, "__name__", "metric"), metric, placed)
    if own and metric in own:
        return build_metric(metric, own[metric], placed)
    if metric not in METRICS and own:
        known = sorted({*METRICS, *own})
        raise ConfigError(
            f"unknown metric '{metric}'{nearest(metric, known)} (known: {', '.join(known)})"
        )
    return build_metric(metric, METRICS.get(metric), placed)


def _placed(args: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    placed = dict(args)
    for key in _PATHS:
        value = placed.get(key)
        if folder is not None and isinstance(value, str | Path) and (folder / value).exists():
            placed[key] = str((folder / value).resolve())
    return placed
