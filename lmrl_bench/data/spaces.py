"""The token view's observation of an episode: environments return it and policies read it."""

from __future__ import annotations

from typing import Final

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

TokenObservation = dict[str, NDArray[np.int64]]
"""The arrays of `token_space` by name, `(N, …)` for `N` episodes."""

TOKEN_KEYS: Final = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")


def token_space(max_prompt_tokens: int, max_completion_tokens: int, width: int) -> spaces.Dict:
    """Returns the observation space of one episode.

    Four int64 boxes: `prompt_ids` and `prompt_mask` `(P,)`, left-padded to the task's limit;
    `completion_ids` and `completion_mask` `(T,)`, right-padded to its cap.

    Args:
        max_prompt_tokens: `P`.
        max_completion_tokens: `T`.
        width: Number of token ids.
    """

    def box(columns: int, high: int) -> spaces.Box:
        return spaces.Box(0, high, (columns,), dtype=np.int64)

    return spaces.Dict(
        {
            "prompt_ids": box(max_prompt_tokens, width - 1),
            "prompt_mask": box(max_prompt_tokens, 1),
            "completion_ids": box(max_completion_tokens, width - 1),
            "completion_mask": box(max_completion_tokens, 1),
        }
    )
