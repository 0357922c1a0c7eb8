"""The same episode as one step: the action is the whole response.

A contextual bandit with the rewards, flags and final observations of the token view.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lmrl_bench.envs.base_env import SingleEpisodeEnv
from lmrl_bench.envs.rows import Info, Observation
from lmrl_bench.envs.rules import EpisodeRules


class ResponseSpace(spaces.MultiDiscrete[np.int64]):
    """Padded responses `(T,)`, as a `MultiDiscrete` whose samples end.

    Uniform tokens hardly ever hold an EOS, so samples of the parent class would nearly all be
    capped. Here a legal length is drawn first, then legal tokens that end nothing; EOS and padding follow.
    Every array that the parent contains is contained.

    Args:
        rules: The task's rules.
        vocabulary_size: Width of the space at each place.
        seed: Seed of `sample`.
    """

    def __init__(self, rules: EpisodeRules, vocabulary_size: int, seed: int | None = None) -> None:
        super().__init__([vocabulary_size] * rules.max_tokens, seed=seed)
        self.rules = rules

    def sample(self, mask: Any = None, probability: Any = None) -> NDArray[np.int64]:
        """Draws a response; with `mask` or `probability`, as the parent class does."""
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        rules = self.rules
        length = int(self.np_random.integers(rules.min_tokens, rules.max_tokens))
        vocabulary = rules.vocabulary
        response = np.full(rules.max_tokens, vocabulary.pad_id, dtype=np.int64)
        tokens = self.np_random.integers(len(vocabulary.ordinary_ids), size=length)
        response[:length] = vocabulary.ordinary_ids[tokens]
        response[length] = vocabulary.eos_id
        return response


class CompletionEnv(SingleEpisodeEnv):
    """A text is written in one step; see `SingleEpisodeEnv` for the arguments.

    Observation: as in the token view; the response is empty after `reset` and whole after `step`.
    Action: response ids `(T,)`, `T` the task's length cap. Everything after the first EOS is
    ignored; without EOS all `T` ids count and the episode is truncated.
    """

    def make_action_space(self) -> ResponseSpace:
        """Returns the padded responses `(T,)`."""
        return ResponseSpace(self.core.rules, self.vocabulary_size)

    def step(self, action: NDArray[np.int64]) -> tuple[Observation, float, bool, bool, Info]:
        """Takes the response; the episode is over then.

        Returns:
            As the token view's last step.

        Raises:
            ValueError: Wrong shape, or an id before the end that the tokenizer does not know.
            ResetNeeded: `reset` has not been called.
        """
        self._require_running()
        terminated, truncated = self._rows.write(np.asarray(action, dtype=np.int64)[None])
        return self._result(terminated[0], truncated[0])
