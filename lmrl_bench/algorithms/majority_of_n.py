"""Majority-of-n: no training; of n completions to each prompt, the most frequent text is the answer.

Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (arXiv 2203.11171),
section 2, without their parsing of a final answer: here whole texts are compared. The field calls it maj@n.

    y* = argmax_y Σ_i 1[y_i = y],   y_1 … y_n ~ π(· | x)        the first of equals

It reads neither reward nor references, so it can be used wherever answers are short enough to repeat; where all n texts
differ, it is the policy itself. It tells how much of a method's gain is a sharper distribution: RL that only makes
the policy's usual answer more probable does not pass it. Leaderboards show it without a rank, as it costs n times
the tokens. `kl_to_reference` is that of the policy itself, 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lmrl_bench.algorithms.controls import Selection
from lmrl_bench.records.record import Control


class MajorityOfN(Selection):
    """Samples n completions per prompt in evaluations and keeps the most frequent text."""

    control: ClassVar[Control | None] = "policy"
    summary: ClassVar[str] = (
        "majority-of-n, self-consistency (arXiv 2203.11171): no training, the most frequent of n completions"
    )

    def choose(self, rewards: Tensor, texts: Sequence[str]) -> int:
        """Returns the first completion with the most frequent text."""
        del rewards
        return texts.index(max(texts, key=texts.count))  # `max` returns the first of equals
