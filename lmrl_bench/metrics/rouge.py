"""ROUGE-1, ROUGE-2 and ROUGE-L (F1), as computed by rouge-score (Lin 2004).

Tokens come from the library's tokenizer, called once per distinct word: white space always
separates tokens. Matches are counted for all completions at once (`ngrams`). Values equal
rouge-score's on every text tried (tests/oracle).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rouge_score import tokenize

from lmrl_bench.metrics.base import FloatArray, Metric, MetricResult, check_batch, check_references
from lmrl_bench.metrics.stemming import STEMMER_SIGNATURE, MemoizedStemmer
from lmrl_bench.speedups import speedups_on
from lmrl_bench.speedups.lines import Integers, Pairs, Tokens, sizes
from lmrl_bench.speedups.ngrams import ngram_totals, shared_ngrams
from lmrl_bench.speedups.subsequence import common_subsequence

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample


class _Rouge(Metric):
    """One ROUGE variant, 0 to 1; the corpus value is the mean over samples.

    Args:
        stemmer: Compare Porter stems, like `ROUGE-1.5.5 -m` and most work on summarization
            (English only).
        references: With several references, use the best F1 or the mean over references.
    """

    bounds = (0.0, 1.0)
    _type: str
    _order: int

    def __init__(self, stemmer: bool = True, references: Literal["best", "mean"] = "best") -> None:
        self._stemmer = stemmer
        self._references = references
        self._tokens = _STEMS if stemmer else _WORDS
        self._fast = speedups_on()

    @property
    def signature(self) -> str:
        """Library, variant, stemmer and rule for several references."""
        stemmer = STEMMER_SIGNATURE if self._stemmer else "no"
        return (
            f"{self._type}|measure:f1|stemmer:{stemmer}|references:{self._references}"
            f"|rouge-score:{version('rouge-score')}"
        )

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions; texts without Latin letters or digits have no tokens and score 0.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty.
        """
        check_batch(self.name, completions, samples)
        check_references(self.name, samples)
        references = [sample.references for sample in samples]
        ours = [text for text, row in zip(completions, references, strict=True) for _ in row]
        theirs = list(chain.from_iterable(references))
        scores = self._counted(ours, theirs) if self._fast else self._by_library(ours, theirs)
        rows = self._over_references(scores, sizes(references))
        precision, recall, f1 = rows.mean(axis=0)
        details = {"precision": float(precision), "recall": float(recall)}
        return MetricResult(float(f1), rows[:, 2], details)

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Encodes the references ahead of time; the most recent ones are cached."""
        self._tokens.prepare(text for sample in samples for text in sample.references)

    def _counted(self, ours: Sequence[str], theirs: Sequence[str]) -> FloatArray:
        """Returns precision, recall and F1 of each pair of texts, `(pairs, 3)`."""
        pairs = self._tokens.pairs(ours, theirs)
        return _precision_recall_f1(
            self._shared(pairs),
            ngram_totals(pairs.completions.lengths, self._order)[:, -1],
            ngram_totals(pairs.references.lengths, self._order)[:, -1],
        )

    def _by_library(self, ours: Sequence[str], theirs: Sequence[str]) -> FloatArray:
        """As `_counted`, each pair by rouge-score itself."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([self._type], use_stemmer=self._stemmer)
        pairs = zip(ours, theirs, strict=True)
        return np.array([scorer.score(reference, text)[self._type] for text, reference in pairs])

    def _shared(self, pairs: Pairs) -> Integers:
        """Returns the size of each pair's overlap, `(pairs,)`."""
        return shared_ngrams(pairs, self._order)[:, -1]

    def _over_references(self, scores: FloatArray, counts: Integers) -> FloatArray:
        """Returns each sample's best or mean scores of its `counts` rows of `(pairs, 3)`."""
        if len(scores) == len(counts):
            return scores
        parts = np.split(scores, np.cumsum(counts)[:-1])
        if self._references == "best":
            return np.array([part[np.argmax(part[:, 2])] for part in parts])
        return np.array([part.mean(axis=0) for part in parts])


class Rouge1(_Rouge):
    """ROUGE-1: single words."""

    name = "rouge-1"
    _type = "rouge1"
    _order = 1


class Rouge2(_Rouge):
    """ROUGE-2: pairs of words."""

    name = "rouge-2"
    _type = "rouge2"
    _order = 2


class RougeL(_Rouge):
    """ROUGE-L: longest common subsequence of the whole text."""

    name = "rouge-l"
    _type = "rougeL"
    _order = 1

    def _shared(self, pairs: Pairs) -> Integers:
        texts = zip(pairs.completions.texts(), pairs.references.texts(), strict=True)
        return np.array([common_subsequence(*pair) for pair in texts])


def _precision_recall_f1(shared: Integers, ours: Integers, theirs: Integers) -> FloatArray:
    """Returns precision, recall and F1, `(pairs, 3)`."""
    precision = shared / np.maximum(ours, 1)
    recall = shared / np.maximum(theirs, 1)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return np.stack([precision, recall, f1], axis=1)


def _words(word: str) -> list[Any]:
    tokens: list[Any] = tokenize.tokenize(word, None)
    return tokens


def _stems(word: str) -> list[Any]:
    tokens: list[Any] = tokenize.tokenize(word, MemoizedStemmer)
    return tokens


_WORDS, _STEMS = Tokens(_words), Tokens(_stems)  # module-level, so that all variants share a cache
