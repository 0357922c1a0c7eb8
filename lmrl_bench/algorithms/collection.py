"""From prompts to finished episodes: one generation, one reward call, one reference forward, and the advantages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from lmrl_bench.algorithms.functional import kl_k1, token_rewards
from lmrl_bench.algorithms.interface import RolloutStats, require_finite
from lmrl_bench.data.episodes import Completions, Episodes, Prompts, TokenBatch
from lmrl_bench.rollouts.engine import RolloutEngine

if TYPE_CHECKING:
    from lmrl_bench.algorithms.base import TextOnPolicyAlgorithm
    from lmrl_bench.envs.core import EpisodeCore, Outcome


class Collector:
    """Collects one iteration's episodes for an algorithm.

    The sampler's own log-probabilities are kept, and its values where the value head sits on the trunk that sampled;
    the only further forward is the reference's (and the critic's, where it has a trunk of its own). Without a critic
    the values stay 0.

    Attributes:
        rollout_stats: numbers of the latest iteration.
        seconds: wall time of the latest iteration by part: generate, reward, score.
        sampling_difference: nats, largest |sampled − scored| where the algorithm scores another distribution than it
            draws from (`nlpo_released`); else 0.
    """

    rollout_stats: RolloutStats

    def __init__(self, algorithm: TextOnPolicyAlgorithm, core: EpisodeCore) -> None:
        self.core = core
        self.seconds: dict[str, float] = {}
        self.sampling_difference = 0.0
        self._algorithm = algorithm
        self._engine = RolloutEngine(algorithm.policy)

    @torch.no_grad()
    def collect(self) -> Episodes:
        """Returns episodes with rewards, advantages and returns, on the policy's device.

        Raises:
            DivergedError: A reward, log-probability or value is not finite.
        """
        config = self._algorithm.config
        self.seconds = {}
        with self._clock("generate"):
            groups = config.episodes_per_iteration // config.group_size
            prompts = self.core.sample_prompts(groups, config.group_size)
            completions = self._generate(prompts)
        with self._clock("reward"):
            outcome = self.core.outcome(prompts, completions)
        with self._clock("score"):
            batch = self._score(self._skeleton(prompts, completions, outcome), completions)
            return self._reward(batch, outcome).to(self._algorithm.policy.device)

    def _generate(self, prompts: Prompts) -> Completions:
        algorithm = self._algorithm
        return self._engine.generate(
            prompts,
            algorithm.sampling,
            algorithm.behaviour,
            algorithm.sampling_rng,
            max_tokens=self.core.task.spec.response.max_tokens,
            mask=algorithm.token_filter,
            values=algorithm.uses_critic,
        )

    def _skeleton(self, prompts: Prompts, done: Completions, outcome: Outcome) -> Episodes:
        """The episodes with zeros where nothing was computed yet."""
        zeros = torch.zeros_like(done.logprobs)
        device = zeros.device
        tokens = TokenBatch.of(prompts, done)
        if not self._algorithm.scores_what_acted:
            tokens = replace(tokens, allowed=None)
        return Episodes(
            tokens=tokens,
            behavior_logprobs=done.logprobs,
            ref_logprobs=torch.full_like(zeros, torch.nan),  # until it is read, if it is
            values=zeros,
            rewards=zeros,
            advantages=zeros,
            returns=zeros,
            scores=outcome.scores.to(device=device, dtype=zeros.dtype),
            terminated=done.terminated,
            truncated=done.truncated,
            group_ids=prompts.group_ids,
            sample_ids=prompts.sample_ids,
            texts=tuple(outcome.texts),
            components=dict(outcome.components),
        )

    def _score(self, batch: Episodes, completions: Completions) -> Episodes:
        """Fills in the log-probabilities and values."""
        algorithm = self._algorithm
        self.sampling_difference = 0.0
        if completions.allowed is not None and not algorithm.scores_what_acted:
            rescored = algorithm.score(batch, values=False).logprobs
            self.sampling_difference = float((rescored - batch.behavior_logprobs).abs().max())
            batch = batch.replace(behavior_logprobs=rescored)
        values = batch.values
        if algorithm.uses_critic:
            from_rollout = completions.values
            values = algorithm.values(batch) if from_rollout is None else from_rollout
        checked = ["behavior_logprobs", "values"]
        if algorithm.reads_reference:
            ref_logprobs = algorithm.policy.score_reference(batch.tokens, algorithm.behaviour)
            batch = batch.replace(ref_logprobs=ref_logprobs)
            checked.append("ref_logprobs")
        batch = batch.replace(values=values)
        for name in checked:
            chosen = getattr(batch, name)[batch.mask]
            require_finite(chosen, f"one of the {name.replace('_', ' ')}", algorithm.iteration)
        return batch

    def _reward(self, batch: Episodes, outcome: Outcome) -> Episodes:
        """Charges the KL, places the score and estimates the advantages."""
        algorithm, mask = self._algorithm, batch.mask
        require_finite(batch.scores, "the reward", algorithm.iteration)
        coefficient = algorithm.kl.coefficient
        kl = torch.zeros_like(batch.behavior_logprobs)
        if algorithm.reads_reference:
            kl = kl_k1(batch.behavior_logprobs, batch.ref_logprobs).masked_fill(~mask, 0.0)
        dense = None if outcome.token_rewards is None else outcome.token_rewards.to(kl)
        scores, transformed = self.core.training_scores(batch, token_rewards=dense is not None)
        rewards = token_rewards(scores, coefficient * kl, mask, dense)
        require_finite(rewards, "a token's reward", algorithm.iteration)
        batch = batch.replace(rewards=rewards)
        advantages, returns = algorithm.advantages(batch)
        kl_per_episode = float(kl.sum(dim=1).mean())
        self.rollout_stats = RolloutStats(
            score=float(batch.scores.mean()),
            reward=float(rewards.sum(dim=1).mean()),
            components={name: float(value.mean()) for name, value in batch.components.items()},
            kl=kl_per_episode if algorithm.reads_reference else None,
            kl_charged=coefficient * kl_per_episode,
            kl_coefficient=coefficient,
            entropy=-float(batch.behavior_logprobs[mask].mean()),
            length=float(batch.lengths.float().mean()),
            truncated_share=float(batch.truncated.float().mean()),
            tokens_per_second=batch.tokens.n_tokens / max(self.seconds["generate"], 1e-9),
            transformed=transformed,
        )
        return batch.replace(advantages=advantages, returns=returns)

    @contextmanager
    def _clock(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - started
