"""Limits for how closely the scored policy must match the policy that sampled. No torch."""

from __future__ import annotations

from typing import Final

from lmrl_bench.records.record import Flag

MAX_LOGPROB_DIFFERENCE = 1e-3
"""In nats. In float32, cached decoding and the full forward pass agree to about 1e-5."""

MAX_FIRST_CLIP_FRACTION = 0.0
"""Before the first step of an update every ratio is 1, so nothing can be clipped."""

MAX_TRUNCATED_SHARE = 0.9
"""Above this, the policy has practically stopped ending its completions."""


BOUNDS: Final[dict[Flag, float]] = {
    "max_logprob_difference": MAX_LOGPROB_DIFFERENCE,
    "first_clip_fraction": MAX_FIRST_CLIP_FRACTION,
    "truncated_share": MAX_TRUNCATED_SHARE,
}


def exceeded(
    max_logprob_difference: float, first_clip_fraction: float, truncated_share: float
) -> list[Flag]:
    """Returns the names of the limits that a run's worst values exceed."""
    worst: dict[Flag, float] = {
        "max_logprob_difference": max_logprob_difference,
        "first_clip_fraction": first_clip_fraction,
        "truncated_share": truncated_share,
    }
    return [name for name, bound in BOUNDS.items() if worst[name] > bound]


MEANING: Final[dict[Flag, str]] = {
    "max_logprob_difference": "the policy that was trained is not the one that sampled",
    "first_clip_fraction": "ratios were clipped before the first step of an update",
    "truncated_share": "hardly any completion ends before the limit",
}
"""Meaning of an exceeded limit."""
