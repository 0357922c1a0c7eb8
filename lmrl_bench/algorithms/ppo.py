"""PPO: several epochs on a clipped surrogate.

Paper: Schulman et al. 2017, "Proximal Policy Optimization Algorithms" (arXiv 1707.06347), eq. 7 and 9; for
language models Ziegler et al. 2019 (arXiv 1909.08593).

    ρ_t = π_θ(y_t | x, y_<t) / π_old(y_t | x, y_<t)
    J_t = min(ρ_t A_t, clip(ρ_t, 1 − ε, 1 + ε) A_t)
    L   = −mean J + c_v mean (V − R)² − c_H mean H

Deviations from the paper: advantages are whitened per minibatch; the gradient's norm is clipped; Adam's ε is
1e-5; the reward holds a KL charge (Ziegler).

Deviations from Stable-Baselines3: minibatches are made of whole episodes, not of tokens, so that one forward
serves a sequence; means are over the tokens of the whole minibatch however it is split for memory; a linear
learning rate is set by the tokens at the iteration's start, so that the last update still moves; dropout
stays off. On one-token episodes, and on whole completions in one minibatch, an update equals SB3's (tests/oracle).
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor

from lmrl_bench.algorithms.critic import ActorCriticAlgorithm, ActorCriticConfig
from lmrl_bench.algorithms.functional import (
    clipped_surrogate,
    kl_k3,
    masked_mean,
)
from lmrl_bench.algorithms.gradient import LossParts, UpdateRecorder, shuffled
from lmrl_bench.algorithms.interface import AlgorithmConfig, UpdateStats
from lmrl_bench.algorithms.search import OneOf, SearchSpace
from lmrl_bench.data.episodes import Episodes


class PPOConfig(ActorCriticConfig):
    """Settings of PPO."""

    search_space: ClassVar[SearchSpace] = {
        **ActorCriticConfig.search_space,
        "epochs": OneOf((1, 2, 4)),
    }

    epochs: int = Field(4, gt=0, description="passes over each iteration's episodes")
    minibatch_episodes: int = Field(
        16, gt=0, description="episodes per gradient step; divides episodes_per_iteration"
    )
    clip_range: float = Field(0.2, gt=0.0, description="ε of the surrogate")
    value_clip_range: float | None = Field(
        None, gt=0.0, description="keep values within this distance of the rollout's; null: free"
    )
    target_kl: float | None = Field(
        None,
        gt=0.0,
        description="nats per token: the update ends before a step at 1.5 times this distance from the old policy",
    )

    @model_validator(mode="after")
    def _minibatches_fill_an_iteration(self) -> Self:
        if self.episodes_per_iteration % self.minibatch_episodes:
            raise ValueError(
                f"minibatch_episodes ({self.minibatch_episodes}) must divide "
                f"episodes_per_iteration ({self.episodes_per_iteration})"
            )
        return self


class PPO(ActorCriticAlgorithm):
    """Proximal policy optimization."""

    config_class: ClassVar[type[AlgorithmConfig]] = PPOConfig
    summary: ClassVar[str] = "PPO (arXiv 1707.06347): several epochs on a clipped surrogate"
    config: PPOConfig

    def update(self, batch: Episodes) -> UpdateStats:
        """Takes `epochs` × minibatches gradient steps, or fewer with `target_kl`."""
        recorder = UpdateRecorder(self.config.clip_range)
        for _ in range(self.config.epochs):
            for rows in shuffled(len(batch), self.config.minibatch_episodes, self.shuffle_rng):
                minibatch = self.normalized(batch.select(rows))
                result = self.gradient_step(
                    minibatch, self._loss, proceed=partial(self._is_near, minibatch)
                )
                recorder.add(minibatch, result)
                if not result.applied:
                    return self._stats(recorder, batch)
        return self._stats(recorder, batch)

    def _loss(self, part: Episodes, weights: Tensor) -> LossParts:
        def objective(logprobs: Tensor) -> Tensor:
            ratio = (logprobs - part.behavior_logprobs).exp()
            return clipped_surrogate(ratio, part.advantages, self.config.clip_range)

        return self.actor_critic_loss(part, weights, objective, self.config.value_clip_range)

    def _is_near(self, minibatch: Episodes, logprobs: Tensor) -> bool:
        """Returns whether the policy is still close enough to the sampling policy for another step."""
        if self.config.target_kl is None:
            return True
        distance = masked_mean(kl_k3(minibatch.behavior_logprobs, logprobs), minibatch.mask)
        return float(distance) <= 1.5 * self.config.target_kl

    def _stats(self, recorder: UpdateRecorder, batch: Episodes) -> UpdateStats:
        return recorder.stats(explained_variance=self.explained_variance(batch))
