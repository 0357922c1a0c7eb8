"""GRPO: PPO's clipped surrogate with the group's rewards instead of a critic.

Paper: Shao et al. 2024, "DeepSeekMath" (arXiv 2402.03300), section 4.1, eq. 3 and 4, with outcome supervision.

    R_i = Σ_t r_t of completion i
    A_i = (R_i − mean R) / (std R + 1e-4)              over the G completions of a prompt; at every token of i
    ρ_t = π_θ(y_t | x, y_<t) / π_old(y_t | x, y_<t)
    J_t = min(ρ_t A, clip(ρ_t, 1 − ε, 1 + ε_high) A) − β k3_t,     k3 = π_ref/π_θ − 1 − log(π_ref/π_θ)
    L   = −mean_i (1/|y_i|) Σ_t J_t                    `sequence-mean`
        = −Σ_i Σ_t J_t / Σ_i |y_i|                     `token-mean` (DAPO, arXiv 2503.14476)
        = −Σ_i Σ_t J_t / (B L_max)                     `constant` (Dr. GRPO, arXiv 2503.20783, with
                                                        `divide_by_std` false); L_max is the task's longest completion

On the policy's own samples the gradient of k3 is, at each token, that of KL(π_ref ‖ π_θ); `weighted_kl_loss` multiplies
k3 by ρ, and then it is that of KL(π_θ ‖ π_ref). The KL charge in the reward, which other algorithms here have, is off
by default, and only one of the two may be on. Episodes cut at the length cap are compared as they stand, truncated or
not; a group of equal returns has advantages of 0.

Deviations from the paper: the standard deviation has G − 1 in the denominator; the reference policy stays the initial
policy; the optimizer is Adam. ε_high is DAPO's.

Deviations from TRL (1.16): none in advantages, loss and gradient where the settings say the same (tests/oracle).
Its defaults differ: `token-mean` (`loss_type` dapo; `sequence-mean` is grpo, `constant` is dr_grpo), β = 0, and k3
weighted by ρ. Means are over the minibatch here, however it is split for memory; the old log-probabilities are
the sampler's own and not computed again; dropout stays off.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from lmrl_bench.algorithms.functional import (
    constant_weights,
    group_mean,
    kl_k3,
    standardized,
    token_weights,
    weighted_sum,
)
from lmrl_bench.algorithms.gradient import LossParts
from lmrl_bench.algorithms.groups import GroupAlgorithm, GroupConfig, RewardKLConfig
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.search import Around, OneOf, SearchSpace
from lmrl_bench.data.episodes import Episodes


class GRPOConfig(GroupConfig):
    """Settings of GRPO."""

    search_space: ClassVar[SearchSpace] = {
        "learning_rate": GroupConfig.search_space["learning_rate"],
        "kl_loss_coefficient": Around(10.0),
        "epochs": OneOf((1, 2, 4)),
    }

    divide_by_std: bool = Field(
        True, description="divide by the standard deviation of the group; false: as Dr. GRPO"
    )
    aggregation: Literal["token-mean", "sequence-mean", "constant"] = Field(
        "sequence-mean",
        description="token-mean: every token of a minibatch counts the same; sequence-mean: every episode; "
        "constant: the sum over tokens, divided by the episodes and the task's longest completion",
    )
    clip_range: float = Field(0.2, gt=0.0, description="ε of the surrogate")
    clip_range_high: float | None = Field(
        None, gt=0.0, description="ε above 1, as in DAPO; null: clip_range"
    )
    kl_loss_coefficient: float = Field(
        0.04, ge=0.0, description="β, weight of k3 in the loss, per nat; 0: none"
    )
    weighted_kl_loss: bool = Field(
        False, description="multiply k3 by the ratio, as TRL does by default"
    )
    kl: RewardKLConfig = Field(
        default_factory=lambda: RewardKLConfig(),
        description="the KL charge in the reward; off, as the loss has a KL term",
    )

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """ε below and above 1."""
        return self.clip_range, self.clip_range_high

    @model_validator(mode="after")
    def _one_kl_only(self) -> Self:
        if self.kl_loss_coefficient and self.kl.coefficient:
            raise ValueError(
                f"the KL would be charged twice: kl_loss_coefficient ({self.kl_loss_coefficient}) in the loss and "
                f"kl.coefficient ({self.kl.coefficient}) in the reward; set one of them to 0"
            )
        return self


class GRPO(GroupAlgorithm):
    """Group relative policy optimization."""

    config_class: ClassVar[type[AlgorithmConfig]] = GRPOConfig
    summary: ClassVar[str] = (
        "GRPO (arXiv 2402.03300): clipped surrogate, advantages relative to the group, no critic"
    )
    config: GRPOConfig

    @property
    def reads_ref_policy(self) -> bool:
        """Whether there is a KL term in the loss or a KL charge in the reward."""
        return self.config.kl_loss_coefficient > 0.0 or super().reads_ref_policy

    def relative(self, returns: Tensor, group_ids: Tensor) -> Tensor:
        """Returns each return minus the group's mean, by its standard deviation if that is configured."""
        if self.config.divide_by_std:
            return standardized(returns, group_ids)
        return returns - group_mean(returns, group_ids)

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns each token's weight by the configured aggregation, `(B, T)`."""
        if self.config.aggregation == "constant":
            return constant_weights(episodes.mask, self.core.task.spec.completion.max_tokens)
        return token_weights(episodes.mask, self.config.aggregation)

    def regularized(
        self, policy: LossParts, part: Episodes, ratio: Tensor, weights: Tensor
    ) -> LossParts:
        """Adds the KL to the reference policy, k3, where it has a weight."""
        if self.config.kl_loss_coefficient == 0.0:
            return policy
        kl = kl_k3(policy.logprobs, part.ref_logprobs)
        kl_loss = weighted_sum(kl * ratio if self.config.weighted_kl_loss else kl, weights)
        loss = policy.loss + self.config.kl_loss_coefficient * kl_loss
        return LossParts(loss, policy.logprobs, {**policy.terms, "kl_loss": kl_loss})
