"""Adapter from our vector environments to Stable-Baselines3's `VecEnv`.

SB3's contract differs from Gymnasium's: flags collapse into `dones`, with `TimeLimit.truncated` and
`terminal_observation` in a list of infos. Note that SB3's on-policy algorithms bootstrap the value
of truncated episodes; for episode statistics in its log, wrap the adapter in SB3's `VecMonitor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from lmrl_bench.envs.rows import Observation
from lmrl_bench.envs.vector import EpisodeVectorEnv


class TextVecEnv(VecEnv):
    """A token or completion vector environment as SB3 wants it.

    Args:
        venv: The environment; its rows share one core, so attributes belong to all of them.

    Raises:
        ValueError: The environment resets rows in the next step.
    """

    actions: NDArray[np.int64]

    def __init__(self, venv: EpisodeVectorEnv) -> None:
        if venv.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode is {venv.autoreset_mode.value}, but Stable-Baselines3 resets rows in "
                "the step in which they end; make the environment with SameStep"
            )
        self.venv = venv
        self._listed = DictInfoToList(venv)
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> Observation:
        """Starts all episodes; uses up what `seed` and `set_options` have set."""
        # SB3 numbers the rows' seeds from the one that it was given; one core needs only that.
        observation, self.reset_infos = self._listed.reset(
            seed=self._seeds[0], options=self._reset_options_of_all()
        )
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keeps the actions for `step_wait`."""
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps; the info of an ended row is that of its last step."""
        observation, rewards, terminated, truncated, given = self._listed.step(self.actions)
        infos: list[dict[str, Any]] = []
        for row, info in enumerate(given):
            last = info.pop("final_info", {})
            if terminated[row] or truncated[row]:
                last["terminal_observation"] = info.pop("final_obs")
                self.reset_infos[row] = info
            last["TimeLimit.truncated"] = bool(truncated[row])
            infos.append(last)
        return observation, rewards.astype(np.float32), terminated | truncated, infos

    def close(self) -> None:
        """Closes the environment."""
        self.venv.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns the shared attribute, once per row asked for."""
        value = getattr(self.venv, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets the shared attribute.

        Raises:
            ValueError: Only some rows were asked for; they have no attributes of their own.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError("rows share their attributes; set them for all rows")
        setattr(self.venv, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Calls a method that returns one value per row, such as `action_masks` or `render`."""
        values = getattr(self.venv, method_name)(*method_args, **method_kwargs)
        return [values[row] for row in self._get_indices(indices)]

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],  # noqa: ARG002 - SB3's
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """Returns false for each row; rows are no environments that could be wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Returns no images: text is rendered as text."""
        return [None] * self.num_envs

    def _reset_options_of_all(self) -> dict[str, Any] | None:
        """Turns SB3's options per row into the vector environment's."""
        options = self._options
        if not any(options):
            return None
        if all(set(option) == {"sample_id"} for option in options):
            return {"sample_ids": [option["sample_id"] for option in options]}
        if any(option != options[0] for option in options):
            raise ValueError(
                "set_options: give every row a sample_id, or all rows the same group_size"
            )
        return options[0]
