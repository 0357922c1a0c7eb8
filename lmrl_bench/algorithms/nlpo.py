"""NLPO: PPO that acts through a learned top-p filter.

Paper: Ramamurthy et al. 2022, "Is Reinforcement Learning (Not) for Natural Language Processing?" (arXiv
2210.01241), section 4 and algorithm 1.

    Z_t   = the smallest set of tokens that holds probability p under the mask policy π_ψ(· | x, y_<t)
    π̃_θ   = π_θ restricted to Z_t and renormalized; it acts, and it is scored
    ρ_t   = π̃_θ(y_t) / π̃_old(y_t), both under the mask that was in force when y_t was drawn
    ψ ← θ every k iterations

Deviations from the paper: EOS always passes the mask, so that a completion can end; the KL charge is between
masked policy and masked reference, because that is the policy that acts. The rest is `ppo`'s. With `top_p` 1
NLPO is PPO (tested).

Deviations from the released code (RL4LMs), which `nlpo-rl4lms` reproduces: there the mask is the initial
model's for ever and masked log-probabilities are not renormalized.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn

from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.algorithms.ppo import PPO, PPOConfig
from lmrl_bench.algorithms.search import OneOf, SearchSpace
from lmrl_bench.models.behavior import TopPFilter


class FilteredPPOConfig(PPOConfig):
    """Settings of PPO through a top-p filter."""

    search_space: ClassVar[SearchSpace] = {
        **PPOConfig.search_space,
        "top_p": OneOf((0.8, 0.9, 0.95)),
    }

    top_p: float = Field(0.9, gt=0.0, le=1.0, description="probability that the mask's set holds")
    min_tokens_to_keep: int = Field(1, gt=0, description="the mask never keeps fewer tokens")


class FilteredPPO(PPO):
    """PPO that acts through a top-p filter taken from a copy of the policy."""

    filters_tokens: ClassVar[bool] = True
    config: FilteredPPOConfig

    def make_token_filter(self) -> TopPFilter:
        """Returns the top-p filter of the mask policy, which begins as the policy."""
        return TopPFilter(
            self.policy.network,
            self.behavior.vocabulary.eos_ids,
            top_p=self.config.top_p,
            min_tokens_to_keep=self.config.min_tokens_to_keep,
        )

    def owned_modules(self) -> dict[str, nn.Module]:
        """Returns the mask policy, which is saved with the policy."""
        assert self.token_filter is not None
        return {"token_filter": self.token_filter}


class NLPOConfig(FilteredPPOConfig):
    """Settings of NLPO."""

    filter_update_iterations: int = Field(
        5, gt=0, description="k: the mask policy takes the policy's weights every k iterations"
    )


class NLPO(FilteredPPO):
    """Natural language policy optimization."""

    config_class: ClassVar[type[AlgorithmConfig]] = NLPOConfig
    summary: ClassVar[str] = (
        "NLPO (arXiv 2210.01241): PPO through a lagged, renormalized top-p filter"
    )
    config: NLPOConfig

    def iteration_finished(self) -> None:
        """Moves the mask policy, only between one batch's update and the next batch, so that ratios start at 1."""
        if self.iteration % self.config.filter_update_iterations == 0:
            assert self.token_filter is not None
            self.token_filter.refresh(self.policy.network)
