"""CISPO: the gradient of every token, weighted by a truncated importance ratio that takes no gradient itself.

Paper: MiniMax 2025, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention" (arXiv 2506.13585),
eq. 4 and 5.

    A_i = (R_i − mean R) / (std R + 1e-4)              over the G completions to a prompt
    ρ_t = π_θ(y_t | x, y_<t) / π_old(y_t | x, y_<t)
    L   = −Σ_i Σ_t sg(clip(ρ_t, 1 − ε, 1 + ε_high)) A_i log π_θ(y_t | x, y_<t) / Σ_i |y_i|

PPO's clip drops the gradient of tokens whose ratio left its range; here only their weight is bounded, so that rare but
decisive tokens keep theirs. sg is "stop gradient". As in the paper the ratio has no lower bound (`clip_range` null) and
there is no KL term. The paper tunes ε_high without giving it; 4 bounds the weight by 5, TRL's recommendation.

Deviations from the paper: the standard deviation has G − 1 in the denominator and 1e-4 added; the optimizer is
Adam, the gradient's norm is clipped.

Deviations from TRL (1.16, `loss_type="cispo"`): none in advantages, loss and gradient (tests/oracle); its
`epsilon_high` is the bound itself, 1 + ε_high here. The old log-probabilities are the sampler's own; dropout stays off.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.functional import token_weights
from lmrl_bench.algorithms.groups import GroupAlgorithm, GroupConfig, RewardKLConfig
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.data.episodes import Episodes


class CISPOConfig(GroupConfig):
    """Settings of CISPO."""

    clip_range: float | None = Field(
        None, gt=0.0, le=1.0, description="ε below 1; null: small ratios keep their weight"
    )
    clip_range_high: float = Field(4.0, gt=0.0, description="ε above 1: weights are at most 1 + ε")
    kl: RewardKLConfig = Field(
        default_factory=lambda: RewardKLConfig(), description="the KL charge in the reward; off"
    )

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """ε below and above 1."""
        return self.clip_range, self.clip_range_high


class CISPO(GroupAlgorithm):
    """Clipped importance-sampling-weight policy optimization."""

    config_class: ClassVar[type[AlgorithmConfig]] = CISPOConfig
    summary: ClassVar[str] = (
        "CISPO (arXiv 2506.13585): truncated importance weights, no token dropped"
    )
    config: CISPOConfig

    def objective(self, logprobs: Tensor, ratio: Tensor, advantages: Tensor) -> Tensor:
        """Returns the log-likelihood, weighted by the truncated ratio and the advantage."""
        low = 0.0 if self.config.clip_range is None else 1.0 - self.config.clip_range
        weight = ratio.clamp(low, 1.0 + self.config.clip_range_high).detach()
        return weight * advantages * logprobs

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns weights with which every token counts the same."""
        return token_weights(episodes.mask, "token-mean")
