"""A2C: one policy-gradient step on the whole batch.

Paper: Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning" (arXiv 1602.01783), section 4,
in its synchronous form.

    L = −mean (log π_θ(y_t | x, y_<t) A_t) + c_v mean (V − R)² − c_H mean H

Deviations from the paper: episodes are finished before the update, so that advantages are GAE's (λ = 1 gives
the paper's n-step return with n the length of the completion); advantages are whitened; the optimizer is Adam
unless `optimizer` says RMSprop; the reward holds a KL charge.

Deviations from Stable-Baselines3: the batch is made of whole episodes and may be split for memory without
changing the step; dropout stays off; a linear learning rate is set by the tokens at the iteration's start. On
one-token episodes an update equals SB3's (tests/oracle). A2C is PPO with one epoch, one minibatch and no clip
(tested, as arXiv 2205.09123 shows).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.critic import ActorCriticAlgorithm, ActorCriticConfig
from lmrl_bench.algorithms.gradient import LossParts, UpdateRecorder
from lmrl_bench.algorithms.interface import AlgorithmConfig, UpdateStats
from lmrl_bench.data.episodes import Episodes


class A2CConfig(ActorCriticConfig):
    """Settings of A2C."""

    optimizer: Literal["adam", "rmsprop"] = Field(
        "adam", description="rmsprop: PyTorch's with decay 0.99, as in Stable-Baselines3"
    )


class A2C(ActorCriticAlgorithm):
    """Advantage actor-critic."""

    config_class: ClassVar[type[AlgorithmConfig]] = A2CConfig
    summary: ClassVar[str] = "A2C (arXiv 1602.01783): one policy-gradient step per iteration"
    config: A2CConfig

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Returns Adam or RMSprop."""
        if self.config.optimizer == "adam":
            return super().make_optimizer()
        return torch.optim.RMSprop(
            self.parameters, lr=self.config.learning_rate, alpha=0.99, eps=self.config.adam_epsilon
        )

    def update(self, batch: Episodes) -> UpdateStats:
        """Takes one gradient step."""
        recorder = UpdateRecorder()
        minibatch = self.normalized(batch)
        recorder.add(minibatch, self.gradient_step(minibatch, self._loss))
        return recorder.stats(explained_variance=self.explained_variance(batch))

    def _loss(self, part: Episodes, weights: Tensor) -> LossParts:
        return self.actor_critic_loss(part, weights, lambda logprobs: logprobs * part.advantages)
