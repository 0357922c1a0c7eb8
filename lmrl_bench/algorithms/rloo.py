"""RLOO: REINFORCE on whole completions, each compared with the others to the same prompt.

Paper: Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human
Feedback in LLMs" (arXiv 2402.14740); the estimator is Kool et al.'s (2019).

    R_i = Σ_t r_t of completion i: the task's reward minus the KL charge
    A_i = R_i − 1/(G − 1) Σ_{j ≠ i} R_j                over the G completions to a prompt
    ρ_i = π_θ(y_i | x) / π_old(y_i | x)                of the whole completion: one action
    L   = −mean_i min(ρ_i A_i, clip(ρ_i, 1 − ε, 1 + ε) A_i)

As long as ρ is 1 (the default is one step per iteration) the gradient is REINFORCE's, −mean A_i ∇ log π_θ(y_i | x).
There is no discount within a completion. Episodes cut at the length cap are compared as they stand, truncated or not.

Deviations from the paper: its estimator has no ratio; ρ and its clip are TRL's, and matter with more epochs or
minibatches only. The optimizer is Adam, the gradient's norm is clipped.

Deviations from TRL (1.16): none in advantages, loss and gradient (tests/oracle); advantages are never normalized,
which is TRL's default. The old log-probabilities are the sampler's own and not computed again; dropout stays off.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor

from lmrl_bench.algorithms.functional import leave_one_out, token_weights
from lmrl_bench.algorithms.groups import GroupAlgorithm, GroupConfig
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.data.episodes import Episodes


class RLOOConfig(GroupConfig):
    """Settings of RLOO."""

    group_size: int = Field(
        4, ge=2, description="G, completions per prompt; divides episodes_per_iteration"
    )
    clip_range: float = Field(0.2, gt=0.0, description="ε, for the ratio of whole completions")

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """ε on both sides."""
        return self.clip_range, self.clip_range

    @model_validator(mode="after")
    def _only_in_float32(self) -> Self:
        if self.autocast != "none":
            raise ValueError(
                "autocast: bfloat16's rounding of all tokens adds up in the ratio of a whole completion; set it to none"
            )
        return self


class RLOO(GroupAlgorithm):
    """REINFORCE leave-one-out."""

    config_class: ClassVar[type[AlgorithmConfig]] = RLOOConfig
    summary: ClassVar[str] = (
        "RLOO (arXiv 2402.14740): whole completions against the others to the same prompt, no critic"
    )
    config: RLOOConfig

    def relative(self, returns: Tensor, group_ids: Tensor) -> Tensor:
        """Returns each return minus the mean of the others in its group."""
        return leave_one_out(returns, group_ids)

    def log_ratio(self, difference: Tensor, mask: Tensor) -> Tensor:
        """Returns log ρ of the whole completion, at all of its columns."""
        del mask
        return difference.sum(dim=1, keepdim=True).expand_as(difference)

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns weights whose sum over a completion's tokens is 1/B: completions count the same."""
        return token_weights(episodes.mask, "sequence-mean")
