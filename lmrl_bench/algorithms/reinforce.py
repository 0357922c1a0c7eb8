"""REINFORCE: Monte-Carlo policy gradient with a baseline that needs no critic.

Paper: Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning" (Machine Learning 8), episodic REINFORCE with a reinforcement baseline.

    G_t = Σ_{k ≥ t} γ^(k−t) r_k
    L   = −mean log π_θ(y_t | x, y_<t) (G_t − b)
    b   = 0                                 `none`
        = mean over the batch of G_1        `batch-mean`
        = b̄,  b̄ ← d b̄ + (1 − d) mean G_1    `moving-average`, moved after the update; the first batch has its mean

Episodes cut at the length cap are rewarded as they stand; without a critic there is nothing to bootstrap with.

Deviations from the paper: the sum over a completion's tokens is divided by the number of tokens of the batch, not
of episodes, which scales the gradient and leaves its direction; `batch-mean` holds the episode's own return, so
that where γ is 1 it shrinks the expected gradient by (B − 1)/B (`rloo` leaves it out); the optimizer is Adam; the
gradient's norm is clipped; the reward holds a KL charge.

TRL has no REINFORCE. With one group, `batch-mean` is `grpo` without the standard deviation, and `rloo` but
for the factor B/(B − 1) (tested).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lmrl_bench.algorithms.base import TextAlgorithm
from lmrl_bench.algorithms.functional import gae, weighted_sum
from lmrl_bench.algorithms.gradient import LossParts, UpdateRecorder
from lmrl_bench.algorithms.interface import AlgorithmConfig, UpdateStats
from lmrl_bench.algorithms.settings import OnPolicyConfig
from lmrl_bench.data.episodes import Episodes


class ReinforceConfig(OnPolicyConfig):
    """Settings of REINFORCE."""

    gamma: float = Field(1.0, gt=0.0, le=1.0, description="discount per token")
    baseline: Literal["none", "batch-mean", "moving-average"] = Field(
        "batch-mean", description="b, what is subtracted from the returns"
    )
    baseline_decay: float = Field(
        0.9, ge=0.0, lt=1.0, description="d of the moving average, per iteration"
    )


class MovingAverage(nn.Module):
    """An exponential moving average that begins with its first value; a module, so that it is saved."""

    value: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("value", torch.full((), torch.nan, dtype=torch.float64))

    def update(self, new: float) -> None:
        """Moves the average towards `new`."""
        old = float(self.value)
        self.value.fill_(new if old != old else self.decay * old + (1.0 - self.decay) * new)


class Reinforce(TextAlgorithm):
    """Monte-Carlo policy gradient."""

    config_class: ClassVar[type[AlgorithmConfig]] = ReinforceConfig
    summary: ClassVar[str] = "REINFORCE (Williams 1992): Monte-Carlo policy gradient, no critic"
    config: ReinforceConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.average = MovingAverage(self.config.baseline_decay)

    def owned_modules(self) -> dict[str, nn.Module]:
        """Returns the moving average, which is saved with the policy."""
        return {"average": self.average}

    def advantages(self, batch: Episodes) -> tuple[Tensor, Tensor]:
        """Returns `G − b` and `G`."""
        mask = batch.mask
        no_values = torch.zeros_like(batch.rewards)
        _, returns = gae(batch.rewards, no_values, mask, gamma=self.config.gamma, gae_lambda=1.0)
        baseline = self._baseline(_mean_return(returns, mask))
        centered = (returns.double() - baseline).float()
        return centered.masked_fill(~mask, 0.0), returns

    def update(self, batch: Episodes) -> UpdateStats:
        """Takes one gradient step, then moves the average."""
        recorder = UpdateRecorder()
        recorder.add(batch, self.gradient_step(batch, self._loss))
        mean = _mean_return(batch.returns, batch.mask)
        stats = recorder.stats(baseline=self._baseline(mean))
        self.average.update(mean)
        return stats

    def _loss(self, part: Episodes, weights: Tensor) -> LossParts:
        logprobs = self.score(part).logprobs
        loss = -weighted_sum(logprobs * part.advantages, weights)
        return LossParts(loss, logprobs, {"policy_loss": loss})

    def _baseline(self, mean_return: float) -> float:
        """Returns b for a batch with that mean return."""
        if self.config.baseline == "none":
            return 0.0
        past = float(self.average.value)
        return mean_return if self.config.baseline == "batch-mean" or past != past else past


def _mean_return(returns: Tensor, mask: Tensor) -> float:
    """Returns the mean over episodes of the return from their first token."""
    first = mask.int().argmax(dim=1, keepdim=True)
    return float(returns.gather(1, first).double().mean())
