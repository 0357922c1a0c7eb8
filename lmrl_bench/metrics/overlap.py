"""BLEU, chrF and TER, as sacrebleu computes them.

The corpus value is sacrebleu's. The value of one sample is sacrebleu's sentence score; for BLEU
with effective order (a response shorter than four words would always score 0 without it).

Papers: Papineni et al. 2002 (BLEU), Popović 2015 and 2017 (chrF, chrF++), Snover et al. 2006 (TER),
Post 2018 (sacrebleu).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from lmrl_bench.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult
from lmrl_bench.metrics.checks import check_batch, check_references

if TYPE_CHECKING:
    from lmrl_bench.text.sample import Sample

BleuTokenizer = Literal[
    "13a", "char", "flores101", "flores200", "intl", "ja-mecab", "ko-mecab", "none", "spm", "zh"
]


class _SacrebleuMetric(Metric):
    """Match statistics once per sample, summed for the corpus and alone for the sample."""

    def __init__(self, corpus: Any, sentence: Any) -> None:
        self._corpus = corpus
        self._sentence = sentence

    @property
    def signature(self) -> str:
        """The signature of sacrebleu without the number of references, which is the data's."""
        self._corpus.num_refs = -1
        signature = self._corpus.get_signature()
        signature.update("nrefs", None)
        return f"sacrebleu.{type(self._corpus).__name__}|{signature}"

    def score(self, responses: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` responses against one or more references each.

        Raises:
            MetricError: Lengths differ, `B` is 0, or a reference is empty.
        """
        check_batch(self.name, responses, samples)
        check_references(self.name, samples)
        # The public methods would match everything twice: for the corpus and for the sentences.
        statistics = self._corpus._extract_corpus_statistics(list(responses), _columns(samples))
        rows = [self._sentence._aggregate_and_compute([row]).score for row in statistics]
        total = self._corpus._aggregate_and_compute(statistics)
        return MetricResult(total.score, np.array(rows, dtype=np.float64), self._details(total))

    def _details(self, total: Any) -> dict[str, float] | None:  # noqa: ARG002 - Bleu has some
        return None


class Bleu(_SacrebleuMetric):
    """BLEU, 0 to 100.

    Args:
        tokenize: sacrebleu's tokenizer; some of them need a further package or a download.
        lowercase: Compare in lower case.
        smooth_method: What replaces a zero count.
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
            "force": True,  # no warning about tokenised text at every batch
        }
        try:
            super().__init__(BLEU(**options), BLEU(**options, effective_order=True))
        except (ImportError, OSError, RuntimeError) as error:
            raise MetricError(
                f"metric 'bleu': the tokenizer '{tokenize}' cannot be used here: {error}"
            ) from error

    def _details(self, total: Any) -> dict[str, float]:
        precisions = {f"precision_{n}": value for n, value in enumerate(total.precisions, start=1)}
        return {**precisions, "brevity_penalty": total.bp}


class ChrF(_SacrebleuMetric):
    """Character n-gram F-score, 0 to 100; with `word_order: 2` it is chrF++.

    Args:
        char_order: Longest character n-gram.
        word_order: Longest word n-gram (0: none).
        beta: Weight of recall against precision.
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

    @property
    def signature(self) -> str:
        """With beta, which sacrebleu leaves to the name of the score (chrF2)."""
        return f"{super().signature}|beta:{self._corpus.beta}"


class Ter(_SacrebleuMetric):
    """Translation edit rate: edits per 100 reference words; lower is better, 100 no limit.

    Args:
        normalized: Separate punctuation.
        no_punct: Drop punctuation.
        asian_support: Treat Chinese and Japanese characters as words.
        case_sensitive: Compare case.
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


def _columns(samples: Sequence[Sample]) -> list[list[str | None]]:
    """One list per reference number, as sacrebleu wants them; None where a sample has fewer."""
    most = max(len(sample.references) for sample in samples)
    return [
        [sample.references[i] if i < len(sample.references) else None for sample in samples]
        for i in range(most)
    ]
