"""The loop that all text-generating algorithms share: collect → reward → advantage → update → log.

Read `TextAlgorithm.learn` and `TextAlgorithm.iterate` first: they are the loop. An algorithm is a subclass with
`advantages` and `update`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lmrl_bench.algorithms.functional import token_rewards, token_weights
from lmrl_bench.algorithms.gradient import LossParts, StepResult, can_be_fused, gradient_step
from lmrl_bench.algorithms.interface import (
    STATE_FORMAT,
    AfterIteration,
    AlgorithmConfig,
    IterationStats,
    Rollout,
    RolloutStats,
    UpdateStats,
    check_state,
    require_finite,
    require_finite_episodes,
)
from lmrl_bench.algorithms.kl import KLController, reference_kl
from lmrl_bench.algorithms.sb3 import SB3Model
from lmrl_bench.algorithms.schedules import linear
from lmrl_bench.algorithms.settings import OnPolicyConfig
from lmrl_bench.core.errors import AlgorithmError
from lmrl_bench.core.seeding import derive_seed
from lmrl_bench.data.episodes import Episodes
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.models.scoring import TokenScores
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.rewards.transforms import RewardTransform
from lmrl_bench.rollouts.collectors import Collector, OnPolicyCollector, RolloutPlan
from lmrl_bench.speedups.kernels import autocast

if TYPE_CHECKING:
    from stable_baselines3.common.type_aliases import MaybeCallback

    from lmrl_bench.config.sampling import SamplingConfig
    from lmrl_bench.envs.core import EpisodeCore


class TextAlgorithm(ABC):
    """Base of the algorithms that generate text; a new one writes `advantages`, `update` and a configuration class.

    With a critic, start from `CriticAlgorithm`, which has `advantages`.

    Args:
        policy: The policy, with its reference made.
        core: Gives prompts and rewards.
        config: An instance of `config_class`.
        sampling: How tokens are drawn while training.
        total_tokens: Budget in generated tokens; the last iteration is completed.
        seed: Root of this algorithm's random streams.
        device: Where the policy lies.

    Raises:
        AlgorithmError: Greedy sampling, a policy without a reference, or one with a critic's trunk that the algorithm
            has no use for.

    Attributes:
        uses_critic: False: no value is computed, in the rollout or after it, and the critic is not trained.
        scores_what_acted: True: tokens are scored through the filter that they were drawn through; false only in a
            faithful bug.
        collector: Where episodes come from.
        token_filter: Through which the policy acts; None without one.
        iteration, tokens, episodes, optimizer_steps: Counters since the start of training.
        sb3: The algorithm as Stable-Baselines3's callbacks, logger and `evaluate_policy` see it.
    """

    config_class: ClassVar[type[AlgorithmConfig]]
    trains: ClassVar[bool] = True
    spends_tokens: ClassVar[bool] = True
    filters_tokens: ClassVar[bool] = False
    uses_critic: ClassVar[bool] = False
    scores_what_acted: ClassVar[bool] = True
    summary: ClassVar[str]

    def __init__(
        self,
        policy: LanguageModelPolicy,
        core: EpisodeCore,
        config: OnPolicyConfig,
        *,
        sampling: SamplingConfig,
        total_tokens: int,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._check(policy, sampling)
        self.config = config
        self.core = core
        self.sampling = sampling
        self.total_tokens = total_tokens
        self.policy = policy.to(device)
        self.policy.set_training_mode(False)  # dropout stays off: ratios start at exactly 1
        self.behavior = policy.make_behavior(
            sampling.temperature, core.task.spec.completion.min_tokens
        )
        self.kl = KLController(config.kl)
        self.iteration = self.tokens = self.episodes = self.optimizer_steps = 0
        # One stream for what is drawn and one for the order of minibatches: a change of one leaves the other.
        self.sampling_rng = torch.Generator().manual_seed(derive_seed(seed, "sampling"))
        self.shuffle_rng = torch.Generator().manual_seed(derive_seed(seed, "shuffle"))
        self.token_filter = self.make_token_filter()
        self.collector = self.make_collector()
        self.parameters = self.trained_parameters()
        self.optimizer = self.make_optimizer()
        self.sb3 = SB3Model(self)

    # -- what an algorithm writes ---------------------------------------------------------------------------------

    @abstractmethod
    def advantages(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """Returns advantages and returns, `(B, T)` each, of episodes whose rewards and values are filled in.

        The episodes lie on the processor here, and on the policy's device in `update`.
        """

    @abstractmethod
    def update(self, episodes: Episodes) -> UpdateStats:
        """Improves the policy with finished episodes, whose advantages and returns are filled in."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """Returns what the optimizer moves; by default all of the policy that asks for gradients.

        The critic's parameters are among them if there is a critic.
        """
        module = self.policy if self.uses_critic else self.policy.model
        return [parameter for parameter in module.parameters() if parameter.requires_grad]

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Returns the optimizer over `self.parameters`; Adam by default."""
        return torch.optim.Adam(
            self.parameters,
            lr=self.config.learning_rate,
            eps=self.config.adam_epsilon,
            fused=can_be_fused(self.parameters),
        )

    def make_token_filter(self) -> TopPFilter | None:
        """Returns the token filter through which the policy acts; None, the default, without one."""
        return None

    def make_collector(self) -> Collector:
        """Returns where episodes come from: by default the policy as it is."""
        plan = RolloutPlan(
            self.config.episodes_per_iteration,
            self.config.group_size,
            self.uses_critic,
            self.reads_ref_policy,
            self.scores_what_acted,
        )
        rng, token_filter = self.sampling_rng, self.token_filter
        return OnPolicyCollector(
            self.policy, self.core, self.sampling, self.behavior, rng, plan, token_filter
        )

    def owned_modules(self) -> dict[str, nn.Module]:
        """Returns modules next to the policy that are saved with it (mask model, target network, critic)."""
        return {}

    @property
    def reads_ref_policy(self) -> bool:
        """Whether training needs the reference policy's log-probabilities: not without a KL charge."""
        return self.config.kl.coefficient > 0.0

    def weights(self, episodes: Episodes) -> Tensor:
        """Returns each token's weight in the loss, `(B, T)`: the same for all, unless overridden."""
        return token_weights(episodes.mask, "token-mean")

    @property
    def transforms(self) -> Sequence[RewardTransform]:
        """Reward transforms that belong to the algorithm, after those that the run declares."""
        return ()

    def iteration_finished(self) -> None:
        """Called after each update, before the state may be saved (lagged copies move here)."""
        return

    # -- what an algorithm calls ----------------------------------------------------------------------------------

    def score(
        self,
        episodes: Episodes,
        *,
        values: bool = False,
        entropy: bool = False,
        full_logits: bool = False,
    ) -> TokenScores:
        """Scores completions under the policy as it is now, through the distribution that acted; `(N, T)` each."""
        return self.policy.score(
            episodes.tokens, self.behavior, values=values, entropy=entropy, full_logits=full_logits
        )

    def micro_batches(self, episodes: Episodes) -> list[Tensor]:
        """Returns the indices of the episodes in each micro-batch, `(N,)` int64."""
        return episodes.tokens.micro_batches(self.config.micro_batch_tokens)

    def gradient_step(
        self,
        minibatch: Episodes,
        loss: Callable[[Episodes, Tensor], LossParts],
        proceed: Callable[[Tensor], bool] = lambda _: True,
    ) -> StepResult:
        """Takes one optimizer step on one minibatch; see `gradient.gradient_step`."""

        def in_precision(part: Episodes, weights: Tensor) -> LossParts:
            with autocast(self.policy.device, self.config.autocast):
                return loss(part, weights)

        return gradient_step(
            minibatch,
            self.micro_batches(minibatch),
            in_precision,
            weights=self.weights(minibatch),
            optimizer=self.optimizer,
            parameters=self.parameters,
            max_grad_norm=self.config.max_grad_norm,
            iteration=self.iteration,
            proceed=proceed,
        )

    # -- the loop -------------------------------------------------------------------------------------------------

    def learn(
        self,
        total_tokens: int | None = None,
        callback: MaybeCallback = None,
        *,
        after_iteration: AfterIteration | None = None,
    ) -> Self:
        """Iterates until `total_tokens` tokens were generated in all.

        The counter never restarts, so a resumed algorithm goes on; schedules run over the whole budget.

        Args:
            total_tokens: Default: the whole budget.
            callback: SB3 callback(s): `on_step` is called once per collected batch; false stops before the update.
            after_iteration: Is shown each iteration's numbers, when the state may be saved.

        Raises:
            DivergedError: A reward, loss term or gradient is not finite.
        """
        target = self.total_tokens if total_tokens is None else total_tokens
        self.sb3.training_started(callback, target)
        while self.tokens < target:
            progress = self.tokens / self.total_tokens
            self.iteration += 1
            self.sb3.rollout_started()
            rollout = self.collect()
            self.tokens += rollout.n_tokens
            self.episodes += rollout.n_episodes
            if not self.sb3.collected(rollout.episodes):
                break
            stats = self._improve(rollout, progress)
            if after_iteration is not None:
                after_iteration(stats)
        self.sb3.training_ended()
        return self

    @torch.no_grad()
    def collect(self) -> Rollout:
        """Returns the next episodes, rewarded and with their advantages.

        Raises:
            DivergedError: A reward, log-probability or value is not finite.
        """
        collection = self.collector.collect()
        episodes, clock = collection.episodes, collection.clock
        with clock("score"):
            names = ["behavior_logprobs", "values"] + ["ref_logprobs"] * self.reads_ref_policy
            require_finite_episodes(episodes, names, self.iteration)
            kl = reference_kl(episodes, read=self.reads_ref_policy)
            dense = collection.token_rewards
            # Transforms see the batch that is trained on; `episodes.scores` stay the task's own.
            scores, transformed = self.core.training_scores(
                episodes, token_rewards=dense is not None, further=self.transforms
            )
            rewards = token_rewards(scores, self.kl.coefficient * kl, episodes.mask, dense)
            require_finite(rewards, "a token's reward", self.iteration)
            episodes = episodes.replace(rewards=rewards)
            advantages, returns = self.advantages(episodes)
            episodes = episodes.replace(advantages=advantages, returns=returns)
            stats = RolloutStats.of(
                episodes,
                kl if self.reads_ref_policy else None,
                self.kl.coefficient,
                collection.n_tokens / max(clock.seconds["generate"], 1e-9),
                transformed,
            )
            episodes = episodes.to(self.policy.device)
        return Rollout(
            episodes, stats, clock.seconds, collection.sampling_difference,
            collection.n_tokens, collection.n_episodes, collection.info,
        )  # fmt: skip

    def _improve(self, rollout: Rollout, progress: float) -> IterationStats:
        """Updates on the episodes, moves β and the counters, logs."""
        started = time.perf_counter()
        learning_rate = self._set_learning_rate(progress)
        update = self.update(rollout.episodes)
        worst = max(update.max_logprob_difference, rollout.sampling_difference)
        update = replace(
            update, max_logprob_difference=worst, terms={**update.terms, **rollout.info}
        )
        self.optimizer_steps += update.optimizer_steps
        if rollout.stats.kl is not None:
            self.kl.update(rollout.stats.kl, len(rollout.episodes))
        self.iteration_finished()
        stats = IterationStats(
            iteration=self.iteration,
            progress=min(1.0, self.tokens / self.total_tokens),
            tokens=self.tokens,
            episodes=self.episodes,
            optimizer_steps=self.optimizer_steps,
            update=update,
            rollout=rollout.stats,
            seconds={**rollout.seconds, "update": time.perf_counter() - started},
        )
        self.sb3.iterated(rollout.episodes, stats, learning_rate)
        return stats

    def _set_learning_rate(self, progress: float) -> float:
        """Sets the rate of this iteration by the tokens at its start, so that the last update still moves."""
        rate = self.config.learning_rate
        if self.config.learning_rate_schedule == "linear":
            rate = linear(rate, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that a bit-exact resume needs, as tensors and plain data."""
        return {
            "format": STATE_FORMAT,
            "algorithm": type(self).__name__,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "owned": {name: module.state_dict() for name, module in self.owned_modules().items()},
            "kl": self.kl.state_dict(),
            "rng": {
                "sampling": self.sampling_rng.get_state(),
                "shuffle": self.shuffle_rng.get_state(),
            },
            "core": self.core.state_dict(),
            "iteration": self.iteration,
            "tokens": self.tokens,
            "episodes": self.episodes,
            "optimizer_steps": self.optimizer_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state.

        Raises:
            AlgorithmError: The state is another algorithm's, or of another format.
        """
        check_state(state, type(self).__name__)
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, module in self.owned_modules().items():
            module.load_state_dict(state["owned"][name])
        self.kl.load_state_dict(state["kl"])
        self.sampling_rng.set_state(state["rng"]["sampling"])
        self.shuffle_rng.set_state(state["rng"]["shuffle"])
        self.core.load_state_dict(state["core"])
        self.iteration = int(state["iteration"])
        self.tokens = int(state["tokens"])
        self.episodes = int(state["episodes"])
        self.optimizer_steps = int(state["optimizer_steps"])

    def _check(self, policy: LanguageModelPolicy, sampling: SamplingConfig) -> None:
        if sampling.greedy:
            raise AlgorithmError(
                "sampling.greedy is true: an on-policy algorithm learns from random draws; set it to false for training"
            )
        if policy.ref_policy is None:
            raise AlgorithmError(
                "the policy has no reference; call policy.make_ref_policy() before training"
            )
        if not self.uses_critic and not policy.critic.reads_policy_states:
            raise AlgorithmError(
                f"policy.value_trunk is 'separate', but {type(self).__name__} has no critic; set it to shared"
            )
