"""Base class of the token view and the completion view: construction, reset and rendering."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from lmrl_bench.core.errors import nearest
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.spaces import TokenObservation
from lmrl_bench.envs.rows import EpisodeRows, Info, observation_space
from lmrl_bench.envs.setup import open_core

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmrl_bench.tasks.spec import Split
    from lmrl_bench.tasks.task import Task


class SingleEpisodeEnv(gymnasium.Env[TokenObservation, Any]):
    """Runs one episode at a time over its own core; the views add action space and `step`.

    Args:
        task: A task, or its name or folder.
        tokenizer: A tokenizer, or the name or folder of a model; by default the tokenizer of the
            task's default policy. With names, the environment's `EnvSpec` is JSON-serializable.
        split: Split that the prompts come from.
        vocabulary_size: Size of the action space; by default the tokenizer's largest id plus one.
            Set it for a model with more outputs; the additional ids are illegal.
        render_mode: None or "ansi".

    Raises:
        LmrlBenchError: Task, tokenizer or data are unusable.
        ValueError: `vocabulary_size` is smaller than the tokenizer.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 - gymnasium's

    def __init__(
        self,
        task: Task | str,
        tokenizer: PreTrainedTokenizerBase | str | None = None,
        *,
        split: Split = "train",
        vocabulary_size: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.core = open_core(task, tokenizer, split)
        self.vocabulary_size = require_vocabulary(self.core.codec.vocabulary_size, vocabulary_size)
        self.render_mode = render_mode
        self.observation_space = observation_space(self.core, self.vocabulary_size)
        self.action_space = self.make_action_space()
        self._rows = EpisodeRows(self.core, 1)
        self._seeded = False
        self._running = False
        self._started = False
        self._reward = 0.0

    @abstractmethod
    def make_action_space(self) -> spaces.Space[Any]:
        """Returns the space of actions for `step`."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[TokenObservation, Info]:
        """Starts an episode.

        Args:
            seed: Restarts the order of prompts. Without any seed so far, the order is random.
            options: `{"sample_id": "…"}` or `{"index": 3}` (row of the split) select the prompt
                and leave the order unchanged.

        Returns:
            The observation, and `sample_id` and `prompt` (text).

        Raises:
            ValueError: Unknown option or sample.
        """
        super().reset(seed=seed)
        # As Gymnasium demands: a later reset without a seed continues the order.
        if seed is not None or not self._seeded:
            self.core.reseed(int(self.np_random.integers(2**63)) if seed is None else seed)
            self._seeded = True
        self._rows.begin([0], [self._choose(options or {})])
        self._running = self._started = True
        self._reward = 0.0
        return self._rows.observe_row(0), self._rows.start_info(0)

    def render(self) -> str | None:
        """Returns prompt, completion so far and reward as text."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() requires render_mode='ansi'")
            return None
        if not self._started:
            raise ResetNeeded("call reset() before render()")
        return render_text(self._rows, 0, self._reward, done=not self._running)

    def _choose(self, options: dict[str, Any]) -> Sample:
        require_options(options, ("sample_id", "index"))
        if "sample_id" in options:
            return self.core.sample(options["sample_id"])
        if "index" in options:
            return self.core.sample_at(options["index"])
        return self.core.draw()

    def _require_running(self) -> None:
        if not self._running:
            raise ResetNeeded("no episode is running; call reset() before step()")

    def _result(
        self, terminated: np.bool_, truncated: np.bool_
    ) -> tuple[TokenObservation, float, bool, bool, Info]:
        """Scores the episode if it has ended, and builds the return value of `step`."""
        info: Info = {}
        if terminated or truncated:
            (end,) = self._rows.finish([0], np.array([terminated]))
            self._reward, info = end.reward, end.as_info()
            self._running = False
        observation = self._rows.observe_row(0)
        return observation, self._reward, bool(terminated), bool(truncated), info


def require_vocabulary(n_tokens: int, vocabulary_size: int | None) -> int:
    """Returns the size of the action space, which must cover the tokenizer's ids."""
    if vocabulary_size is None:
        return n_tokens
    if vocabulary_size < n_tokens:
        raise ValueError(
            f"vocabulary_size ({vocabulary_size}) is below the tokenizer's size "
            f"({n_tokens}: its largest id plus one); use the size of the model's output"
        )
    return vocabulary_size


def require_options(options: dict[str, Any], allowed: tuple[str, ...]) -> None:
    """Rejects unknown reset options, and more than one at a time."""
    for name in options:
        if name not in allowed:
            raise ValueError(
                f"unknown reset option '{name}'{nearest(name, allowed)} "
                f"(allowed: {', '.join(allowed)})"
            )
    if len(options) > 1:
        raise ValueError(f"reset options exclude each other: {', '.join(options)}")


def render_text(rows: EpisodeRows, row: int, reward: float, *, done: bool) -> str:
    """Returns one episode as three lines of text."""
    state = f"{reward:.4f}" if done else f"(open, {rows.lengths[row]} tokens)"
    return f"prompt: {rows.sample(row).prompt}\ncompletion: {rows.text(row)}\nreward: {state}"
