"""ROUGE-1, ROUGE-2 and ROUGE-L, F1, as rouge-score computes them (Lin 2004).

Counting and matching are the library's. Only its tokenizer is given a memory: the stemmer costs
most of the time, and words and references come back again and again during training.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rouge_score import tokenize
from rouge_score.rouge_scorer import RougeScorer

from lmrl_bench.metrics.base import Metric, MetricResult
from lmrl_bench.metrics.checks import check_batch, check_references
from lmrl_bench.metrics.stemming import STEMMER_SIGNATURE, MemoisedStemmer

if TYPE_CHECKING:
    from lmrl_bench.text.sample import Sample


class _Rouge(Metric):
    """One ROUGE variant, 0 to 1; the corpus value is the mean over samples.

    Args:
        stemmer: Compare Porter stems, as `ROUGE-1.5.5 -m` and most work on summarisation do; for
            English only.
        references: With several references, take the best one's F1 or the mean over them.
    """

    bounds = (0.0, 1.0)
    _type: str

    def __init__(self, stemmer: bool = True, references: Literal["best", "mean"] = "best") -> None:
        self._stemmer = stemmer
        self._references = references
        self._scorer = RougeScorer([self._type], tokenizer=_Tokenizer(stemmer))

    @property
    def signature(self) -> str:
        """Library, variant, stemmer and rule for several references."""
        stemmer = STEMMER_SIGNATURE if self._stemmer else "no"
        return (
            f"{self._type}|measure:f1|stemmer:{stemmer}|references:{self._references}"
            f"|rouge-score:{version('rouge-score')}"
        )

    def score(self, responses: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` responses; texts without a Latin letter or digit have no tokens and score 0.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty.
        """
        check_batch(self.name, responses, samples)
        check_references(self.name, samples)
        rows = np.array(
            [
                self._sample(response, sample.references)
                for response, sample in zip(responses, samples, strict=True)
            ],
            dtype=np.float64,
        )
        precision, recall, f1 = rows.mean(axis=0)
        details = {"precision": float(precision), "recall": float(recall)}
        return MetricResult(float(f1), rows[:, 2], details)

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Tokenises the references; the cache keeps the most recent ones."""
        for sample in samples:
            for reference in sample.references:
                _tokens(reference, self._stemmer)

    def _sample(self, response: str, references: Sequence[str]) -> tuple[float, float, float]:
        """Precision, recall and F1 of one response."""
        if self._references == "best":
            score = self._scorer.score_multi(references, response)[self._type]
            return score.precision, score.recall, score.fmeasure
        scores = [self._scorer.score(text, response)[self._type] for text in references]
        precision, recall, f1 = np.mean(scores, axis=0)
        return precision, recall, f1


class Rouge1(_Rouge):
    """ROUGE-1: single words."""

    name = "rouge-1"
    _type = "rouge1"


class Rouge2(_Rouge):
    """ROUGE-2: pairs of words."""

    name = "rouge-2"
    _type = "rouge2"


class RougeL(_Rouge):
    """ROUGE-L: longest common subsequence of the whole text."""

    name = "rouge-l"
    _type = "rougeL"


class _Tokenizer:
    """What rouge-score asks of a tokenizer; one memory for all variants."""

    def __init__(self, stemmer: bool) -> None:
        self._stemmer = stemmer

    def tokenize(self, text: str) -> Sequence[str]:
        """Returns the tokens that rouge-score's own tokenizer would give."""
        return _tokens(text, self._stemmer)


@functools.lru_cache(maxsize=2**14)
def _tokens(text: str, stemmer: bool) -> tuple[str, ...]:
    tokens: list[Any] = tokenize.tokenize(text, MemoisedStemmer if stemmer else None)
    return tuple(tokens)
