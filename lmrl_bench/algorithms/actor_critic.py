"""The loss that PPO, NLPO and A2C share: a policy objective, the critic's error, an entropy bonus."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.critic import CriticAlgorithm, CriticConfig
from lmrl_bench.algorithms.functional import value_error, weighted_sum
from lmrl_bench.algorithms.gradient import LossParts
from lmrl_bench.data.episodes import Episodes


class ActorCriticConfig(CriticConfig):
    """Settings of algorithms that train policy and critic with one loss."""

    value_coefficient: float = Field(
        0.5, ge=0.0, description="weight of the critic's squared error"
    )
    entropy_coefficient: float = Field(
        0.0, ge=0.0, description="weight of the entropy bonus, per nat"
    )


class ActorCriticAlgorithm(CriticAlgorithm):
    """`L = −Σ w_t J_t + c_v Σ w_t (V_t − R_t)² − c_H Σ w_t H_t`, with token weights `w` that sum to 1."""

    config: ActorCriticConfig

    def actor_critic_loss(
        self,
        part: Episodes,
        weights: Tensor,
        objective: Callable[[Tensor], Tensor],
        value_clip: float | None = None,
    ) -> LossParts:
        """Returns a micro-batch's share of the loss.

        Args:
            part: The micro-batch, `N` episodes.
            weights: `(N, T)`.
            objective: Maps the policy's log-probabilities `(N, T)` to `J`, `(N, T)`, to be maximised.
            value_clip: Distance from the rollout's values within which the critic's are kept.
        """
        entropy_coefficient = self.config.entropy_coefficient
        scores = self.score(part, entropy=entropy_coefficient > 0.0)
        policy_loss = -weighted_sum(objective(scores.logprobs), weights)
        errors = value_error(scores.values, part.returns, part.values, value_clip)
        value_loss = weighted_sum(errors, weights)
        loss = policy_loss + self.config.value_coefficient * value_loss
        terms = {"policy_loss": policy_loss, "value_loss": value_loss}
        if entropy_coefficient > 0.0:
            entropy = weighted_sum(scores.entropy, weights)
            loss = loss - entropy_coefficient * entropy
            terms["entropy"] = entropy
        return LossParts(loss, scores.logprobs, terms)
