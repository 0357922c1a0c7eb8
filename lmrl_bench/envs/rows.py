"""State of `N` running episodes as arrays, shared by both views.

Single environments are the case `N = 1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces

from lmrl_bench.data.episodes import Completions
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.spaces import TokenObservation, token_space
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.envs.rules import BooleanArray, IntegerArray
from lmrl_bench.envs.text_env import End, finished

Info = dict[str, Any]


def observation_space(core: EpisodeCore, vocabulary_size: int) -> spaces.Space[TokenObservation]:
    """Returns the observation space of one episode of a core; see `token_space`."""
    space = token_space(core.codec.max_prompt_tokens, core.rules.max_tokens, vocabulary_size)
    return cast("spaces.Space[TokenObservation]", space)  # Gymnasium types its dict as Any


class EpisodeRows:
    """Holds `N` running episodes over one core.

    Args:
        core: The core.
        n_rows: `N`.

    Attributes:
        lengths: Tokens chosen so far, int64 `(N,)`.
    """

    def __init__(self, core: EpisodeCore, n_rows: int) -> None:
        n_prompt, n_completion = core.codec.max_prompt_tokens, core.rules.max_tokens
        self.core = core
        self.lengths = np.zeros(n_rows, dtype=np.int64)
        self._prompt_ids = np.full((n_rows, n_prompt), core.codec.pad_id, dtype=np.int64)
        self._prompt_mask = np.zeros((n_rows, n_prompt), dtype=np.int64)
        self._completion_ids = np.full((n_rows, n_completion), core.codec.pad_id, dtype=np.int64)
        self._samples: list[Sample | None] = [None] * n_rows

    def begin(self, rows: Sequence[int], samples: Sequence[Sample]) -> None:
        """Starts new episodes in `rows`, with one sample each."""
        index = np.asarray(rows, dtype=np.int64)
        # A fixed width: a Gymnasium space has one shape, whatever the prompts' lengths.
        prompts = self.core.codec.prompts(samples, width=self.core.codec.max_prompt_tokens)
        self._prompt_ids[index] = prompts.ids.numpy()
        self._prompt_mask[index] = prompts.mask.numpy()
        self._completion_ids[index] = self.core.codec.pad_id
        self.lengths[index] = 0
        for row, sample in zip(rows, samples, strict=True):
            self._samples[row] = sample

    def push(
        self, tokens: IntegerArray, rows: IntegerArray | None = None
    ) -> tuple[BooleanArray, BooleanArray]:
        """Appends one token to each of `M` rows, by default all.

        Returns:
            Terminated and truncated, both `(M,)`.

        Raises:
            ValueError: Unknown token; the rows are unchanged.
        """
        self.core.rules.require_tokens(tokens)
        chosen = np.arange(len(self.lengths)) if rows is None else rows
        positions = self.lengths[chosen]
        self._completion_ids[chosen, positions] = tokens
        self.lengths[chosen] += 1
        return self.core.rules.ends_after(tokens, positions)

    def write(
        self, ids: IntegerArray, rows: IntegerArray | None = None
    ) -> tuple[BooleanArray, BooleanArray]:
        """Sets the complete ids `(M, T)` of `M` rows, by default all.

        Returns:
            Terminated and truncated, both `(M,)`.

        Raises:
            ValueError: Wrong width, or an unknown token id.
        """
        completions = self.core.completions(ids)
        chosen = np.arange(len(self.lengths)) if rows is None else rows
        self._completion_ids[chosen] = completions.ids.numpy()
        self.lengths[chosen] = completions.lengths.numpy()
        return completions.terminated.numpy(), completions.truncated.numpy()

    def finish(self, rows: Sequence[int], terminated: BooleanArray) -> list[End]:
        """Scores the finished episodes in `rows` with one reward call.

        Args:
            rows: Indices of the `M` rows.
            terminated: `(M,)`; the other rows are truncated.

        Returns:
            One end per row.
        """
        index = np.asarray(rows, dtype=np.int64)
        ended = torch.from_numpy(np.asarray(terminated, dtype=np.bool_))
        mask = torch.from_numpy(self._completion_mask()[index].astype(np.bool_))
        completions = Completions(
            ids=torch.from_numpy(self._completion_ids[index]),
            mask=mask,
            logprobs=torch.zeros(mask.shape, dtype=torch.float32),
            terminated=ended,
            truncated=~ended,
        )
        return finished([self.sample(row) for row in rows], completions, self.core)

    def observe(self) -> TokenObservation:
        """Returns the observations `(N, …)`, as copies."""
        # Copies: a rollout buffer keeps observations while the next step changes the arrays.
        return {
            "prompt_ids": self._prompt_ids.copy(),
            "prompt_mask": self._prompt_mask.copy(),
            "completion_ids": self._completion_ids.copy(),
            "completion_mask": self._completion_mask(),
        }

    def observe_row(self, row: int) -> TokenObservation:
        """Returns the observation of one row, as copies."""
        return {name: value[row] for name, value in self.observe().items()}

    def start_info(self, row: int) -> Info:
        """Returns `sample_id` and `prompt` (text) of a row's episode."""
        sample = self.sample(row)
        return {"sample_id": sample.id, "prompt": sample.prompt}

    def sample(self, row: int) -> Sample:
        """Returns the sample of a row's episode."""
        sample = self._samples[row]
        assert sample is not None, "begin() must be called first"
        return sample

    def text(self, row: int) -> str:
        """Returns the completion so far as text."""
        mask = self._completion_mask()[row : row + 1].astype(np.bool_)
        ids = torch.from_numpy(self._completion_ids[row : row + 1])
        return self.core.codec.decode(ids, torch.from_numpy(mask))[0]

    def _completion_mask(self) -> IntegerArray:
        positions = np.arange(self._completion_ids.shape[1])
        return (positions < self.lengths[:, None]).astype(np.int64)
