"""Vectorized versions of both views: `N` episodes over one core, one reward call per step.

By default, rows that end are reset in the same step (`AutoresetMode.SAME_STEP`), so a completion
environment returns new prompts with every step. With `autoreset_mode="NextStep"` they are reset in
the following step, which ignores their action; Gymnasium's vector observation wrappers and some
libraries require this. All rows draw from the same order of prompts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from lmrl_bench.data.spaces import TokenObservation
from lmrl_bench.envs.base_env import render_text, require_options, require_vocabulary
from lmrl_bench.envs.completion_env import CompletionSpace
from lmrl_bench.envs.prompt_queue import PromptQueue
from lmrl_bench.envs.rows import EpisodeRows, Info, observation_space
from lmrl_bench.envs.rules import BooleanArray, IntegerArray
from lmrl_bench.envs.setup import open_core

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmrl_bench.tasks.spec import Split
    from lmrl_bench.tasks.task import Task

StepResult = tuple[TokenObservation, NDArray[np.float64], BooleanArray, BooleanArray, Info]


class EpisodeVectorEnv(VectorEnv[TokenObservation, NDArray[np.int64], NDArray[Any]]):
    """Runs `N` parallel episodes; the views add action space and `apply`.

    Args:
        task: A task, or its name or folder.
        tokenizer: A tokenizer, or the name or folder of a model; by default the tokenizer of the
            task's default policy.
        num_envs: `N`.
        split: Split that the prompts come from.
        vocabulary_size: Size of the action space; by default the tokenizer's largest id plus one.
        render_mode: None or "ansi".
        autoreset_mode: `AutoresetMode.SAME_STEP` or `NEXT_STEP`, or the value as a string.

    Raises:
        LmrlBenchError: Task, tokenizer or data are unusable.
        ValueError: `num_envs` is not positive, `vocabulary_size` is too small, or the mode is
            unknown.
    """

    def __init__(
        self,
        task: Task | str,
        tokenizer: PreTrainedTokenizerBase | str | None = None,
        *,
        num_envs: int = 1,
        split: Split = "train",
        vocabulary_size: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}, expected at least 1")
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {
            "render_modes": ["ansi"],
            "render_fps": 4,
            "autoreset_mode": self.autoreset_mode,
        }
        self.core = open_core(task, tokenizer, split)
        self.vocabulary_size = require_vocabulary(self.core.codec.vocabulary_size, vocabulary_size)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = observation_space(self.core, self.vocabulary_size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = self.make_single_action_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rows = EpisodeRows(self.core, num_envs)
        self._queue = PromptQueue(self.core, num_envs)
        self._group_ids = [0] * num_envs
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._seeded = False
        self._started = False

    @abstractmethod
    def make_single_action_space(self) -> spaces.Space[Any]:
        """Returns the action space of one row."""

    @abstractmethod
    def apply(
        self, actions: NDArray[np.int64], rows: IntegerArray
    ) -> tuple[BooleanArray, BooleanArray]:
        """Applies the actions of `M` rows; returns terminated and truncated, both `(M,)`."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[TokenObservation, Info]:
        """Starts `N` episodes.

        Args:
            seed: Restarts the order of prompts. Without any seed so far, the order is random.
            options: `{"group_size": G}`: adjacent rows in groups of `G` get the same prompt, in
                later episodes too (until the next `reset`; default 1).
                `{"sample_ids": [...]}`: the `N` prompts of the first episodes.

        Returns:
            Observations `(N, …)`, and `sample_id`, `prompt`, `group_id` (one number per draw).

        Raises:
            ValueError: Unknown option or sample, or `G` does not divide `N`.
        """
        super().reset(seed=seed)
        options = options or {}
        require_options(options, ("group_size", "sample_ids"))
        # As Gymnasium demands: a later reset without a seed continues the order.
        if seed is not None or not self._seeded:
            self.core.reseed(int(self.np_random.integers(2**63)) if seed is None else seed)
            self._seeded = True
        self._queue = PromptQueue(self.core, self.num_envs, options.get("group_size", 1))
        if "sample_ids" in options:
            self._queue.force(options["sample_ids"])
        self._started = True
        self._ended[:] = False
        infos = self._begin(range(self.num_envs), {})
        return self._rows.observe(), infos

    def step(self, actions: NDArray[np.int64]) -> StepResult:
        """Steps all rows; rows that end are scored together and start again.

        Returns:
            Observations `(N, …)`, rewards, terminated, truncated `(N,)`, and infos in Gymnasium's
            vector form. With `SAME_STEP`, ended rows return the observation, `sample_id`, `prompt`
            and `group_id` of their new episode, and `final_obs` and `final_info` of the old one.
            With `NEXT_STEP`, they return those of the old episode; the next step, which ignores
            their action, returns those of the new one with reward 0.

        Raises:
            ValueError: Wrong shape, or an unknown token.
            ResetNeeded: `reset` has not been called.
        """
        if not self._started:
            raise ResetNeeded("call reset() before step()")
        waiting = np.flatnonzero(self._ended).tolist()
        running = np.flatnonzero(~self._ended)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=np.bool_)
        terminated[running], truncated[running] = self.apply(
            np.asarray(actions, dtype=np.int64), running
        )
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        infos: Info = {}
        ended = np.flatnonzero(terminated | truncated).tolist()
        if ended:
            # One reward call for all rows that end in this step: rewards are batched models.
            ends = self._rows.finish(ended, terminated[ended])
            rewards[ended] = [end.reward for end in ends]
            final_infos = [
                end.as_info() | {"group_id": self._group_ids[row]}
                for row, end in zip(ended, ends, strict=True)
            ]
            infos = self._final(ended, final_infos)
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            infos = self._begin(ended, infos)
        else:
            infos = self._begin(waiting, infos)
            self._ended = terminated | truncated
        return self._rows.observe(), rewards, terminated, truncated, infos

    def _final(self, ended: Sequence[int], final_infos: Sequence[Info]) -> Info:
        """Collects the infos of rows that have ended."""
        infos: Info = {}
        # Before `_begin` overwrites the rows with their next prompts.
        last = self._rows.observe()
        for row, info in zip(ended, final_infos, strict=True):
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                final_obs = {name: value[row].copy() for name, value in last.items()}
                info = {"final_obs": final_obs, "final_info": info}
            infos = self._add_info(infos, info, row)
        return infos

    def render(self) -> tuple[str, ...] | None:
        """Returns prompt and completion so far of every row as text."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() requires render_mode='ansi'")
            return None
        if not self._started:
            raise ResetNeeded("call reset() before render()")
        rows = range(self.num_envs)
        return tuple(render_text(self._rows, row, 0.0, done=False) for row in rows)

    def _begin(self, rows: Sequence[int], infos: Info) -> Info:
        samples = []
        for row in rows:
            sample, self._group_ids[row] = self._queue.next(row)
            samples.append(sample)
        self._rows.begin(rows, samples)  # encodes all new prompts at once
        for row in rows:
            info = self._rows.start_info(row) | {"group_id": self._group_ids[row]}
            infos = self._add_info(infos, info, row)
        return infos


class TextGenerationVectorEnv(EpisodeVectorEnv):
    """The token view with `N` rows: one step is one token per row; see `EpisodeVectorEnv`."""

    def make_single_action_space(self) -> spaces.Discrete[np.int64]:
        """Returns the space of tokens."""
        return spaces.Discrete(self.vocabulary_size)

    def apply(self, actions: IntegerArray, rows: IntegerArray) -> tuple[BooleanArray, BooleanArray]:
        """Appends one token to each of the rows; actions are `(N,)`."""
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions have shape {actions.shape}, expected ({self.num_envs},)")
        return self._rows.push(actions[rows], rows)

    def action_masks(self) -> BooleanArray:
        """Returns `(N, vocabulary_size)`, true for legal next tokens (name from sb3-contrib)."""
        return self.core.rules.legal_tokens(self._rows.lengths, self.vocabulary_size)


class CompletionVectorEnv(EpisodeVectorEnv):
    """The completion view with `N` rows: one step is one completion per row."""

    def make_single_action_space(self) -> CompletionSpace:
        """Returns the space of padded completions `(T,)`."""
        return CompletionSpace(self.core.rules, self.vocabulary_size)

    def apply(self, actions: IntegerArray, rows: IntegerArray) -> tuple[BooleanArray, BooleanArray]:
        """Sets the completions of the rows; actions are `(N, T)`."""
        if actions.shape[:1] != (self.num_envs,):
            raise ValueError(f"{len(actions)} completions for {self.num_envs} rows")
        return self._rows.write(actions[rows], rows)


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    offered = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
    for one in offered:
        if mode in (one, one.value, one.name):
            return one
    raise ValueError(
        f"autoreset_mode is {mode!r} (allowed: {', '.join(one.value for one in offered)})"
    )
