"""The interface between the runner and an algorithm: settings, `learn`, a state, and statistics of each iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict

from lmrl_bench.algorithms.search import SearchSpace
from lmrl_bench.core.errors import AlgorithmError, DivergedError

if TYPE_CHECKING:
    from lmrl_bench.config.sampling import SamplingConfig
    from lmrl_bench.data.episodes import Episodes
    from lmrl_bench.envs.core import EpisodeCore
    from lmrl_bench.models.behavior import TopPFilter
    from lmrl_bench.policies.policy import LanguageModelPolicy

STATE_FORMAT = 1


class AlgorithmConfig(BaseModel):
    """Base of every algorithm's settings; unknown keys are refused.

    Attributes:
        search_space: what `lmrl-bench leaderboard tune` may change; empty: the algorithm is not tuned.
    """

    search_space: ClassVar[SearchSpace] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class UpdateStats:
    """Statistics of one update.

    Attributes:
        terms: means over the update's minibatches, by name: loss terms, entropy (nats per token), learning rate, …
        optimizer_steps: steps that changed parameters.
        gradient_norm: mean norm before clipping.
        approx_kl: nats per token between the policy that sampled and the one before the update's last step, so 0 for a
            single step; TRPO's is after its step.
        clip_fraction: mean share of tokens whose ratio was clipped.
        first_clip_fraction: the same in the first minibatch, before any step; above 0 the ratio did not start at 1.
        max_logprob_difference: nats, largest |sampled − scored| in the first minibatch, before any step (over the whole
            batch, where an algorithm scores another distribution than it draws from).
    """

    terms: Mapping[str, float]
    optimizer_steps: int
    gradient_norm: float
    approx_kl: float = 0.0
    clip_fraction: float = 0.0
    first_clip_fraction: float = 0.0
    max_logprob_difference: float = 0.0


@dataclass(frozen=True)
class RolloutStats:
    """Statistics of the rollout before the update.

    Attributes:
        score: the task's reward, mean over episodes, without any KL charge.
        reward: what the policy was trained on: the transformed score, dense rewards and the KL charge.
        components: reward component to its mean.
        kl: nats per episode against the reference, k1, summed over tokens; where the reward is charged, exactly what
            was charged, before β. None where training does not read the reference.
        kl_charged: β × `kl`.
        kl_coefficient: β of this iteration.
        entropy: nats per token of the distribution that acted, estimated by −log p of the tokens drawn.
        length: completion tokens, mean.
        truncated_share: episodes that met the length cap.
        tokens_per_second: generated completion tokens per second of generation.
        transformed: each reward transform to the mean score after it; empty without transforms.
    """

    score: float
    reward: float
    components: Mapping[str, float]
    kl: float | None
    kl_charged: float
    kl_coefficient: float
    entropy: float
    length: float
    truncated_share: float
    tokens_per_second: float
    transformed: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        episodes: Episodes,
        kl: torch.Tensor | None,
        coefficient: float,
        tokens_per_second: float,
        transformed: Mapping[str, float],
    ) -> RolloutStats:
        """Returns the numbers of rewarded episodes, whose KL per token `(B, T)` was charged with a coefficient."""
        kl_per_episode = None if kl is None else float(kl.sum(dim=1).mean())
        return cls(
            score=float(episodes.scores.mean()),
            reward=float(episodes.rewards.sum(dim=1).mean()),
            components={name: float(value.mean()) for name, value in episodes.components.items()},
            kl=kl_per_episode,
            kl_charged=coefficient * (kl_per_episode or 0.0),
            kl_coefficient=coefficient,
            entropy=-float(episodes.behavior_logprobs[episodes.mask].mean()),
            length=float(episodes.lengths.float().mean()),
            truncated_share=float(episodes.truncated.float().mean()),
            tokens_per_second=tokens_per_second,
            transformed=transformed,
        )


@dataclass(frozen=True)
class Rollout:
    """The episodes of an iteration, ready for the update.

    Attributes:
        episodes: On the policy's device, every field filled in.
        stats: What the policy did.
        seconds: Wall time by part: generate, reward, score.
        sampling_difference: Nats, largest |sampled − scored| where another distribution is scored than the one that
            sampled (`nlpo-rl4lms`); else 0.
        n_tokens, n_episodes: What was generated, dropped episodes included.
        info: Further numbers of the collector, logged as terms of the update.
    """

    episodes: Episodes
    stats: RolloutStats
    seconds: Mapping[str, float]
    sampling_difference: float
    n_tokens: int
    n_episodes: int
    info: Mapping[str, float]


@dataclass(frozen=True)
class IterationStats:
    """One iteration, as the curves have it.

    Attributes:
        iteration: counted from 1.
        progress: share of the algorithm's budget that is spent, 0 to 1.
        tokens, episodes, optimizer_steps: totals since the start of training (tokens are generated completion tokens).
        update: what the update did.
        rollout: what the policy did before it; None for algorithms that do not act (sft).
        seconds: wall time by part: generate, reward, score, update.
    """

    iteration: int
    progress: float
    tokens: int
    episodes: int
    optimizer_steps: int
    update: UpdateStats
    rollout: RolloutStats | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """Returns one row of numbers, nested names joined with a slash; everything under `seconds/` is wall time."""
        row: dict[str, float] = {}
        for name, value in vars(self).items():
            _flatten(name, value, row)
        return row


AfterIteration = Callable[[IterationStats], None]


class Algorithm(Protocol):
    """The interface that the runner uses.

    Attributes:
        config_class: the settings' class.
        trains: trait: it changes the policy; false: the policy is evaluated as it is (`none`).
        spends_tokens: trait: it trains on tokens that it generates, and ends with the token budget.
        filters_tokens: trait: it acts through a token filter, and is evaluated without it too.
            A further trait, `control`, is optional: see `AlgorithmTraits` and `controls.py`.
        summary: one line for lists.
        token_filter: the filter that belongs to the trained policy (NLPO), to be evaluated with and without; else None.
    """

    config_class: ClassVar[type[AlgorithmConfig]]
    trains: ClassVar[bool]
    spends_tokens: ClassVar[bool]
    filters_tokens: ClassVar[bool]
    summary: ClassVar[str]
    token_filter: TopPFilter | None

    def __init__(
        self,
        policy: LanguageModelPolicy,
        core: EpisodeCore,
        config: Any,
        *,
        sampling: SamplingConfig,
        total_tokens: int,
        seed: int = 0,
        device: str = "cpu",
    ) -> None: ...

    def learn(
        self,
        total_tokens: int | None = None,
        callback: Any = None,
        *,
        after_iteration: AfterIteration | None = None,
    ) -> Self:
        """Trains until the budget is spent; `after_iteration` may save `state_dict()`."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-exact resume needs, as tensors and plain data (`torch.load(weights_only=True)`)."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state."""


def require_finite(value: torch.Tensor | float, what: str, iteration: int) -> None:
    """Stops the run at the first value that is not finite.

    Raises:
        DivergedError: Naming what is not finite, and the iteration.
    """
    tensor = torch.as_tensor(value)
    finite = torch.isfinite(tensor)
    if bool(finite.all()):
        return
    first = float(tensor[~finite].flatten()[0]) if tensor.ndim else float(tensor)
    count = f" ({int((~finite).sum())} of {tensor.numel()} values)" if tensor.numel() > 1 else ""
    raise DivergedError(f"{what} is {first}{count} in iteration {iteration}")


def require_finite_episodes(episodes: Episodes, names: Sequence[str], iteration: int) -> None:
    """Stops the run if one of the fields, at the policy's tokens, or a score is not finite.

    Raises:
        DivergedError: Naming what is not finite, and the iteration.
    """
    for name in names:
        chosen = getattr(episodes, name)[episodes.mask]
        require_finite(chosen, f"one of the {name.replace('_', ' ')}", iteration)
    require_finite(episodes.scores, "the reward", iteration)


def check_state(state: Mapping[str, Any], algorithm: str) -> None:
    """Raises AlgorithmError where a state is not this algorithm's, or of another format."""
    found = (state.get("format"), state.get("algorithm"))
    if found != (STATE_FORMAT, algorithm):
        raise AlgorithmError(
            f"the saved state is of {found[1]} in format {found[0]}, expected {algorithm} in format {STATE_FORMAT}; "
            "start again without it"
        )


def _flatten(name: str, value: Any, row: dict[str, float]) -> None:
    """Adds `value` to `row`, descending into mappings and dataclasses."""
    if isinstance(value, int | float):
        row[name] = value
    elif value is not None:
        children = value if isinstance(value, Mapping) else vars(value)
        for key, child in children.items():
            _flatten(f"{name}/{key}", child, row)
