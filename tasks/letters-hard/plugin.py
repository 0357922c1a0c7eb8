"""Held-out metrics: which half of sorting a wrong answer gets right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lmrl_bench.data.sample import Sample
from lmrl_bench.metrics import metric


@metric(bounds=(0, 1), higher_is_better=True, needs=["references"])
def same_letters(completions: Sequence[str], samples: Sequence[Sample]) -> list[float]:
    """Share of letters that answer and reference have in common, in any order.

    Of the longer one, so that neither dropping letters nor adding some helps.
    """
    pairs = [(text, s.references[0]) for text, s in zip(completions, samples, strict=True)]
    return [
        (Counter(text) & Counter(reference)).total() / max(len(text), len(reference))
        for text, reference in pairs
    ]


@metric(bounds=(0, 1), higher_is_better=True, needs=["references"])
def right_positions(completions: Sequence[str], samples: Sequence[Sample]) -> list[float]:
    """Share of positions with the right letter, of the longer one of answer and reference."""
    pairs = [(text, s.references[0]) for text, s in zip(completions, samples, strict=True)]
    return [
        sum(a == b for a, b in zip(text, reference, strict=False)) / max(len(text), len(reference))
        for text, reference in pairs
    ]


METRICS = {"same-letters": same_letters, "right-positions": right_positions}
