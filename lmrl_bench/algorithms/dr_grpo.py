"""Dr. GRPO: GRPO without its two biases.

Paper: Liu et al. 2025, "Understanding R1-Zero-Like Training: A Critical Perspective" (arXiv 2503.20783), section 3.

    A_i = R_i − mean R                                 over the G completions to a prompt; not divided by their std
    ρ_t = π_θ(y_t | x, y_<t) / π_old(y_t | x, y_<t)
    L   = −1/(B L_max) Σ_i Σ_t min(ρ_t A_i, clip(ρ_t, 1 − ε, 1 + ε) A_i)

L_max is the task's longest completion, a constant, so that long wrong completions are not punished less per token; and
questions that are too easy or too hard do not weigh more. There is no KL term (β = 0, as in the paper).

Deviations from the paper: the sum over tokens is divided by the constant L_max, which the paper leaves to the learning
rate (its code does divide); the optimizer is Adam, the gradient's norm is clipped.

Deviations from TRL (1.16, `loss_type="dr_grpo"`, `scale_rewards="none"`): none in advantages, loss and gradient
(tests/oracle). The old log-probabilities are the sampler's own; dropout stays off. It is `grpo` with `divide_by_std`
false, `aggregation` constant and no KL loss.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lmrl_bench.algorithms.functional import constant_weights, group_mean
from lmrl_bench.algorithms.groups import ClippedGroupConfig, GroupAlgorithm
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.data.episodes import Episodes


class DrGRPOConfig(ClippedGroupConfig):
    """Settings of Dr. GRPO."""


class DrGRPO(GroupAlgorithm):
    """GRPO done right."""

    config_class: ClassVar[type[AlgorithmConfig]] = DrGRPOConfig
    summary: ClassVar[str] = "Dr. GRPO (arXiv 2503.20783): GRPO without division by std and length"
    config: DrGRPOConfig

    def relative(self, returns: Tensor, group_ids: Tensor) -> Tensor:
        """Returns each return minus the group's mean."""
        return returns - group_mean(returns, group_ids)

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns the same constant at every token, `(B, T)`."""
        return constant_weights(episodes.mask, self.core.task.spec.completion.max_tokens)
