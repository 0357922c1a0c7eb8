"""BLEU, chrF and TER as computed by sacrebleu.

Corpus values are sacrebleu's; the value of one sample is sacrebleu's sentence score, for BLEU with
effective order (otherwise completions shorter than four words would always score 0).

BLEU and chrF also serve as rewards. In the usual cases the matches of all completions are therefore
counted at once (`ngrams`) and all sentence scores computed together; otherwise sacrebleu counts.
Values equal sacrebleu's on every text tried (tests/oracle).

Papers: Papineni et al. 2002 (BLEU), Popović 2015 and 2017 (chrF, chrF++), Snover et al. 2006 (TER),
Post 2018 (sacrebleu).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import FloatArray, Metric, MetricResult, check_batch, check_references
from lmrl_bench.speedups import speedups_on
from lmrl_bench.speedups.lines import Characters, Integers, Tokens
from lmrl_bench.speedups.ngrams import ngram_totals, shared_ngrams

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

BleuTokenizer = Literal[
    "13a", "char", "flores101", "flores200", "intl", "ja-mecab", "ko-mecab", "none", "spm", "zh"
]


class _SacrebleuMetric(Metric):
    """Computes match statistics once per sample, summed for the corpus score."""

    def __init__(self, corpus: Any, sentence: Any) -> None:
        self._fast = speedups_on()
        self._corpus = corpus
        self._sentence = sentence

    @property
    def signature(self) -> str:
        """Sacrebleu's signature without the number of references, a property of the data."""
        self._corpus.num_refs = -1
        signature = self._corpus.get_signature()
        signature.update("nrefs", None)
        return f"sacrebleu.{type(self._corpus).__name__}|{signature}"

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions against one or more references each.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty.
        """
        check_batch(self.name, completions, samples)
        check_references(self.name, samples)
        statistics = self._statistics(completions, samples)
        total = self._corpus._aggregate_and_compute([statistics.sum(axis=0).tolist()])
        return MetricResult(total.score, self._sentence_scores(statistics), self._details(total))

    def _statistics(self, completions: Sequence[str], samples: Sequence[Sample]) -> Integers:
        """Returns sacrebleu's statistics per sample, `(B, K)`."""
        return np.array(
            self._corpus._extract_corpus_statistics(list(completions), _columns(samples))
        )

    def _sentence_scores(self, statistics: Integers) -> FloatArray:
        rows = [self._sentence._aggregate_and_compute([row]).score for row in statistics.tolist()]
        return np.array(rows, dtype=np.float64)

    def _details(self, total: Any) -> dict[str, float] | None:  # noqa: ARG002 - used by Bleu
        return None


