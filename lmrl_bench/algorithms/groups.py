"""The family of algorithms that compare completions to the same prompt: no critic, the group is the baseline.

    L = −Σ_{i,t} w_{i,t} J(ρ_{i,t}, A_i)

A member chooses four things, each a method of a few lines:

| method | what it chooses | examples |
|---|---|---|
| `relative` | A, the advantage of a completion among its group | standardized, centered, leave-one-out |
| `log_ratio` | log ρ, the importance of a token or of a whole completion | per token, sum or mean over the completion |
| `objective` | J, the surrogate to be maximized | clipped, detached and truncated weight, plain likelihood |
| `weights` | w, how tokens are aggregated | every token the same, every completion the same, a constant |
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor

from lmrl_bench.algorithms.base import TextAlgorithm
from lmrl_bench.algorithms.functional import (
    at_tokens,
    clipped_surrogate,
    episode_returns,
    share_of_equal_groups,
    standardized,
    token_weights,
    weighted_sum,
)
from lmrl_bench.algorithms.gradient import LossParts, UpdateRecorder, shuffled
from lmrl_bench.algorithms.interface import UpdateStats
from lmrl_bench.algorithms.kl import KLConfig
from lmrl_bench.algorithms.settings import OnPolicyConfig
from lmrl_bench.data.episodes import Episodes


class RewardKLConfig(KLConfig):
    """The KL charge in the reward as everywhere, but off until it is asked for."""

    coefficient: float = Field(
        0.0, ge=0.0, description="β, reward per nat; the start value where a target is set"
    )


class GroupConfig(OnPolicyConfig):
    """Settings of algorithms whose baseline is the other completions to the same prompt."""

    group_size: int = Field(
        8, ge=2, description="G, completions per prompt; divides episodes_per_iteration"
    )
    epochs: int = Field(1, gt=0, description="passes over each iteration's episodes")
    minibatch_episodes: int | None = Field(
        None,
        gt=0,
        description="episodes per gradient step; divides episodes_per_iteration; null: all of them",
    )

    @property
    def step_episodes(self) -> int:
        """Episodes per gradient step."""
        return self.minibatch_episodes or self.episodes_per_iteration

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """Clip range of the ratio below and above 1; None on a side without clipping."""
        return None, None

    @model_validator(mode="after")
    def _minibatches_fill_an_iteration(self) -> Self:
        if self.episodes_per_iteration % self.step_episodes:
            raise ValueError(
                f"minibatch_episodes ({self.minibatch_episodes}) must divide "
                f"episodes_per_iteration ({self.episodes_per_iteration})"
            )
        return self


class ClippedGroupConfig(GroupConfig):
    """Settings of group algorithms with a clipped ratio; the KL is not charged unless that is asked for."""

    clip_range: float = Field(0.2, gt=0.0, description="ε of the surrogate")
    clip_range_high: float | None = Field(None, gt=0.0, description="ε above 1; null: clip_range")
    kl: RewardKLConfig = Field(
        default_factory=lambda: RewardKLConfig(), description="the KL charge in the reward; off"
    )

    @property
    def clip(self) -> tuple[float | None, float | None]:
        """ε below and above 1."""
        return self.clip_range, self.clip_range_high


class GroupAlgorithm(TextAlgorithm):
    """Base of the group algorithms; as it is, GRPO without a KL term."""

    config: GroupConfig

    def relative(self, returns: Tensor, group_ids: Tensor) -> Tensor:
        """Returns the advantage of each completion, `(B,)`, from the returns `(B,)` float64 and their groups."""
        return standardized(returns, group_ids)

    def log_ratio(self, difference: Tensor, mask: Tensor) -> Tensor:
        """Returns log ρ at every token, `(N, T)`.

        Args:
            difference: `(N, T)`, log π_θ − log π_old of each token, 0 where the mask is false.
            mask: `(N, T)` bool.
        """
        del mask
        return difference

    def objective(self, logprobs: Tensor, ratio: Tensor, advantages: Tensor) -> Tensor:
        """Returns J of every token, `(N, T)`, to be maximized; all arguments are `(N, T)`."""
        del logprobs
        low, high = self.config.clip
        assert low is not None
        return clipped_surrogate(ratio, advantages, low, high)

    def regularized(
        self, policy: LossParts, part: Episodes, ratio: Tensor, weights: Tensor
    ) -> LossParts:
        """Returns the loss with further terms; none by default."""
        del part, ratio, weights
        return policy

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns w of every token, `(B, T)`: completions count the same."""
        return token_weights(episodes.mask, "sequence-mean")

    def statistics(self, episodes: Episodes) -> dict[str, float]:
        """Returns further numbers for the log."""
        return {"equal_scores": share_of_equal_groups(episodes.scores, episodes.group_ids)}

    # -- the same for all ---------------------------------------------------------------------------

    def advantages(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """Returns A and R of each completion, at all of its tokens."""
        mask = episodes.mask
        returns = episode_returns(episodes.rewards, mask)
        return at_tokens(self.relative(returns, episodes.group_ids), mask), at_tokens(returns, mask)

    def update(self, episodes: Episodes) -> UpdateStats:
        """Takes `epochs` × minibatches gradient steps."""
        recorder = UpdateRecorder(*self.config.clip)
        for _ in range(self.config.epochs):
            for index in shuffled(len(episodes), self.config.step_episodes, self.shuffle_rng):
                minibatch = episodes.select(index)
                result = self.gradient_step(minibatch, self._loss)
                recorder.add(minibatch, result, self._log_ratio(result.logprobs, minibatch))
        return recorder.stats(**self.statistics(episodes))

    def _loss(self, part: Episodes, weights: Tensor) -> LossParts:
        logprobs = self.score(part).logprobs
        # A completion's ratio may mix all its columns, so nothing after its end may be in them.
        advantages = part.advantages.masked_fill(~part.mask, 0.0)
        ratio = self._log_ratio(logprobs, part).exp()
        loss = -weighted_sum(self.objective(logprobs, ratio, advantages), weights)
        return self.regularized(
            LossParts(loss, logprobs, {"policy_loss": loss}), part, ratio, weights
        )

    def _log_ratio(self, logprobs: Tensor, part: Episodes) -> Tensor:
        difference = (logprobs - part.behavior_logprobs).masked_fill(~part.mask, 0.0)
        return self.log_ratio(difference, part.mask)
