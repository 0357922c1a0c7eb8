"""Interface of metrics and their input checks: texts in, numbers out, independent of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmrl_bench.core.errors import MetricError
from lmrl_bench.core.strict_json import Fact

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

FloatArray = NDArray[np.float64]

Info = Mapping[str, Sequence[Fact]]
"""Name to one fact for each of the `B` completions; None where there is nothing to say."""


@dataclass(frozen=True)
class MetricResult:
    """Values of a metric for `B` completions.

    Attributes:
        value: Corpus value, on the metric's own scale.
        per_sample: `(B,)`, or None if the metric exists only for a corpus. Its mean may differ from
            `value`.
        details: Additional corpus values by name (precision, brevity penalty, …).
        info: Facts about each completion, stored with it in samples.parquet.
    """

    value: float
    per_sample: FloatArray | None = None
    details: dict[str, float] | None = None
    info: Info = field(default_factory=dict)


class Metric(ABC):
    """Scores completions against samples.

    Attributes:
        name: Registered name ("rouge-l"); the key in records and leaderboards.
        bounds: Smallest and largest possible value (may be infinite).
        higher_is_better: Direction, or None if neither direction is better (`length`). Such a
            metric describes completions and cannot rank them.
        needs: Fields of a sample that it reads: "prompt", "references", "meta". If no metric or
            reward of a task needs references, its samples may lack them.
        corpus_only: The metric has no value for a single completion, so it cannot be a reward.
        signature: Everything that affects the value (library, version, options), in the style of
            sacrebleu; stored in records.
    """

    name: str
    bounds: tuple[float, float]
    higher_is_better: bool | None = True
    needs: frozenset[str] = frozenset({"references"})
    corpus_only: bool = False

    @property
    @abstractmethod
    def signature(self) -> str:
        """Library, version and options, in one line."""

    @abstractmethod
    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions against their `B` samples.

        Raises:
            MetricError: Lengths differ, or a sample lacks a field that the metric needs.
        """

    def prepare(self, samples: Sequence[Sample]) -> None:  # noqa: B027 - optional hook
        """Called once with all samples of a split before scoring, to cache reference statistics."""

    def as_evaluate(self) -> Any:
        """Returns this metric as an `evaluate.Metric` with the columns it needs."""
        from lmrl_bench.metrics.as_evaluate import to_evaluate

        return to_evaluate(self)


def check_batch(name: str, completions: Sequence[str], samples: Sequence[Sample]) -> None:
    """Rejects batches that cannot be scored.

    Raises:
        MetricError: The lengths differ, or there is nothing to score.
    """
    if len(completions) != len(samples):
        raise MetricError(
            f"metric '{name}': {len(completions)} completions for {len(samples)} samples; "
            "give one completion for each"
        )
    if not completions:
        raise MetricError(f"metric '{name}': no completions to score")


def check_references(name: str, samples: Sequence[Sample]) -> None:
    """Rejects samples without a usable reference.

    Raises:
        MetricError: A sample has no reference, or an empty one.
    """
    references = [sample.references for sample in samples]
    # The fast check covers the usual case: rewards score every batch of every rollout.
    if all(references) and all(map(str.strip, chain.from_iterable(references))):
        return
    for sample in samples:
        if not sample.references or not all(text.strip() for text in sample.references):
            raise MetricError(
                f"metric '{name}': sample '{sample.id}' has no reference or an empty one; "
                "fix or remove its row in the task's data"
            )
