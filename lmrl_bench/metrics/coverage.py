"""How many of the words that an answer must use does it use?

The coverage that work on concept-to-text reports (Lin et al. 2020, CommonGen), on Porter stems instead
of a tagger's lemmas: "streaked" covers "streak", but an irregular form does not cover its lemma
("sank", "sink"), so even a reference can stay below 1. A list of the words covers them all: it is a
check of an answer, no measure of its quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult
from lmrl_bench.metrics.checks import check_batch
from lmrl_bench.metrics.diversity import words
from lmrl_bench.metrics.stemming import STEMMER_SIGNATURE, MemoisedStemmer

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


class ConceptCoverage(Metric):
    """Share of a sample's concepts whose Porter stem is the stem of a word of the response; mean over samples.

    Args:
        field: Field of the sample's `meta` with the concepts, a list of single words; never empty.
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

    def score(self, responses: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` responses.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a sample has no list of words in the field.
        """
        check_batch(self.name, responses, samples)
        rows = np.array(
            [
                self._share(response, self._concepts(sample))
                for response, sample in zip(responses, samples, strict=True)
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
                f"metric '{self.name}': sample '{sample.id}' has no list of single words in "
                f"meta '{self._field}' ({concepts!r}); list the column in data.meta of task.yaml"
            )
        return concepts

    @staticmethod
    def _share(response: str, concepts: Sequence[str]) -> float:
        stems = {MemoisedStemmer.stem(word) for word in words(response)}
        return float(
            np.mean([MemoisedStemmer.stem(concept.lower()) in stems for concept in concepts])
        )