class Bleu(_SacrebleuMetric):
    """BLEU, 0 to 100.

    Args:
        tokenize: sacrebleu's tokenizer; some require another package or a download.
        lowercase: Compare in lower case.
        smooth_method: Smoothing of zero counts.
    """

    name = "bleu"
    bounds = (0.0, 100.0)

    def __init__(
        self,
        tokenize: BleuTokenizer = "13a",
        lowercase: bool = False,
        smooth_method: Literal["exp", "floor", "add-k", "none"] = "exp",
    ) -> None:
        options: dict[str, Any] = {
            "tokenize": tokenize,
            "lowercase": lowercase,
            "smooth_method": smooth_method,
            "force": True,  # suppresses the warning about tokenized text at every batch
        }
        try:
            super().__init__(BLEU(**options), BLEU(**options, effective_order=True))
        except (ImportError, OSError, RuntimeError) as error:
            raise MetricError(
                f"metric 'bleu': the tokenizer '{tokenize}' is not usable: {error}"
            ) from error
        fast = self._fast and tokenize == "13a"
        self._tokens = Tokens(self._tokens_of_word) if fast else None
        self._smoothed = smooth_method == "exp"

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Encodes the references ahead of time; the most recent ones are cached."""
        if self._tokens:
            self._tokens.prepare(text for sample in samples for text in sample.references)

    def _statistics(self, completions: Sequence[str], samples: Sequence[Sample]) -> Integers:
        """Returns lengths of both texts, then matches and totals per order, `(B, 10)`."""
        references = [sample.references[0] for sample in samples]
        crossing = any(map(_crosses_words, chain(completions, references)))
        if self._tokens is None or crossing or _several(samples):
            return super()._statistics(completions, samples)
        pairs, order = self._tokens.pairs(completions, references), self._corpus.max_ngram_order
        ours, theirs = pairs.completions.lengths, pairs.references.lengths
        shared, totals = shared_ngrams(pairs, order), ngram_totals(ours, order)
        return np.column_stack([ours, theirs, shared, totals])

    def _sentence_scores(self, statistics: Integers) -> FloatArray:
        """Like `BLEU.compute_bleu` with effective order and exponential smoothing, vectorized."""
        if not (self._fast and self._smoothed):
            return super()._sentence_scores(statistics)
        order = self._corpus.max_ngram_order
        ours, theirs = statistics[:, 0], statistics[:, 1]
        correct, total = statistics[:, 2 : 2 + order], statistics[:, 2 + order :]
        counted = total > 0
        missed = counted & (correct == 0)
        # Exponential smoothing: the k-th order without a match counts as 1 / 2^k matches.
        numerator = np.where(missed, 1.0 / 2.0 ** np.cumsum(missed, axis=1), correct)
        precisions = np.divide(100.0 * numerator, total, out=np.ones(total.shape), where=counted)
        mean = np.log(precisions).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
        brevity = np.exp(np.minimum(1.0 - theirs / np.maximum(ours, 1), 0.0))
        scores: FloatArray = np.where(correct.any(axis=1), brevity * np.exp(mean), 0.0)
        return scores

    def _tokens_of_word(self, word: str) -> list[str]:
        if word.isalnum() and not self._corpus.lowercase:  # the tokenizer splits only punctuation
            return [word]
        tokens: list[str] = self._corpus._preprocess_segment(word).split()
        return tokens

    def _details(self, total: Any) -> dict[str, float]:
        precisions = {f"precision_{n}": value for n, value in enumerate(total.precisions, start=1)}
        return {**precisions, "brevity_penalty": total.bp}


class ChrF(_SacrebleuMetric):
    """Character n-gram F-score, 0 to 100; chrF++ with `word_order: 2`.

    Args:
        char_order: Longest character n-gram.
        word_order: Longest word n-gram (0 for none).
        beta: Weight of recall relative to precision.
        lowercase: Compare in lower case.
        whitespace: Count white space as characters.
    """

    name = "chrf"
    bounds = (0.0, 100.0)

    def __init__(
        self,
        char_order: int = 6,
        word_order: int = 0,
        beta: int = 2,
        lowercase: bool = False,
        whitespace: bool = False,
    ) -> None:
        if char_order < 1 or word_order < 0 or beta < 1:
            raise MetricError(
                "metric 'chrf': char_order and beta must be at least 1, word_order at least 0; "
                f"got char_order {char_order}, word_order {word_order}, beta {beta}"
            )
        chrf = CHRF(
            char_order=char_order,
            word_order=word_order,
            beta=beta,
            lowercase=lowercase,
            whitespace=whitespace,
        )
        super().__init__(chrf, chrf)
        only = word_order == 0 and not whitespace
        self._characters = Characters(lowercase) if self._fast and only else None

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Encodes the references ahead of time; the most recent ones are cached."""
        if self._characters:
            self._characters.prepare(text for sample in samples for text in sample.references)

    def _statistics(self, completions: Sequence[str], samples: Sequence[Sample]) -> Integers:
        """Returns totals of both texts and matches per order, `(B, 3 * orders)`."""
        if self._characters is None or _several(samples):
            return super()._statistics(completions, samples)
        references = [sample.references[0] for sample in samples]
        pairs, order = self._characters.pairs(completions, references), self._corpus.char_order
        our_totals, their_totals = (ngram_totals(side.lengths, order) for side in pairs[:2])
        our_totals[their_totals == 0] = 0  # like sacrebleu: orders without a reference do not count
        shared = shared_ngrams(pairs, order)
        return np.stack([our_totals, their_totals, shared], axis=2).reshape(len(completions), -1)

    def _sentence_scores(self, statistics: Integers) -> FloatArray:
        """Like `CHRF._compute_f_score`, vectorized."""
        if not self._fast:
            return super()._sentence_scores(statistics)
        ours, theirs, shared = np.moveaxis(statistics.reshape(len(statistics), -1, 3), 2, 0)
        counted = (ours > 0) & (theirs > 0)
        orders = np.maximum(counted.sum(axis=1), 1)
        precision = np.where(counted, shared / np.maximum(ours, 1), 0.0).sum(axis=1) / orders
        recall = np.where(counted, shared / np.maximum(theirs, 1), 0.0).sum(axis=1) / orders
        factor = self._corpus.beta**2
        weighted = factor * precision + recall
        scores = np.zeros(len(statistics))
        np.divide(100 * (1 + factor) * precision * recall, weighted, out=scores, where=weighted > 0)
        return scores

    @property
    def signature(self) -> str:
        """Sacrebleu's signature plus beta, which sacrebleu puts in the score's name (chrF2)."""
        return f"{super().signature}|beta:{self._corpus.beta}"


class Ter(_SacrebleuMetric):
    """Translation edit rate: edits per 100 reference words, unbounded above; lower is better.

    Args:
        normalized: Separate punctuation.
        no_punct: Remove punctuation.
        asian_support: Treat Chinese and Japanese characters as words.
        case_sensitive: Distinguish upper and lower case.
    """

    name = "ter"
    bounds = (0.0, math.inf)
    higher_is_better = False

    def __init__(
        self,
        normalized: bool = False,
        no_punct: bool = False,
        asian_support: bool = False,
        case_sensitive: bool = False,
    ) -> None:
        ter = TER(
            normalized=normalized,
            no_punct=no_punct,
            asian_support=asian_support,
            case_sensitive=case_sensitive,
        )
        super().__init__(ter, ter)


def _several(samples: Sequence[Sample]) -> bool:
    return any(len(sample.references) != 1 for sample in samples)


def _crosses_words(text: str) -> bool:
    """Returns whether tokenizer 13a joins text across white space: at a line-final hyphen."""
    # Searching for one character first is faster than searching for the whole pattern.
    return ("\n" in text and "-\n" in text) or ("<" in text and "<skipped>" in text)


def _columns(samples: Sequence[Sample]) -> list[list[str | None]]:
    """Transposes references as sacrebleu expects: one list per position, padded with None."""
    most = max(len(sample.references) for sample in samples)
    return [
        [sample.references[i] if i < len(sample.references) else None for sample in samples]
        for i in range(most)
    ]
