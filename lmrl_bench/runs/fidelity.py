"""Whether the policy that is scored is the policy that sampled: watched in every update, judged in the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmrl_bench.algorithms.interface import IterationStats
from lmrl_bench.records.record import Fidelity, Flag

MAX_LOGPROB_DIFFERENCE = 1e-3
"""Nats. In float32, cached decoding and the full forward agree to about 1e-5."""

MAX_FIRST_CLIP_FRACTION = 0.0
"""Before the first step of an update every ratio is 1, so nothing can be clipped."""

MAX_TRUNCATED_SHARE = 0.9
"""Above it the policy has all but stopped ending its responses."""


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
        """Returns the worst values, the last truncated share, and the bounds that were passed."""
        bounds: dict[Flag, float] = {
            "max_logprob_difference": MAX_LOGPROB_DIFFERENCE,
            "first_clip_fraction": MAX_FIRST_CLIP_FRACTION,
        }
        flags = [name for name, bound in bounds.items() if self._worst[name] > bound]
        if self._truncated_share > MAX_TRUNCATED_SHARE:
            flags.append("truncated_share")
        return Fidelity(**self._worst, truncated_share=self._truncated_share, flags=flags)

    def state(self) -> dict[str, float]:
        """Returns plain data for a checkpoint."""
        return {**self._worst, "truncated_share": self._truncated_share}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state()`."""
        self._worst = {name: float(state[name]) for name in self._worst}
        self._truncated_share = float(state["truncated_share"])


_MARKS: dict[Flag, tuple[float, str]] = {
    "max_logprob_difference": (
        MAX_LOGPROB_DIFFERENCE,
        "the policy that was trained is not the one that sampled",
    ),
    "first_clip_fraction": (
        MAX_FIRST_CLIP_FRACTION,
        "ratios were clipped before the first step of an update",
    ),
    "truncated_share": (MAX_TRUNCATED_SHARE, "hardly a response ends before the limit"),
}


def marks(fidelity: Fidelity) -> list[str]:
    """Returns a line for each bound that a run exceeded: the value, the bound and what it means."""
    return [
        f"mark: {name} is {getattr(fidelity, name):.3g}, above {bound:g}: {meaning}"
        for name, (bound, meaning) in _MARKS.items()
        if name in fidelity.flags
    ]
