"""Adapts the vector environments to Stable-Baselines3's `VecEnv`.

SB3's interface differs from Gymnasium's: terminated and truncated are merged into `dones`, and a
list of infos contains `TimeLimit.truncated` and `terminal_observation`. SB3's on-policy algorithms
bootstrap the value of truncated episodes. For episode statistics in SB3's log, wrap the adapter in
SB3's `VecMonitor`.
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

from lmrl_bench.data.spaces import TokenObservation
from lmrl_bench.envs.vector import EpisodeVectorEnv


class TextVecEnv(VecEnv):
    """A token or completion vector environment with SB3's interface.

    Args:
        venv: The environment; its rows share one core, and therefore all attributes.

    Raises:
        ValueError: The environment resets rows in the following step.
    """

    actions: NDArray[np.int64]

    def __init__(self, venv: EpisodeVectorEnv) -> None:
        if venv.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode is {venv.autoreset_mode.value}, but Stable-Baselines3 requires SameStep: "
                "it resets rows in the step in which they end"
            )
        self.venv = venv
        self._listed = DictInfoToList(venv)
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> TokenObservation:
        """Starts all episodes, using up the values of `seed` and `set_options`."""
        # SB3 derives one seed per row from the given one; the shared core needs only the first.
        observation, self.reset_infos = self._listed.reset(
            seed=self._seeds[0], options=self._reset_options_of_all()
        )
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Stores the actions for `step_wait`."""
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps all rows; the info of an ended row is that of its last step."""
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
        """Returns the shared attribute, once per requested row."""
        value = getattr(self.venv, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets the shared attribute.

        Raises:
            ValueError: Only some rows are requested, but they have no attributes of their own.
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
        """Returns false for each row, because rows are not environments that could be wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Returns no images: episodes are rendered as text."""
        return [None] * self.num_envs

    def _reset_options_of_all(self) -> dict[str, Any] | None:
        """Converts SB3's options per row to options of the vector environment."""
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
