"""Collectors: where the episodes of an iteration come from.

An algorithm asks its collector for episodes and gets a `Collection` back. On-policy collection samples them from the
policy as it is; replay or a fixed data set would be other collectors with the same method.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.data.episodes import Completions, Episodes, Prompts, TokenBatch
from lmrl_bench.envs.core import EpisodeCore, Outcome
from lmrl_bench.models.behavior import Behavior, TopPFilter
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.rollouts.engine import RolloutEngine


class Clock:
    """Adds up wall time by part.

    Attributes:
        seconds: Part to seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Counts the time inside for `part`."""
        started = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Collection:
    """The result of a collector.

    Attributes:
        episodes: With scores, log-probabilities and values; `rewards`, `advantages` and `returns` are 0 until the
            algorithm fills them in. They lie on the processor, where rewards are made.
        token_rewards: `(B, T)` or None, what the task gives at the tokens, on top of the scores.
        clock: Wall time so far, by part: generate, reward, score.
        sampling_difference: Nats, largest |sampled − scored| where another distribution is scored than the one that
            sampled (`scores_what_acted` false); else 0.
        n_tokens, n_episodes: What was generated for these episodes, dropped ones included; both count against budgets.
        info: Further numbers for the log.
    """

    episodes: Episodes
    token_rewards: Tensor | None
    clock: Clock
    sampling_difference: float = 0.0
    n_tokens: int = 0
    n_episodes: int = 0
    info: Mapping[str, float] = field(default_factory=dict)


class Collector(Protocol):
    """The source of an algorithm's episodes."""

    def collect(self) -> Collection:
        """Returns the next iteration's episodes."""


@dataclass(frozen=True)
class RolloutPlan:
    """Settings of on-policy collection: what it samples and scores.

    Attributes:
        episodes: Episodes per iteration.
        group_size: Completions per prompt.
        reads_values: Whether the critic estimates the states.
        reads_ref_policy: Whether the reference policy scores the completions.
        scores_what_acted: Whether tokens are scored through the token filter that they were drawn through; false only
            in a faithful bug.
    """

    episodes: int
    group_size: int
    reads_values: bool
    reads_ref_policy: bool
    scores_what_acted: bool = True


class OnPolicyCollector:
    """Samples prompts and completions with the policy as it is.

    The sampler's own log-probabilities are kept, and its values where the critic reads the states that it sampled
    from. The only further forward is the reference policy's, and the critic's where it has a trunk of its own.

    Args:
        policy: Acts.
        core: Gives prompts and scores completions.
        sampling: How tokens are drawn.
        behavior: The distribution that acts.
        rng: Where the random numbers come from.
        plan: What is sampled and scored.
        token_filter: Through which tokens are drawn, or None.
    """

    def __init__(
        self,
        policy: LanguageModelPolicy,
        core: EpisodeCore,
        sampling: SamplingConfig,
        behavior: Behavior,
        rng: torch.Generator,
        plan: RolloutPlan,
        token_filter: TopPFilter | None = None,
    ) -> None:
        self.policy = policy
        self.core = core
        self.sampling = sampling
        self.behavior = behavior
        self.rng = rng
        self.plan = plan
        self.token_filter = token_filter
        self._engine = RolloutEngine(policy)

    @torch.no_grad()
    def collect(self) -> Collection:
        """Returns `plan.episodes` episodes."""
        clock = Clock()
        prompts, completions, outcome = self.sample(
            self.plan.episodes // self.plan.group_size, clock
        )
        return self.scored(prompts, completions, outcome, clock)

    def sample(self, groups: int, clock: Clock) -> tuple[Prompts, Completions, Outcome]:
        """Samples and rewards `group_size` completions for each of the next prompts."""
        with clock("generate"):
            prompts = self.core.sample_prompts(groups, self.plan.group_size)
            completions = self.generate(prompts)
        with clock("reward"):
            outcome = self.core.outcome(prompts, completions)
        return prompts, completions, outcome

    def generate(self, prompts: Prompts) -> Completions:
        """Draws one completion for each prompt."""
        return self._engine.generate(
            prompts,
            self.sampling,
            self.behavior,
            self.rng,
            max_tokens=self.core.task.spec.completion.max_tokens,
            token_filter=self.token_filter,
            values=self.plan.reads_values,
        )

    def scored(
        self, prompts: Prompts, completions: Completions, outcome: Outcome, clock: Clock
    ) -> Collection:
        """Returns the episodes with log-probabilities and values."""
        with clock("score"):
            tokens = TokenBatch.of(prompts, completions)
            logprobs, difference = completions.logprobs, 0.0
            if completions.allowed is not None and not self.plan.scores_what_acted:
                tokens = replace(tokens, allowed=None)
                logprobs = self.policy.score(
                    tokens, self.behavior, values=False, entropy=False
                ).logprobs
                difference = float((logprobs - completions.logprobs).abs().max())
            zeros = torch.zeros_like(logprobs)
            values = completions.values if self.plan.reads_values else zeros
            if values is None:  # the critic has a trunk of its own
                values = self.policy.critic.values(tokens)
            ref_logprobs = torch.full_like(
                zeros, torch.nan
            )  # NaN: whoever reads it by mistake sees it
            if self.plan.reads_ref_policy:
                ref_logprobs = self.policy.score_ref_policy(tokens, self.behavior)
            episodes = Episodes(
                tokens=tokens,
                behavior_logprobs=logprobs,
                ref_logprobs=ref_logprobs,
                values=values,
                rewards=zeros,
                advantages=zeros,
                returns=zeros,
                scores=outcome.scores.to(zeros),
                terminated=completions.terminated,
                truncated=completions.truncated,
                group_ids=prompts.group_ids,
                sample_ids=prompts.sample_ids,
                texts=tuple(outcome.texts),
                components=dict(outcome.components),
                info=outcome.info,
            )
        dense = None if outcome.token_rewards is None else outcome.token_rewards.to(zeros)
        return Collection(episodes, dense, clock, difference, tokens.n_tokens, len(tokens))
