"""The contract of a metric: texts in, numbers out; nothing here knows of policies or tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lmrl_bench.core.strict_json import Fact

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

FloatArray = NDArray[np.float64]

Info = Mapping[str, Sequence[Fact]]
"""Name to one fact for each of the `B` responses; None where there is nothing to say."""


@dataclass(frozen=True)
class MetricResult:
    """What a metric says of `B` responses.

    Attributes:
        value: the corpus value, in the metric's own scale.
        per_sample: `(B,)`, or None where the metric only exists for a corpus. Its mean need not
            equal `value`.
        details: further corpus values by name (precision, brevity penalty, …).
        info: facts about each response, stored with it in samples.parquet.
    """

    value: float
    per_sample: FloatArray | None = None
    details: dict[str, float] | None = None
    info: Info = field(default_factory=dict)


class Metric(ABC):
    """Scores responses against samples.

    Attributes:
        name: as in the registry ("rouge-l"); the key in records and boards.
        bounds: smallest and largest possible value (may be infinite).
        higher_is_better: direction; None where neither direction is better (`length`). Such a
            metric describes answers and cannot rank them.
        needs: what it reads of a sample: "prompt", "references", "meta"; a task whose metrics and
            rewards do not need references may have rows without any.
        corpus_only: whether it has no value of a single response, so that it cannot be a reward.
        signature: everything that can move a value (library, version, options), like sacrebleu's;
            stands in the record.
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
    def score(self, responses: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` responses against their `B` samples.

        Raises:
            MetricError: Lengths differ, or a sample lacks what the metric needs.
        """

    def prepare(self, samples: Sequence[Sample]) -> None:  # noqa: B027 - optional hook
        """Called once with all samples of a split before scoring, to cache the reference side."""

    def as_evaluate(self) -> Any:
        """Returns this metric as an `evaluate.Metric` with the columns that it needs."""
        from lmrl_bench.metrics.as_evaluate import to_evaluate

        return to_evaluate(self)
