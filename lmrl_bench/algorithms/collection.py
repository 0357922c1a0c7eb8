"""From prompts to finished episodes: one generation, one reward call, one reference forward, and the advantages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmrl_bench.algorithms.functional import kl_k1, token_rewards
from lmrl_bench.algorithms.interface import RolloutStats, require_finite
from lmrl_bench.data.episodes import Completions, EpisodeBatch, Prompts
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
    def collect(self) -> EpisodeBatch:
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
            mask=algorithm.action_mask,
            values=algorithm.uses_critic,
        )

    def _skeleton(self, prompts: Prompts, done: Completions, outcome: Outcome) -> EpisodeBatch:
        """The episodes with zeros where nothing was computed yet."""
        zeros = torch.zeros_like(done.logprobs)
        device = zeros.device
        return EpisodeBatch(
            prompt_ids=prompts.ids.to(device),
            prompt_mask=prompts.mask.to(device),
            response_ids=done.ids,
            action_mask=done.mask,
            behaviour_logprobs=done.logprobs,
            reference_logprobs=torch.full_like(zeros, torch.nan),  # until it is read, if it is
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
            allowed=done.allowed if self._algorithm.scores_what_acted else None,
        )

    def _score(self, batch: EpisodeBatch, completions: Completions) -> EpisodeBatch:
        """Fills in the log-probabilities and values."""
        algorithm = self._algorithm
        self.sampling_difference = 0.0
        if completions.allowed is not None and not algorithm.scores_what_acted:
            rescored = algorithm.score(batch, values=False).logprobs
            self.sampling_difference = float((rescored - batch.behaviour_logprobs).abs().max())
            batch = batch.replace(behaviour_logprobs=rescored)
        values = batch.values
        if algorithm.uses_critic:
            from_rollout = completions.values
            values = algorithm.values(batch) if from_rollout is None else from_rollout
        checked = ["behaviour_logprobs", "values"]
        if algorithm.reads_reference:
            batch = batch.replace(reference_logprobs=self._reference_logprobs(batch))
            checked.append("reference_logprobs")
        batch = batch.replace(values=values)
        for name in checked:
            chosen = getattr(batch, name)[batch.action_mask]
            require_finite(chosen, f"one of the {name.replace('_', ' ')}", algorithm.iteration)
        return batch

    def _reference_logprobs(self, batch: EpisodeBatch) -> Tensor:
        algorithm = self._algorithm
        return algorithm.policy.score_reference(
            batch.prompt_ids,
            batch.prompt_mask,
            batch.response_ids,
            batch.action_mask,
            algorithm.behaviour,
            allowed=batch.allowed,
        )

    def _reward(self, batch: EpisodeBatch, outcome: Outcome) -> EpisodeBatch:
        """Charges the KL, places the score and estimates the advantages."""
        algorithm, mask = self._algorithm, batch.action_mask
        require_finite(batch.scores, "the reward", algorithm.iteration)
        coefficient = algorithm.kl.coefficient
        kl = torch.zeros_like(batch.behaviour_logprobs)
        if algorithm.reads_reference:
            kl = kl_k1(batch.behaviour_logprobs, batch.reference_logprobs).masked_fill(~mask, 0.0)
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
            entropy=-float(batch.behaviour_logprobs[mask].mean()),
            length=float(batch.lengths.float().mean()),
            truncated_share=float(batch.truncated.float().mean()),
            tokens_per_second=batch.tokens / max(self.seconds["generate"], 1e-9),
            transformed=transformed,
        )
        return batch.replace(advantages=advantages, returns=returns)

    @contextmanager
    def _clock(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - started
