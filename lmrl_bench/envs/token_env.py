"""The token view: the token-level decision process as a Gymnasium environment.

State: the prompt and the tokens chosen so far. Action: the next token. The reward is 0 until the
end, where the task's reward is given (including all token rewards of a dense reward, because reward
functions see only finished texts). This view is the definition; training algorithms use the batched
core, which gives the same numbers in one call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lmrl_bench.data.spaces import TokenObservation
from lmrl_bench.envs.base_env import SingleEpisodeEnv
from lmrl_bench.envs.rows import Info


class TextGenerationEnv(SingleEpisodeEnv):
    """Writes a text token by token; see `SingleEpisodeEnv` for the arguments.

    Observation: `prompt_ids`, `prompt_mask` `(P,)`, `completion_ids`, `completion_mask` `(T,)`, int64.
    Action: `Discrete(vocabulary_size)`. Terminated by EOS, truncated by the task's length cap.
    EOS before the task's `min_tokens` is illegal: it ends the episode and sets `early_eos` in the
    info. `action_masks` returns the legal tokens.
    """

    def make_action_space(self) -> spaces.Discrete[np.int64]:
        """Returns the space of tokens."""
        return spaces.Discrete(self.vocabulary_size)

    def step(
        self, action: int | np.integer[Any] | NDArray[np.int64]
    ) -> tuple[TokenObservation, float, bool, bool, Info]:
        """Appends one token.

        Returns:
            TokenObservation, reward, terminated, truncated, and the info: empty until the end, then
            `sample_id`, `prompt`, `text`, `length`, `early_eos`, `reward_components`.

        Raises:
            ValueError: Unknown token.
            ResetNeeded: The episode has ended.
        """
        self._require_running()
        terminated, truncated = self._rows.push(np.array([int(action)], dtype=np.int64))
        return self._result(terminated[0], truncated[0])

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns `(vocabulary_size,)`, true for legal next tokens (name from sb3-contrib)."""
        legal = self.core.rules.legal_tokens(self._rows.lengths, self.vocabulary_size)
        return legal.reshape(-1)
