"""RAFT: supervised fine-tuning on the best of several completions to each prompt.

Paper: Dong et al. 2023, "RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment" (arXiv 2304.06767),
algorithm 1.

    y*  = the completion with the largest reward of the K to a prompt; the first of equals
    L   = −Σ_{y*} Σ_t log π_θ(y*_t | x, y*_<t) / Σ_{y*} |y*|

Deviations from the paper: every iteration samples from the policy as it is, from `episodes_per_iteration` / K prompts,
and takes the steps of `epochs` passes; the paper's batch of prompts is larger and its sampling temperature a setting of
its own. The KL to the reference policy, an option of the paper's reward, is `kl.coefficient`, 0 by default. The
optimizer is Adam, the gradient's norm is clipped.

TRL has no RAFT; the loss is Hugging Face's cross-entropy on the best completions (tests/oracle).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.functional import first_of_the_best, token_weights
from lmrl_bench.algorithms.groups import GroupAlgorithm, GroupConfig, RewardKLConfig
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.data.episodes import Episodes


class RAFTConfig(GroupConfig):
    """Settings of RAFT."""

    group_size: int = Field(
        8, ge=2, description="K, completions per prompt, of which the best is learned"
    )
    kl: RewardKLConfig = Field(
        default_factory=lambda: RewardKLConfig(), description="the KL charge in the reward; off"
    )


class RAFT(GroupAlgorithm):
    """Reward-ranked fine-tuning."""

    config_class: ClassVar[type[AlgorithmConfig]] = RAFTConfig
    summary: ClassVar[str] = "RAFT (arXiv 2304.06767): maximum likelihood of the best of each group"
    config: RAFTConfig

    def relative(self, returns: Tensor, group_ids: Tensor) -> Tensor:
        """Returns 1 for the best completion of each group, 0 for the others."""
        return first_of_the_best(returns, group_ids).double()

    def objective(self, logprobs: Tensor, ratio: Tensor, advantages: Tensor) -> Tensor:
        """Returns the log-likelihood of the best completions."""
        del ratio
        return logprobs * advantages

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns weights with which every token of the best completions counts the same, the others not."""
        return token_weights(episodes.mask & (episodes.advantages != 0.0), "token-mean")
