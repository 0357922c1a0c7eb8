"""DAPO: GRPO that clips higher, samples dynamically, averages over tokens and punishes overlong completions.

Paper: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale" (arXiv 2503.14476), section 3.

    R_i = r_i − f max(0, |y_i| − (L_max − L_cache)) / L_cache        soft overlong penalty, eq. 13; f = 1 in the paper
    A_i = (R_i − mean R) / (std R + 1e-4)              over the G completions to a prompt
    ρ_t = π_θ(y_t | x, y_<t) / π_old(y_t | x, y_<t)
    L   = −Σ_i Σ_t min(ρ_t A_i, clip(ρ_t, 1 − ε, 1 + ε_high) A_i) / Σ_i |y_i|

ε_high > ε leaves unlikely tokens room to become likely. Dynamic sampling draws further prompts until the iteration is
filled with groups whose scores differ, at most `max_sampling_rounds` times; groups of equal scores, which have no
gradient, fill what is still missing then. Every generated token counts against the budget, those of dropped groups too.
In the log, `update/terms/kept_share` is the share of groups that stay, `rollout/score` is the mean score of their
completions, and `update/terms/sampled_score` that of all completions. There is no KL term.

Deviations from the paper: it drops groups in which all answers are right or all wrong, that is, of equal scores where
the score is 0 or 1; the standard deviation has G − 1 in the denominator and 1e-4 added; the optimizer is Adam, the
gradient's norm is clipped; the length penalty begins at four fifths of the task's longest completion unless
`overlong_buffer_tokens` says otherwise (4,096 of 20,480 tokens in the paper).

Deviations from TRL (1.16, `loss_type="dapo"`): none in advantages, loss and gradient (tests/oracle); TRL has neither
dynamic sampling nor the length penalty. verl draws whole batches again, at most 10 times by default; here only the
missing groups. The old log-probabilities are the sampler's own; dropout stays off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from lmrl_bench.algorithms.functional import token_weights
from lmrl_bench.algorithms.groups import ClippedGroupConfig, GroupAlgorithm
from lmrl_bench.algorithms.interface import AlgorithmConfig
from lmrl_bench.data.episodes import Episodes
from lmrl_bench.rewards.transforms import RewardTransform, SoftOverlong
from lmrl_bench.rollouts.collectors import OnPolicyCollector
from lmrl_bench.rollouts.dynamic_sampling import DynamicSamplingCollector


class DAPOConfig(ClippedGroupConfig):
    """Settings of DAPO."""

    clip_range_high: float | None = Field(0.28, gt=0.0, description="ε above 1; null: clip_range")
    max_sampling_rounds: int = Field(
        10,
        gt=0,
        description="draws per iteration until all groups have unequal scores; 1: no dynamic sampling",
    )
    overlong_buffer_tokens: int | None = Field(
        None, gt=0, description="L_cache; null: a fifth of the task's longest completion"
    )
    overlong_penalty: float = Field(
        1.0,
        ge=0.0,
        description="f, reward lost by a completion of the longest length; 0: no penalty",
    )


class DAPO(GroupAlgorithm):
    """Decoupled clip and dynamic sampling policy optimization."""

    config_class: ClassVar[type[AlgorithmConfig]] = DAPOConfig
    summary: ClassVar[str] = (
        "DAPO (arXiv 2503.14476): clip-higher, dynamic sampling, token-level loss"
    )
    config: DAPOConfig

    @property
    def transforms(self) -> Sequence[RewardTransform]:
        """The soft overlong penalty."""
        longest = self.core.task.spec.completion.max_tokens
        penalty = SoftOverlong(
            self.config.overlong_buffer_tokens or max(longest // 5, 1), self.config.overlong_penalty
        )
        penalty.check((), longest)
        return (penalty,)

    def make_collector(self) -> DynamicSamplingCollector:
        """Returns a collector that resamples groups of equal scores."""
        collector = super().make_collector()
        assert isinstance(collector, OnPolicyCollector)
        return DynamicSamplingCollector(collector, self.config.max_sampling_rounds)

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns weights with which every token counts the same."""
        return token_weights(episodes.mask, "token-mean")
