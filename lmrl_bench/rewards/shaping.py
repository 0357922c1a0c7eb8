"""Penalties on the response's length, and on its not ending; all are 0 or negative."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from lmrl_bench.errors import RewardError
from lmrl_bench.rewards.base import RewardBatch, RewardFunction, RewardOutput


class MissingEosPenalty(RewardFunction):
    """Subtracts a constant where the response was cut at the length cap instead of ending with EOS.

    Args:
        value: What is subtracted; not negative.
    """

    name = "missing-eos-penalty"

    def __init__(self, value: float = 1.0) -> None:
        self._value = _not_negative(self.name, "value", value)

    @property
    def signature(self) -> str:
        """Name and constant."""
        return f"{self.name}|value:{self._value:g}"

    def __call__(self, batch: RewardBatch) -> RewardOutput:
        """Returns `-value` for each capped response and 0 for the others."""
        return RewardOutput(np.where(batch.terminated, 0.0, -self._value))


class LengthPenalty(RewardFunction):
    """Subtracts a constant for each token too many, or for each token away from a wanted length.

    `beyond`: `-per_token * max(0, length - target)`. `distance`: `-per_token * |length - target|`.
    The length counts EOS.

    Args:
        target: Wanted length in tokens, EOS included.
        per_token: What is subtracted per token; not negative.
        mode: Which of the two.
    """

    name = "length-penalty"

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
        """Returns the penalty of each response."""
        excess = batch.lengths.astype(np.float64) - self._target
        tokens = np.maximum(excess, 0.0) if self._mode == "beyond" else np.abs(excess)
        return RewardOutput(0.0 - self._per_token * tokens)


def _not_negative(name: str, argument: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise RewardError(
            f"reward '{name}': {argument} is {value}; it must be finite and not negative"
        )
    return value
