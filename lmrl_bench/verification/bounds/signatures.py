"""Signatures, directions and bounds of metrics and rewards, computed here without any older record. No torch."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from lmrl_bench.metrics import METRICS, make_metric
from lmrl_bench.metrics.base import Metric
from lmrl_bench.records.provenance import collect
from lmrl_bench.rewards import REWARDS
from lmrl_bench.tasks.spec import ComponentSpec
from lmrl_bench.tasks.task import Task

TEXTUAL = tuple(
    f"lmrl_bench.{name}"
    for name in (
        "metrics.answers", "metrics.coverage", "metrics.diversity", "metrics.form",
        "metrics.meteor", "metrics.overlap", "metrics.rouge", "rewards.penalties",
    )
)  # fmt: skip
"""Modules of the metrics and rewards that are functions of the texts alone."""


class Known(NamedTuple):
    """Facts about a metric from its definition.

    Attributes:
        bounds: Smallest and largest value of a whole split.
        higher_is_better: Direction; None where neither is better.
        single: Bounds of the values of single answers.
    """

    bounds: tuple[float, float]
    higher_is_better: bool | None
    single: tuple[float, float]


OF_MODELS: Final = {
    "bertscore-minilm": Known((-1.0, 1.0), True, (-1.0, 1.0)),
    "classifier": Known((0.0, 1.0), True, (0.0, 1.0)),
    "perplexity": Known((1.0, math.inf), False, (0.0, math.inf)),  # single answers: nats per token
}
"""Metrics whose class is not loaded here, since it loads torch."""


def textual(name: str) -> bool:
    """Returns whether a registered metric or reward is a function of the texts alone."""
    return any(registry.module(name) in TEXTUAL for registry in (REWARDS, METRICS))


def known(task: Task, component: ComponentSpec) -> Known | None:
    """Returns bounds and direction of a metric; None for one of a plug-in or a script."""
    if component.name in OF_MODELS:
        return OF_MODELS[component.name]
    metric = _metric(task, component)
    if metric is None:
        return None
    return Known(metric.bounds, metric.higher_is_better, metric.bounds)


def known_signature(task: Task, component: ComponentSpec) -> str | None:
    """Returns the signature that a metric has here; None where it takes a model, a plug-in or a script."""
    metric = _metric(task, component)
    return metric.signature if metric else None


def _metric(task: Task, component: ComponentSpec) -> Metric | None:
    if METRICS.module(component.name) not in TEXTUAL:
        return None
    return _made(component.name, json.dumps(component.args, sort_keys=True), task.folder)


@functools.lru_cache(maxsize=256)
def _made(name: str, arguments: str, folder: Path) -> Metric:
    return make_metric(name, json.loads(arguments), folder)


@functools.cache
def installed_packages() -> dict[str, str]:
    """Returns the versions of the libraries that are installed here."""
    return collect("cpu", 1).packages


def without_versions(signature: str, packages: Mapping[str, str] | None = None) -> str:
    """Returns a signature without the versions of libraries, where they are those of `packages` (default: here)."""
    for name, version in (installed_packages() if packages is None else packages).items():
        installed = rf"\|{re.escape(name)}:{re.escape(version)}(?=[|\]]|$)"
        signature = re.sub(installed, f"|{name}:", signature)
    return signature
