"""REINFORCE++: PPO's clipped surrogate with Monte-Carlo returns, whitened over the whole batch, instead of a critic.

Paper: Hu et al. 2025, "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization"
(arXiv 2501.03262), section 3.

    r_t = [t = last] r − β (log π_old(y_t) − log π_ref(y_t))         the KL charge of every algorithm here, k1
    G_t = Σ_{k ≥ t} r_k
    A_t = (G_t − mean G) / std G                       over all tokens of the iteration's batch
    ρ_t = π_θ(y_t | x, y_<t) / π_old(y_t | x, y_<t)
    L   = −mean_t min(ρ_t A_t, clip(ρ_t, 1 − ε, 1 + ε) A_t)

The baseline is the whole batch, so one completion per prompt is enough (`group_size` 1), and a prompt that is always
solved does not divide by a standard deviation near 0.

Deviations from the paper: the optimizer is Adam, the gradient's norm is clipped; the reward is not clipped.

Deviations from verl (`compute_reinforce_plus_plus_outcome_advantage`): none in the advantages but the 1e-8 that it adds
under the root and not to the deviation (tests/oracle has its formula). Means over tokens are over the minibatch.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.functional import gae, token_weights, whiten
from lmrl_bench.algorithms.groups import ClippedGroupConfig, GroupAlgorithm
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.kl import KLConfig
from lmrl_bench.data.episodes import Episodes


class ReinforcePlusPlusConfig(ClippedGroupConfig):
    """Settings of REINFORCE++."""

    group_size: int = Field(
        1, gt=0, description="completions per prompt; divides episodes_per_iteration"
    )
    kl: KLConfig = Field(  # type: ignore[assignment]
        default_factory=lambda: KLConfig(), description="the KL charge in the reward"
    )


class ReinforcePlusPlus(GroupAlgorithm):
    """REINFORCE with global advantage normalization."""

    config_class: ClassVar[type[AlgorithmConfig]] = ReinforcePlusPlusConfig
    summary: ClassVar[str] = "REINFORCE++ (arXiv 2501.03262): advantages whitened over the batch"
    config: ReinforcePlusPlusConfig

    def advantages(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """Returns whitened returns-to-go and the returns, `(B, T)` each."""
        zeros = torch.zeros_like(episodes.rewards)
        _, returns = gae(episodes.rewards, zeros, episodes.mask, gamma=1.0, gae_lambda=1.0)
        return whiten(returns, episodes.mask), returns

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns weights with which every token counts the same."""
        return token_weights(episodes.mask, "token-mean")

    def statistics(self, episodes: Episodes) -> dict[str, float]:
        """Returns nothing: groups may be of one completion."""
        del episodes
        return {}
