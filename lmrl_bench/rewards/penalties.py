"""Penalties in a task's reward, for training and evaluation; all are 0 or negative.

Penalties that apply only in training, such as the one for a missing EOS, are reward transforms.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from lmrl_bench.core.errors import RewardError
from lmrl_bench.metrics.diversity import Distinct
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput


class LengthPenalty(RewardFunction):
    """Subtracts a constant per token beyond a target length, or per token of distance from it.

    "beyond": `-per_token * max(0, length - target)`; "distance": `-per_token * |length - target|`.
    The length includes EOS.

    Args:
        target: Target length in tokens, including EOS.
        per_token: Amount to subtract per token; at least 0.
        mode: "beyond" or "distance".
    """

    name = "length-penalty"
    needs: frozenset[str] = frozenset()

    def __init__(
        self, target: int, per_token: float, mode: Literal["beyond", "distance"] = "beyond"
    ) -> None:
        self._target = int(_not_negative(self.name, "target", target))
        self._per_token = _not_negative(self.name, "per_token", per_token)
        self._mode = mode

    @property
    def signature(self) -> str:
        """Name, mode, target and slope."""
        return f"{self.name}|{self._mode}:{self._target}|per_token:{self._per_token:g}"

    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Returns the penalty of each completion."""
        excess = batch.lengths.astype(np.float64) - self._target
        tokens = np.maximum(excess, 0.0) if self._mode == "beyond" else np.abs(excess)
        # A difference instead of a product with -1: no penalty is 0.0, not -0.0.
        return RewardOutput(0.0 - self._per_token * tokens)


class RepetitionPenalty(RewardFunction):
    """Subtracts up to a constant if the completion repeats itself.

    `-value * max(0, repeated - allowed) / (1 - allowed)`, where `repeated` is the share of the
    completion's n-grams that occurred earlier in it (seq-rep-n of Welleck et al. 2020, arXiv
    1908.04319): 0 for ordinary text, `-value` for a single repeated word. A completion with fewer
    than two n-grams cannot repeat itself.

    Args:
        value: Penalty of a completion that only repeats; at least 0.
        allowed: Share of repetition without penalty; at least 0 and below 1.
        n: Length of the n-grams, in words.
    """

    name = "repetition-penalty"
    needs: frozenset[str] = frozenset()

    def __init__(self, value: float = 1.0, allowed: float = 0.2, n: int = 2) -> None:
        self._value = _not_negative(self.name, "value", value)
        if not 0 <= allowed < 1:
            raise RewardError(
                f"reward '{self.name}': allowed is {allowed}; it must be at least 0 and below 1"
            )
        if n < 1:
            raise RewardError(f"reward '{self.name}': n is {n}; it must be at least 1")
        self._allowed = allowed
        self._distinct = Distinct(n)

    @property
    def signature(self) -> str:
        """Name, constant, free share and the rule for n-grams."""
        return f"{self.name}|value:{self._value:g}|allowed:{self._allowed:g}|{self._distinct.signature}"

    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Returns the penalty of each completion."""
        repeated = np.array(
            [self._distinct.repeated(text) for text in batch.completions], np.float64
        )
        beyond = np.maximum(repeated - self._allowed, 0.0) / (1.0 - self._allowed)
        return RewardOutput(0.0 - self._value * beyond)


def _not_negative(name: str, argument: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise RewardError(
            f"reward '{name}': {argument} is {value}; it must be finite and not negative"
        )
    return value
