"""What all algorithms that act share: collect episodes, charge the KL, count, save, resume.

This is the one module that touches the internals of Stable-Baselines3. Of `OnPolicyAlgorithm` and
`BaseAlgorithm` it uses: `policy`, `device`, `env` (may be None), `observation_space`, `action_space`,
`n_envs`, `num_timesteps` (generated response tokens), `_num_timesteps_at_start`, `_n_updates` (optimiser
steps), `lr_schedule`, `_setup_lr_schedule`, `_update_current_progress_remaining`, `_update_learning_rate`,
`_setup_learn`, `_last_obs` (a placeholder, so that `_setup_learn` does not ask for an environment),
`ep_info_buffer`, `set_logger`, `logger`, `dump_logs`, `predict`. Replaced are `_setup_model` (the policy
exists already), `learn`, `save` and `load`; `collect_rollouts` and `train` are not used.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor, nn

from lmrl_bench.algorithms.collection import Collector
from lmrl_bench.algorithms.functional import token_weights
from lmrl_bench.algorithms.gradient import LossParts, StepResult, can_be_fused, gradient_step
from lmrl_bench.algorithms.interface import (
    STATE_FORMAT,
    AfterIteration,
    AlgorithmConfig,
    IterationStats,
    UpdateStats,
    check_state,
)
from lmrl_bench.algorithms.kl import KLController
from lmrl_bench.algorithms.settings import OnPolicyConfig
from lmrl_bench.core.errors import AlgorithmError
from lmrl_bench.core.seeding import derive_seed
from lmrl_bench.data.episodes import Episodes
from lmrl_bench.models.behaviour import TopPMask
from lmrl_bench.policies.policy import LanguageModelPolicy, TokenScores
from lmrl_bench.speedups.kernels import autocast

if TYPE_CHECKING:
    from stable_baselines3.common.type_aliases import MaybeCallback
    from stable_baselines3.common.vec_env import VecEnv

    from lmrl_bench.config.sampling import SamplingConfig
    from lmrl_bench.envs.core import EpisodeCore


class TextOnPolicyAlgorithm(OnPolicyAlgorithm, ABC):
    """Base of the algorithms that act; a new one writes `advantages`, `update` and a configuration class.

    With a critic, start from `CriticAlgorithm`, which has `advantages`.

    Args:
        policy: The policy, with its reference made.
        core: Gives prompts and rewards.
        config: An instance of `config_class`.
        sampling: How tokens are drawn while training.
        total_tokens: Budget in generated response tokens; the last iteration is completed.
        seed: Root of this algorithm's random streams.
        device: Where the policy lies.
        env: Only for callbacks that ask for one (SB3's `EvalCallback`); training never steps it.

    Raises:
        AlgorithmError: Greedy sampling, a policy without a reference, or one with a critic's trunk that the algorithm
            has no use for.

    Attributes:
        uses_critic: false: no value is computed, in the rollout or after it, and the value head is not trained.
        scores_what_acted: true: tokens are scored through the mask that they were drawn through; false only in a
            faithful bug.
    """

    config_class: ClassVar[type[AlgorithmConfig]]
    trains: ClassVar[bool] = True
    uses_critic: ClassVar[bool] = False
    scores_what_acted: ClassVar[bool] = True
    summary: ClassVar[str]
    policy: LanguageModelPolicy  # type: ignore[assignment]

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
        env: VecEnv | None = None,
    ) -> None:
        if sampling.greedy:
            raise AlgorithmError(
                "sampling.greedy is true: an on-policy algorithm learns from random draws; set it to false for training"
            )
        if policy.reference is None:
            raise AlgorithmError(
                "the policy has no reference; call policy.make_reference() before training"
            )
        if not self.uses_critic and policy.value_mode == "separate":
            raise AlgorithmError(
                f"policy.value_trunk is 'separate', but {type(self).__name__} has no critic; set it to shared"
            )
        self.config = config
        self.sampling = sampling
        self.total_tokens = total_tokens
        self._prebuilt_policy = policy
        super().__init__(
            type(policy),  # type: ignore[arg-type]
            env,  # type: ignore[arg-type]
            learning_rate=self._learning_rate(),
            n_steps=config.episodes_per_iteration,
            # For callbacks that look at them; nothing here does.
            gamma=getattr(config, "gamma", 1.0),
            gae_lambda=getattr(config, "gae_lambda", 1.0),
            ent_coef=0.0,
            vf_coef=0.0,
            max_grad_norm=config.max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=config.episodes_per_iteration,
            seed=seed,
            device=device,
        )
        self.behaviour = policy.make_behaviour(
            sampling.temperature, core.task.spec.response.min_tokens
        )
        self.kl = KLController(config.kl)
        self.iteration = 0
        self.episodes = 0
        self.sampling_rng = torch.Generator().manual_seed(derive_seed(seed, "sampling"))
        self.shuffle_rng = torch.Generator().manual_seed(derive_seed(seed, "shuffle"))
        self.collector = Collector(self, core)
        self.parameters = self.trained_parameters()
        self.optimizer = self.make_optimizer()

    # -- what an algorithm writes ---------------------------------------------------------------------------------

    @abstractmethod
    def advantages(self, batch: Episodes) -> tuple[Tensor, Tensor]:
        """Returns advantages and returns, `(B, T)` each, of episodes whose rewards and values are filled in.

        The batch lies on the processor here, and on the policy's device in `update`.
        """

    @abstractmethod
    def update(self, batch: Episodes) -> UpdateStats:
        """Improves the policy with finished episodes, whose advantages and returns are filled in."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """Returns what the optimiser moves; by default all of the policy that asks for gradients.

        The critic's parameters are among them if there is a critic.
        """
        module = self.policy if self.uses_critic else self.policy.model
        return [parameter for parameter in module.parameters() if parameter.requires_grad]

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Returns the optimiser over `self.parameters`; Adam by default."""
        return torch.optim.Adam(
            self.parameters,
            lr=self.config.learning_rate,
            eps=self.config.adam_epsilon,
            fused=can_be_fused(self.parameters),
        )

    def owned_modules(self) -> dict[str, nn.Module]:
        """Returns modules beside the policy that are saved with it (mask model, target network, critic)."""
        return {}

    @property
    def token_filter(self) -> TopPMask | None:
        """The token filter through which the policy acts; None without one."""
        return None

    @property
    def reads_reference(self) -> bool:
        """Whether training needs the reference's log-probabilities: not without a KL charge."""
        return self.config.kl.coefficient > 0.0

    def iteration_finished(self) -> None:
        """Called after each update, before the state may be saved (lagged copies move here)."""

    # -- what an algorithm calls ----------------------------------------------------------------------------------

    def score(
        self,
        batch: Episodes,
        *,
        values: bool = True,
        entropy: bool = False,
        full_logits: bool = False,
    ) -> TokenScores:
        """Scores the responses under the policy as it is now, through the distribution that acted; `(N, T)` each."""
        return self.policy.score(
            batch.tokens,
            self.behaviour,
            values=values,
            entropy=entropy,
            full_logits=full_logits,
        )

    def values(self, batch: Episodes) -> Tensor:
        """Returns the critic's values `(N, T)` of the states before the tokens, 0 at padding."""
        return self.policy.values(batch.tokens)

    def micro_batches(self, batch: Episodes) -> list[Tensor]:
        """Returns the row indices of each micro-batch, `(N,)` int64."""
        return batch.tokens.micro_batches(self.config.micro_batch_tokens)

    def weights(self, batch: Episodes) -> Tensor:
        """Returns each token's weight in the batch's loss, `(B, T)`: the same for all, unless overridden."""
        return token_weights(batch.mask, "token-mean")

    def gradient_step(
        self,
        minibatch: Episodes,
        loss: Callable[[Episodes, Tensor], LossParts],
        proceed: Callable[[Tensor], bool] = lambda _: True,
    ) -> StepResult:
        """Takes one optimiser step on one minibatch; see `gradient.gradient_step`."""

        def in_precision(part: Episodes, weights: Tensor) -> LossParts:
            with autocast(self.device, self.config.autocast):
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

    def collect(self) -> Episodes:
        """Samples, rewards and scores `episodes_per_iteration` episodes; see `Collector`."""
        return self.collector.collect()

    def learn(  # type: ignore[override]
        self,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        *,
        after_iteration: AfterIteration | None = None,
    ) -> Self:
        """Iterates until `total_timesteps` response tokens were generated in all.

        The counter never restarts, so a resumed algorithm goes on; schedules run over `total_tokens`.

        Args:
            total_timesteps: Default: the whole budget.
            callback: SB3 callback(s): `on_step` is called once per collected batch; false stops before the update.
            after_iteration: Is shown each iteration's numbers, when the state may be saved.

        Raises:
            DivergedError: A reward, loss term or gradient is not finite.
        """
        target = self.total_tokens if total_timesteps is None else total_timesteps
        _, callback = self._setup_learn(
            target - self.num_timesteps, callback, reset_num_timesteps=False
        )
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < target:
            self._update_current_progress_remaining(self.num_timesteps, self.total_tokens)
            self.iteration += 1
            callback.on_rollout_start()
            batch = self.collect()
            self.num_timesteps += batch.tokens.n_tokens
            self.episodes += len(batch)
            callback.update_locals(locals())
            if not callback.on_step():
                break
            callback.on_rollout_end()
            stats = self._improve(batch)
            if after_iteration is not None:
                after_iteration(stats)
        callback.on_training_end()
        return self

    def _improve(self, batch: Episodes) -> IterationStats:
        """Updates on the batch, moves β and the counters, logs."""
        started = time.perf_counter()
        self._update_learning_rate(self.optimizer)
        update = self.update(batch)
        worst = max(update.max_logprob_difference, self.collector.sampling_difference)
        update = replace(update, max_logprob_difference=worst)
        self._n_updates += update.optimiser_steps
        rollout, seconds = self.collector.rollout_stats, dict(self.collector.seconds)
        if rollout.kl is not None:
            self.kl.update(rollout.kl, len(batch))
        self.iteration_finished()
        seconds["update"] = time.perf_counter() - started
        stats = IterationStats(
            iteration=self.iteration,
            progress=min(1.0, self.num_timesteps / self.total_tokens),
            tokens=self.num_timesteps,
            episodes=self.episodes,
            optimiser_steps=self._n_updates,
            update=update,
            rollout=rollout,
            seconds=seconds,
        )
        self._log(batch, stats)
        return stats

    def _log(self, batch: Episodes, stats: IterationStats) -> None:
        assert self.ep_info_buffer is not None
        for score, length in zip(batch.scores.tolist(), batch.lengths.tolist(), strict=True):
            self.ep_info_buffer.append({"r": score, "l": length})
        for name, value in stats.flat().items():
            self.logger.record(name, value)
        self.dump_logs(self.iteration)

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
            "core": self.collector.core.state_dict(),
            "iteration": self.iteration,
            "tokens": self.num_timesteps,
            "episodes": self.episodes,
            "optimiser_steps": self._n_updates,
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
        self.collector.core.load_state_dict(state["core"])
        self.iteration = int(state["iteration"])
        self.num_timesteps = int(state["tokens"])
        self.episodes = int(state["episodes"])
        self._n_updates = int(state["optimiser_steps"])

    def save(self, path: str | Path, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Writes `state_dict()` with `torch.save`, atomically (SB3's checkpoint callback calls this)."""
        if args or kwargs:
            raise AlgorithmError("save takes a path only: the whole state is saved")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".tmp")
        torch.save(self.state_dict(), temporary)
        temporary.replace(target)

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: a state holds no task and no policy to build from.

        Raises:
            AlgorithmError: Always, with the way to go.
        """
        del args, kwargs
        raise AlgorithmError(
            f"{cls.__name__}.load: build the algorithm as before, then "
            "load_state_dict(torch.load(path, weights_only=True))"
        )

    # -- Stable-Baselines3 ----------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        """Takes the policy as it is; called by SB3's constructor."""
        self._setup_lr_schedule()
        self.policy = self._prebuilt_policy.to(self.device)
        self.policy.set_training_mode(False)
        self.observation_space = self.policy.observation_space
        self.action_space = self.policy.action_space
        self.n_envs = 1
        self._last_obs = {}
        # SB3's own default logger makes a folder in the system's temporary folder at every call of learn.
        self.set_logger(Logger(folder=None, output_formats=[]))

    def _learning_rate(self) -> Any:
        if self.config.learning_rate_schedule == "constant":
            return self.config.learning_rate
        return LinearSchedule(self.config.learning_rate, 0.0, 1.0)
