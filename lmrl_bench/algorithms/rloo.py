"""RLOO: REINFORCE on whole responses, each compared with the others to the same prompt.

Paper: Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human
Feedback in LLMs" (arXiv 2402.14740); the estimator is Kool et al.'s (2019).

    R_i = Σ_t r_t of response i: the task's reward minus the KL charge
    A_i = R_i − 1/(G − 1) Σ_{j ≠ i} R_j                over the G responses to a prompt
    ρ_i = π_θ(y_i | x) / π_old(y_i | x)                of the whole response: one action
    L   = −mean_i min(ρ_i A_i, clip(ρ_i, 1 − ε, 1 + ε) A_i)

As long as ρ is 1 (the default is one step per iteration) the gradient is REINFORCE's, −mean A_i ∇ log π_θ(y_i | x).
There is no discount within a response. Episodes cut at the length cap are compared as they stand, truncated or not.

Deviations from the paper: its estimator has no ratio; ρ and its clip are TRL's, and matter with more epochs or
minibatches only. The optimizer is Adam, the gradient's norm is clipped.

Deviations from TRL (1.16): none in advantages, loss and gradient (tests/oracle); advantages are never normalized,
which is TRL's default. The old log-probabilities are the sampler's own and not computed again; dropout stays off.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor

from lmrl_bench.algorithms.base import TextAlgorithm
from lmrl_bench.algorithms.functional import (
    at_tokens,
    clipped_surrogate,
    episode_returns,
    leave_one_out,
    share_of_equal_groups,
    token_weights,
    weighted_sum,
)
from lmrl_bench.algorithms.gradient import LossParts, UpdateRecorder, shuffled
from lmrl_bench.algorithms.interface import AlgorithmConfig, UpdateStats
from lmrl_bench.algorithms.settings import GroupConfig
from lmrl_bench.data.episodes import Episodes


class RLOOConfig(GroupConfig):
    """Settings of RLOO."""

    group_size: int = Field(
        4, ge=2, description="G, responses per prompt; divides episodes_per_iteration"
    )
    clip_range: float = Field(0.2, gt=0.0, description="ε, for the ratio of whole responses")

    @model_validator(mode="after")
    def _only_in_float32(self) -> Self:
        if self.autocast != "none":
            raise ValueError(
                "autocast: bfloat16's rounding of all tokens adds up in the ratio of a whole response; set it to none"
            )
        return self


class RLOO(TextAlgorithm):
    """REINFORCE leave-one-out."""

    config_class: ClassVar[type[AlgorithmConfig]] = RLOOConfig
    summary: ClassVar[str] = (
        "RLOO (arXiv 2402.14740): whole responses against the others to the same prompt, no critic"
    )
    config: RLOOConfig

    def advantages(self, batch: Episodes) -> tuple[Tensor, Tensor]:
        """Returns A and R of each response, at all of its tokens."""
        mask = batch.mask
        returns = episode_returns(batch.rewards, mask)
        return at_tokens(leave_one_out(returns, batch.group_ids), mask), at_tokens(returns, mask)

    def weights(self, batch: Episodes) -> Tensor:
        """Returns weights whose sum over a response's tokens is 1/B: responses count the same."""
        return token_weights(batch.mask, "sequence-mean")

    def update(self, batch: Episodes) -> UpdateStats:
        """Takes `epochs` × minibatches gradient steps."""
        recorder = UpdateRecorder(self.config.clip_range)
        for _ in range(self.config.epochs):
            for rows in shuffled(len(batch), self.config.step_episodes, self.shuffle_rng):
                minibatch = batch.select(rows)
                result = self.gradient_step(minibatch, self._loss)
                recorder.add(minibatch, result, response_log_ratio(result.logprobs, minibatch))
        return recorder.stats(equal_scores=share_of_equal_groups(batch.scores, batch.group_ids))

    def _loss(self, part: Episodes, weights: Tensor) -> LossParts:
        logprobs = self.score(part).logprobs
        ratio = response_log_ratio(logprobs, part).exp()
        # Every token of a response has the response's ratio and advantage; the weights make one of them.
        advantages = part.advantages.masked_fill(~part.mask, 0.0)
        objective = clipped_surrogate(ratio, advantages, self.config.clip_range)
        loss = -weighted_sum(objective, weights)
        return LossParts(loss, logprobs, {"policy_loss": loss})


def response_log_ratio(logprobs: Tensor, part: Episodes) -> Tensor:
    """Returns `log ρ` of each response, at all of its columns, `(B, T)`."""
    difference = (logprobs - part.behavior_logprobs).masked_fill(~part.mask, 0.0)
    return difference.sum(dim=1, keepdim=True).expand_as(difference)
