"""METEOR's formula with exact and stem matches, without synonyms.

The full METEOR also matches WordNet synonyms, but that data is not available from a package
registry. Therefore this metric has its own name; do not compare it with published METEOR scores.

Papers: Banerjee & Lavie 2005; Lavie & Agarwal 2007 (parameters alpha, beta, gamma). Implementation:
nltk.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from nltk.tokenize import wordpunct_tokenize
from nltk.translate.meteor_score import meteor_score

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult, check_batch, check_references
from lmrl_bench.metrics.stemming import STEMMER_SIGNATURE, MemoizedStemmer

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


class _NoSynonyms:
    """Stands in for WordNet, without any entry."""

    @staticmethod
    def synsets(word: str) -> list[str]:  # noqa: ARG004 - nltk's interface
        """Returns the synonym sets of a word, which are empty."""
        return []


class MeteorExactStem(Metric):
    """METEOR without synonyms, from 0 to just below 1; best reference, mean over samples.

    The fragmentation penalty keeps even identical texts below 1, by `gamma / matches ** beta`.

    Args:
        alpha: Weight of precision in the harmonic mean (0.9 weights recall nine times).
        beta: Exponent of the fragmentation penalty.
        gamma: Largest penalty.
    """

    name = "meteor-exact-stem"
    bounds = (0.0, 1.0)

    def __init__(self, alpha: float = 0.9, beta: float = 3.0, gamma: float = 0.5) -> None:
        if not (0 <= alpha <= 1 and beta >= 0 and 0 <= gamma <= 1):
            raise MetricError(
                "metric 'meteor-exact-stem': alpha and gamma must be in [0, 1], and beta at "
                f"least 0; got alpha {alpha}, beta {beta}, gamma {gamma}"
            )
        self._parameters = {"alpha": alpha, "beta": beta, "gamma": gamma}

    @property
    def signature(self) -> str:
        """Parameters, tokenizer, stemmer and library version."""
        parameters = "|".join(f"{key}:{value:g}" for key, value in self._parameters.items())
        return (
            f"meteor|match:exact+stem|{parameters}|tok:wordpunct|case:lc|stemmer:{STEMMER_SIGNATURE}"
            f"|references:best|nltk:{version('nltk')}"
        )

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions; an empty one scores 0.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty.
        """
        check_batch(self.name, completions, samples)
        check_references(self.name, samples)
        rows = np.array(
            [
                self._sample(completion, sample.references)
                for completion, sample in zip(completions, samples, strict=True)
            ],
            dtype=np.float64,
        )
        return MetricResult(float(rows.mean()), rows)

    def _sample(self, completion: str, references: Sequence[str]) -> float:
        return float(
            meteor_score(
                [wordpunct_tokenize(text) for text in references],
                wordpunct_tokenize(completion),
                stemmer=MemoizedStemmer,
                wordnet=_NoSynonyms,
                **self._parameters,
            )
        )
