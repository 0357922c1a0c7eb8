"""Base of algorithms with a critic: GAE over its values, whitening, and one loss for policy and critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.base import TextAlgorithm
from lmrl_bench.algorithms.functional import (
    Aggregation,
    explained_variance,
    gae,
    token_weights,
    weighted_sum,
    whiten,
)
from lmrl_bench.algorithms.gradient import LossParts
from lmrl_bench.algorithms.settings import OnPolicyConfig
from lmrl_bench.data.episodes import Episodes


class CriticConfig(OnPolicyConfig):
    """Settings of algorithms with a critic."""

    gamma: float = Field(1.0, gt=0.0, le=1.0, description="discount per token")
    gae_lambda: float = Field(0.95, ge=0.0, le=1.0, description="λ of the advantage estimate")
    normalize_advantage: bool = Field(
        True, description="shift and scale advantages over the tokens of each minibatch"
    )
    aggregation: Aggregation = Field(
        "token-mean",
        description="token-mean: every token of a minibatch counts the same; sequence-mean: every episode",
    )
    bootstrap_truncated: bool = Field(
        False,
        description="add the critic's value after the last token of episodes cut at the length cap",
    )


class CriticAlgorithm(TextAlgorithm):
    """Base of the algorithms with a critic, `self.policy.critic`."""

    uses_critic: ClassVar[bool] = True
    config: CriticConfig

    def advantages(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """Returns GAE's advantages and returns, `(B, T)` each."""
        return gae(
            episodes.rewards,
            episodes.values,
            episodes.mask,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
            bootstrap=self._bootstrap(episodes),
        )

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns each token's weight by the configured aggregation, `(B, T)`."""
        return token_weights(episodes.mask, self.config.aggregation)

    def normalized(self, minibatch: Episodes) -> Episodes:
        """Returns the minibatch with its advantages whitened over its own tokens, if that is configured."""
        if not self.config.normalize_advantage:
            return minibatch
        return minibatch.replace(advantages=whiten(minibatch.advantages, minibatch.mask))

    def explained_variance(self, episodes: Episodes) -> float:
        """Returns the share of the returns' variance that the rollout-time values explain."""
        return explained_variance(episodes.values, episodes.returns, episodes.mask)

    def _bootstrap(self, episodes: Episodes) -> Tensor | None:
        """The value after the last token of truncated episodes, `(B,)`, where that is configured."""
        if not self.config.bootstrap_truncated:
            return None
        final = self.policy.critic.final_values(episodes.tokens)
        return torch.where(episodes.truncated, final, 0.0)


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
            objective: Maps the policy's log-probabilities `(N, T)` to `J`, `(N, T)`, to be maximized.
            value_clip: Clip value predictions to this distance from the rollout's; None: do not clip.
        """
        entropy_coefficient, critic = self.config.entropy_coefficient, self.policy.critic
        joint = critic.reads_policy_states  # then one forward serves policy and critic
        scores = self.score(part, values=joint, entropy=entropy_coefficient > 0.0)
        policy_loss = -weighted_sum(objective(scores.logprobs), weights)
        errors = critic.loss(part, scores.values if joint else None, value_clip)
        value_loss = weighted_sum(errors, weights)
        loss = policy_loss + self.config.value_coefficient * value_loss
        terms = {"policy_loss": policy_loss, "value_loss": value_loss}
        if entropy_coefficient > 0.0:
            entropy = weighted_sum(scores.entropy, weights)
            loss = loss - entropy_coefficient * entropy
            terms["entropy"] = entropy
        return LossParts(loss, scores.logprobs, terms)
