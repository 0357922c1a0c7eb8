"""Whether the policy that is scored is the policy that sampled: watched in every update, judged in the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmrl_bench.algorithms.interface import IterationStats
from lmrl_bench.records.fidelity import BOUNDS, MEANING, exceeded
from lmrl_bench.records.record import Fidelity


class FidelityWatch:
    """Keeps the worst values of a run."""

    def __init__(self) -> None:
        self._worst = {"max_logprob_difference": 0.0, "first_clip_fraction": 0.0}
        self._truncated_share = 0.0

    def watch(self, stats: IterationStats) -> None:
        """Takes up one iteration."""
        for name, worst in self._worst.items():
            self._worst[name] = max(worst, float(getattr(stats.update, name)))
        if stats.rollout is not None:
            self._truncated_share = stats.rollout.truncated_share

    def summary(self) -> Fidelity:
        """Returns the worst values, the last truncated share, and the bounds that were exceeded."""
        flags = exceeded(truncated_share=self._truncated_share, **self._worst)
        return Fidelity(**self._worst, truncated_share=self._truncated_share, flags=flags)

    def state(self) -> dict[str, float]:
        """Returns plain data for a checkpoint."""
        return {**self._worst, "truncated_share": self._truncated_share}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state()`."""
        self._worst = {name: float(state[name]) for name in self._worst}
        self._truncated_share = float(state["truncated_share"])


def marks(fidelity: Fidelity) -> list[str]:
    """Returns a line for each bound that a run exceeded: the value, the bound and what it means."""
    return [
        f"mark: {name} is {getattr(fidelity, name):.3g}, above {bound:g}: {MEANING[name]}"
        for name, bound in BOUNDS.items()
        if name in fidelity.flags
    ]
