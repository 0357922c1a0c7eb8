"""Variety and length of completions; references are not used.

Words are runs of letters, digits and underscores in any script, in lower case; punctuation does not
count. Papers: Li et al. 2016 (distinct-n), Johnson 1944 (segmental type-token ratio).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import Metric, MetricResult, check_batch

if TYPE_CHECKING:
    from lmrl_bench.data.sample import Sample

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Returns the words of a text, in lower case."""
    return _WORD.findall(text.lower())


class Distinct(Metric):
    """Distinct n-grams divided by all n-grams, over all completions; 0 if there are none.

    Li et al. divide by the number of words; dividing by the number of n-grams lets the value reach
    1 for every `n`. The corpus value falls as the corpus grows: compare only equal numbers of
    completions. The value of one sample is the ratio within its completion.

    Args:
        n: Length of the n-grams, in words.
    """

    needs: frozenset[str] = frozenset()
    bounds = (0.0, 1.0)

    def __init__(self, n: int) -> None:
        if n < 1:
            raise MetricError(f"metric 'distinct': n is {n}; it must be at least 1")
        self.n = n
        self.name = f"distinct-{n}"

    @property
    def signature(self) -> str:
        """Length of the n-grams, divisor and word rule."""
        return f"distinct|n:{self.n}|divisor:n-grams|words:\\w+|case:lc"

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions.

        Raises:
            MetricError: Lengths differ, or `B` is 0.
        """
        check_batch(self.name, completions, samples)
        rows = [self._ngrams(completion) for completion in completions]
        per_sample = np.array([_type_token_ratio(row) for row in rows], dtype=np.float64)
        return MetricResult(
            _type_token_ratio([gram for row in rows for gram in row]),
            per_sample,
        )

    def repeated(self, text: str) -> float:
        """Returns the share of a text's n-grams that repeat an earlier one; 0 without n-grams."""
        grams = self._ngrams(text)
        return 1.0 - _type_token_ratio(grams) if grams else 0.0

    def _ngrams(self, text: str) -> list[tuple[str, ...]]:
        tokens = words(text)
        return list(zip(*(tokens[start:] for start in range(self.n)), strict=False))


class Distinct1(Distinct):
    """Distinct-n for single words."""

    def __init__(self) -> None:
        super().__init__(1)


class Distinct2(Distinct):
    """Distinct-n for pairs of words."""

    def __init__(self) -> None:
        super().__init__(2)


class Msttr(Metric):
    """Mean segmental type-token ratio: distinct words per segment of the concatenated completions.

    An incomplete last segment is dropped unless it is the only one. Unlike distinct-1, the value
    does not fall as the corpus grows. It exists only for a corpus, so it cannot be a reward.

    Args:
        segment: Words per segment.
    """

    name = "msttr"
    needs: frozenset[str] = frozenset()
    bounds = (0.0, 1.0)
    corpus_only = True

    def __init__(self, segment: int = 50) -> None:
        if segment < 1:
            raise MetricError(f"metric 'msttr': segment is {segment}; it must be at least 1")
        self._segment = segment

    @property
    def signature(self) -> str:
        """Segment length and word rule."""
        return f"msttr|segment:{self._segment}|words:\\w+|case:lc"

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions in order; `details` counts segments and words.

        Raises:
            MetricError: Lengths differ, or `B` is 0.
        """
        check_batch(self.name, completions, samples)
        tokens = [word for completion in completions for word in words(completion)]
        complete = max(len(tokens) // self._segment, 1)
        segments = [tokens[i * self._segment : (i + 1) * self._segment] for i in range(complete)]
        value = float(np.mean([_type_token_ratio(segment) for segment in segments]))
        return MetricResult(
            value, details={"segments": float(complete), "words": float(len(tokens))}
        )


class Length(Metric):
    """Words per completion, mean over completions; descriptive, without a better direction."""

    name = "length"
    needs: frozenset[str] = frozenset()
    bounds = (0.0, math.inf)
    higher_is_better = None

    @property
    def signature(self) -> str:
        """Word rule."""
        return "length|words:\\w+"

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Counts the words of `B` completions.

        Raises:
            MetricError: Lengths differ, or `B` is 0.
        """
        check_batch(self.name, completions, samples)
        rows = np.array([len(words(completion)) for completion in completions], dtype=np.float64)
        details = {"empty": float((rows == 0).sum())}
        return MetricResult(float(rows.mean()), rows, details)


def _type_token_ratio(tokens: Iterable[object]) -> float:
    everything = list(tokens)
    return len(set(everything)) / len(everything) if everything else 0.0
