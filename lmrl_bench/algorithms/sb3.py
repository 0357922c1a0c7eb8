"""The bridge to Stable-Baselines3: its callbacks, its logger and `evaluate_policy` work with our algorithms.

Callbacks expect a model with some of `BaseAlgorithm`'s attributes. `SB3Model` has exactly those that SB3's own
callbacks and `evaluate_policy` read; whatever else is asked of it comes from the algorithm itself:

    algorithm.sb3.set_logger(configure("logs", ["csv"]))
    algorithm.learn(callback=EvalCallback(env, best_model_save_path="best"))
    evaluate_policy(algorithm.sb3, env)

`EvalCallback` also wants `algorithm.sb3.env`, the environment that it compares its own with; training never
steps it.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import safe_mean

from lmrl_bench.algorithms.interface import IterationStats
from lmrl_bench.core.atomic import atomic_file
from lmrl_bench.core.errors import AlgorithmError
from lmrl_bench.data.episodes import Episodes
from lmrl_bench.policies.policy import LanguageModelPolicy

if TYPE_CHECKING:
    from stable_baselines3.common.type_aliases import MaybeCallback
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    from lmrl_bench.algorithms.base import TextAlgorithm


class SB3Model:
    """An algorithm as Stable-Baselines3 sees it.

    Args:
        algorithm: Whose policy, counters and logs are shown.

    Attributes:
        env: Only for callbacks that ask for one; None until it is set.
        logger: SB3's logger; it writes nowhere until `set_logger`.
    """

    def __init__(self, algorithm: TextAlgorithm) -> None:
        self.algorithm = algorithm
        self.env: VecEnv | None = None
        # SB3's own default logger would make a folder in the system's temporary folder.
        self.logger = Logger(folder=None, output_formats=[])
        self.n_envs = 1
        self._callback: BaseCallback = ConvertCallback(None)
        self._recent: deque[tuple[float, int]] = deque(
            maxlen=algorithm.config.episodes_per_iteration
        )
        self._started, self._tokens_at_start = time.perf_counter(), 0

    def __getattr__(self, name: str) -> Any:
        if name == "algorithm":  # not set yet: a copy or an unpickled object asks first
            raise AttributeError(name)
        return getattr(self.algorithm, name)

    @property
    def policy(self) -> LanguageModelPolicy:
        """The policy, an SB3 `BasePolicy`."""
        return self.algorithm.policy

    @property
    def num_timesteps(self) -> int:
        """Generated tokens: what SB3 calls a time step is one token here."""
        return self.algorithm.tokens

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """The token view's."""
        return self.policy.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """The token view's."""
        return self.policy.action_space

    def get_env(self) -> VecEnv | None:
        """Returns `env`."""
        return self.env

    def get_vec_normalize_env(self) -> VecNormalize | None:
        """Returns None: token ids are not normalized."""
        return None

    def set_logger(self, logger: Logger) -> None:
        """Sets where numbers are logged."""
        self.logger = logger

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Returns the policy's actions on the token view, as SB3's models do."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    def save(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Writes the algorithm's whole state (`CheckpointCallback` and `EvalCallback` call this).

        Raises:
            AlgorithmError: More than a path is given.
        """
        if args or kwargs:
            raise AlgorithmError("save takes a path only: the whole state is saved")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as stream:  # a killed run leaves the older state whole
            torch.save(self.algorithm.state_dict(), stream)

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuses: a state holds no task and no policy to build from.

        Raises:
            AlgorithmError: Always, with the remedy.
        """
        del args, kwargs
        raise AlgorithmError(
            "the algorithm is not restored by load: build it as before, then "
            "load_state_dict(torch.load(path, weights_only=True))"
        )

    # -- what the loop calls ------------------------------------------------------------------------

    def training_started(self, callback: MaybeCallback, total_tokens: int) -> None:
        """Connects the callback or callbacks and tells them that training begins."""
        if isinstance(callback, list):
            callback = CallbackList(callback)
        if not isinstance(callback, BaseCallback):
            callback = ConvertCallback(callback)
        callback.init_callback(self)  # type: ignore[arg-type]
        self._callback = callback
        self._started, self._tokens_at_start = time.perf_counter(), self.num_timesteps
        callback.on_training_start({"self": self, "total_timesteps": total_tokens}, {})

    def rollout_started(self) -> None:
        """Tells the callback that an iteration begins."""
        self._callback.on_rollout_start()

    def collected(self, episodes: Episodes) -> bool:
        """Tells the callback that episodes are there; false asks to stop before the update."""
        self._callback.update_locals({"self": self, "episodes": episodes})
        if not self._callback.on_step():
            return False
        self._callback.on_rollout_end()
        return True

    def iterated(self, episodes: Episodes, stats: IterationStats, learning_rate: float) -> None:
        """Logs an iteration, under SB3's names and ours."""
        self._recent.extend(zip(episodes.scores.tolist(), episodes.lengths.tolist(), strict=True))
        seconds = max(time.perf_counter() - self._started, 1e-9)
        numbers: dict[str, Any] = {
            **stats.flat(),
            "train/learning_rate": learning_rate,
            "rollout/ep_rew_mean": safe_mean([score for score, _ in self._recent]),
            "rollout/ep_len_mean": safe_mean([length for _, length in self._recent]),
            "time/iterations": stats.iteration,
            "time/fps": int((stats.tokens - self._tokens_at_start) / seconds),
            "time/time_elapsed": int(seconds),
            "time/total_timesteps": stats.tokens,
        }
        for name, value in numbers.items():
            self.logger.record(name, value)
        self.logger.dump(step=stats.tokens)

    def training_ended(self) -> None:
        """Tells the callback that training is over."""
        self._callback.on_training_end()
