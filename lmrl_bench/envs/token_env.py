"""The token-level decision process as a Gymnasium environment: one step is one token.

State: the prompt and the tokens chosen so far. Action: the next token. The reward is 0 until the
end, where the task's reward is given (token rewards of a dense reward are added there, because the
reward function sees finished texts only). This view is the definition; the training algorithms use
the batched core, which gives the same numbers in one call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lmrl_bench.envs.base_env import SingleEpisodeEnv
from lmrl_bench.envs.rows import Info, Observation


class TextGenerationEnv(SingleEpisodeEnv):
    """A text is written token by token; see `SingleEpisodeEnv` for the arguments.

    Observation: `prompt_ids`, `prompt_mask` `(P,)`, `response_ids`, `response_mask` `(T,)`, int64.
    Action: `Discrete(vocabulary_size)`. Terminated by EOS, truncated by the task's length cap.
    EOS before the task's `min_tokens` is illegal: it ends the episode, with `early_eos` in the
    info; `action_masks` says which tokens are legal.
    """

    def make_action_space(self) -> spaces.Discrete[np.int64]:
        """Returns the tokens."""
        return spaces.Discrete(self.vocabulary_size)

    def step(
        self, action: int | np.integer[Any] | NDArray[np.int64]
    ) -> tuple[Observation, float, bool, bool, Info]:
        """Appends one token.

        Returns:
            Observation, reward, terminated, truncated, and the info: empty until the end, then
            `sample_id`, `prompt`, `text`, `length`, `early_eos`, `reward_components`.

        Raises:
            ValueError: The tokenizer has no such token.
            ResetNeeded: The episode has ended.
        """
        self._require_running()
        terminated, truncated = self._rows.push(np.array([int(action)], dtype=np.int64))
        return self._result(terminated[0], truncated[0])

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns `(vocabulary_size,)`, true at the legal next tokens (sb3-contrib's name)."""
        legal = self.core.rules.legal_tokens(self._rows.lengths, self.vocabulary_size)
        return legal.reshape(-1)
