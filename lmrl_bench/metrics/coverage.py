"""Concept coverage: the share of required words that a completion uses.

As reported for concept-to-text generation (Lin et al. 2020, CommonGen), but on Porter stems instead
of a tagger's lemmas: "streaked" covers "streak", while irregular forms do not cover their lemma
("sank", "sink"), so even a reference can score below 1. A bare list of the words scores 1: coverage
checks a constraint; it does not measure quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult, check_batch
from lmrl_bench.metrics.diversity import words
from lmrl_bench.metrics.stemming import STEMMER_SIGNATURE, MemoizedStemmer

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


class ConceptCoverage(Metric):
    """Share of a sample's concepts whose Porter stem occurs in the completion; mean over samples.

    Args:
        field: Field of the sample's `meta` with the concepts: a non-empty list of single words.
    """

    name = "concept-coverage"
    needs: frozenset[str] = frozenset({"meta"})
    bounds = (0.0, 1.0)

    def __init__(self, field: str = "concepts") -> None:
        self._field = field

    @property
    def signature(self) -> str:
        """The field, the rule for words and the stemmer."""
        return (
            f"concept-coverage|field:{self._field}|words:\\w+|case:lc|stemmer:{STEMMER_SIGNATURE}"
        )

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions.

        Raises:
            MetricError: Lengths differ, `B` is 0, or the field is not a list of single words.
        """
        check_batch(self.name, completions, samples)
        rows = np.array(
            [
                self._share(completion, self._concepts(sample))
                for completion, sample in zip(completions, samples, strict=True)
            ],
            dtype=np.float64,
        )
        return MetricResult(float(rows.mean()), rows)

    def _concepts(self, sample: Sample) -> Sequence[str]:
        concepts = sample.meta.get(self._field)
        if (
            not isinstance(concepts, Sequence)
            or isinstance(concepts, str)
            or not concepts
            or not all(isinstance(concept, str) for concept in concepts)
            or any(words(concept) != [concept.lower()] for concept in concepts)
        ):
            raise MetricError(
                f"metric '{self.name}': meta '{self._field}' of sample '{sample.id}' is not a list "
                f"of single words ({concepts!r}); list the column in data.meta of task.yaml"
            )
        return concepts

    @staticmethod
    def _share(completion: str, concepts: Sequence[str]) -> float:
        stems = {MemoizedStemmer.stem(word) for word in words(completion)}
        return float(
            np.mean([MemoizedStemmer.stem(concept.lower()) in stems for concept in concepts])
        )
