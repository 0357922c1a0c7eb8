"""What algorithms with a critic share: advantages by GAE over its values, whitening, bootstrapping."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.base import TextOnPolicyAlgorithm
from lmrl_bench.algorithms.functional import Aggregation, gae, token_weights, whiten
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


class CriticAlgorithm(TextOnPolicyAlgorithm):
    """Base of the algorithms with a critic."""

    uses_critic: ClassVar[bool] = True
    config: CriticConfig

    def advantages(self, batch: Episodes) -> tuple[Tensor, Tensor]:
        """Returns GAE's advantages and returns, `(B, T)` each."""
        return gae(
            batch.rewards,
            batch.values,
            batch.mask,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
            bootstrap=self._bootstrap(batch),
        )

    def weights(self, batch: Episodes) -> Tensor:
        """Returns each token's weight by the configured aggregation, `(B, T)`."""
        return token_weights(batch.mask, self.config.aggregation)

    def normalized(self, minibatch: Episodes) -> Episodes:
        """Returns the minibatch with its advantages whitened over its own tokens, if that is configured."""
        if not self.config.normalize_advantage:
            return minibatch
        return minibatch.replace(advantages=whiten(minibatch.advantages, minibatch.mask))

    def _bootstrap(self, batch: Episodes) -> Tensor | None:
        """The value after the last token of truncated episodes, `(B,)`, where that is configured."""
        if not self.config.bootstrap_truncated:
            return None
        final = self.policy.final_values(batch.tokens)
        return torch.where(batch.truncated, final, 0.0)
