"""The completion view: an episode is a single step whose action is the whole completion.

A contextual bandit with the same rewards, flags and final observations as the token view.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lmrl_bench.data.spaces import TokenObservation
from lmrl_bench.envs.base_env import SingleEpisodeEnv
from lmrl_bench.envs.rows import Info
from lmrl_bench.envs.rules import EpisodeRules


class CompletionSpace(spaces.MultiDiscrete[np.int64]):
    """Padded completions `(T,)`: a `MultiDiscrete` space whose samples contain an EOS.

    Uniformly drawn tokens rarely include EOS, so nearly all samples of the parent class would
    reach the cap. This class draws a legal length, then legal tokens other than EOS, then EOS and
    padding. It contains every array that the parent contains.

    Args:
        rules: The task's rules.
        vocabulary_size: Number of actions per position.
        seed: Seed of `sample`.
    """

    def __init__(self, rules: EpisodeRules, vocabulary_size: int, seed: int | None = None) -> None:
        super().__init__([vocabulary_size] * rules.max_tokens, seed=seed)
        self.rules = rules

    def sample(self, mask: Any = None, probability: Any = None) -> NDArray[np.int64]:
        """Draws a completion; with `mask` or `probability`, like the parent class."""
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        rules = self.rules
        # Below the cap, so that there is room for EOS.
        length = int(self.np_random.integers(rules.min_tokens, rules.max_tokens))
        vocabulary = rules.vocabulary
        completion = np.full(rules.max_tokens, vocabulary.pad_id, dtype=np.int64)
        tokens = self.np_random.integers(len(vocabulary.ordinary_ids), size=length)
        completion[:length] = vocabulary.ordinary_ids[tokens]
        completion[length] = vocabulary.eos_id
        return completion


class CompletionEnv(SingleEpisodeEnv):
    """Writes a completion in one step; see `SingleEpisodeEnv` for the arguments.

    Observation: as in the token view; the completion is empty after `reset` and complete after
    `step`. Action: token ids `(T,)`, where `T` is the task's length cap. Tokens after the first EOS
    are ignored; without EOS all `T` tokens count and the episode is truncated.
    """

    def make_action_space(self) -> CompletionSpace:
        """Returns the space of padded completions `(T,)`."""
        return CompletionSpace(self.core.rules, self.vocabulary_size)

    def step(self, action: NDArray[np.int64]) -> tuple[TokenObservation, float, bool, bool, Info]:
        """Takes the completion and ends the episode.

        Returns:
            The same as the last step of the token view.

        Raises:
            ValueError: Wrong shape, or an unknown token id before the end.
            ResetNeeded: `reset` has not been called.
        """
        self._require_running()
        terminated, truncated = self._rows.write(np.asarray(action, dtype=np.int64)[None])
        return self._result(terminated[0], truncated[0])
