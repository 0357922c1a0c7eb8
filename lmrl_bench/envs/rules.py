"""The rules of an episode, as pure functions on token ids.

The token view, the completion view and the batched core share these rules:

* EOS ends the episode (**terminated**) and counts as a token chosen by the policy.
* The `max_tokens`-th token ends it too (**truncated**), unless it is EOS.
* Tokens after the end are ignored.
* EOS before `min_tokens` tokens is illegal. Policies of this package cannot draw it, because their
  distribution masks it. An environment, which any agent may step, ends the episode as at any other
  EOS, reports `early_eos` and counts it; so all views agree, and random agents do not crash.
* Every end token of the checkpoint counts as EOS.
* An id that the tokenizer does not know raises a `ValueError`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmrl_bench.data.vocabulary import Vocabulary

IntegerArray = NDArray[np.int64]
BooleanArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Ends:
    """Ends of `B` completions.

    Attributes:
        mask: `(B, T)`, true up to and including the last token of the episode.
        terminated: `(B,)`, ended by EOS.
        truncated: `(B,)`, ended by the length cap.
        early_eos: `(B,)`, ended by EOS before the minimum length.
    """

    mask: BooleanArray
    terminated: BooleanArray
    truncated: BooleanArray
    early_eos: BooleanArray

    @property
    def lengths(self) -> IntegerArray:
        """Lengths in tokens, including EOS, `(B,)`."""
        lengths: IntegerArray = self.mask.sum(axis=1, dtype=np.int64)
        return lengths


@dataclass(frozen=True)
class EpisodeRules:
    """The rules of one task with one tokenizer.

    Attributes:
        vocabulary: Legal ids, end tokens and the padding id.
        max_tokens: Length cap, including EOS.
        min_tokens: EOS is illegal before this many tokens.
    """

    vocabulary: Vocabulary
    max_tokens: int
    min_tokens: int = 0

    def require_tokens(self, ids: IntegerArray) -> None:
        """Checks that the tokenizer knows all ids.

        Raises:
            ValueError: An unknown id; the message names the first one.
        """
        vocabulary = self.vocabulary
        known = vocabulary.known(vocabulary.width)
        # Fast path for the normal case, as this runs at every step of an environment.
        if not ids.size or (ids.min() >= 0 and ids.max() < len(known) and known[ids].all()):
            return
        inside = (ids >= 0) & (ids < vocabulary.width)
        unknown = ids[~(inside & known[np.where(inside, ids, 0)])]
        if unknown.size:
            raise ValueError(
                f"token {int(unknown.flat[0])} is not in the tokenizer, whose ids are "
                f"{vocabulary.described}; set the probability of the model's other outputs to 0 "
                "before sampling"
            )

    def ends_after(
        self, tokens: IntegerArray, positions: IntegerArray
    ) -> tuple[BooleanArray, BooleanArray]:
        """Returns terminated and truncated `(N,)` after `tokens` at `positions` (from 0)."""
        terminated = self._is_end(tokens)
        return terminated, ~terminated & (positions + 1 >= self.max_tokens)

    def ends_of(self, ids: IntegerArray) -> Ends:
        """Finds the ends of complete completions.

        Args:
            ids: `(B, T)`, where `T` is the cap; tokens after a row's first EOS are ignored.

        Raises:
            ValueError: The width is not the cap, or an id before the end is unknown.
        """
        if ids.ndim != 2 or ids.shape[1] != self.max_tokens:
            raise ValueError(
                f"completions have shape {ids.shape}, expected (B, {self.max_tokens}): right-pad them "
                "after EOS to the length cap"
            )
        is_eos = self._is_end(ids).astype(np.int64)
        # Exclusive cumulative sum: the EOS itself still belongs to the episode.
        eos_before = np.cumsum(is_eos, axis=1) - is_eos
        mask = eos_before == 0
        self.require_tokens(ids[mask])
        terminated: BooleanArray = np.asarray(is_eos.any(axis=1))
        early = terminated & (mask.sum(axis=1) <= self.min_tokens)
        return Ends(mask, terminated, ~terminated, early)

    def legal_tokens(self, positions: IntegerArray, width: int) -> BooleanArray:
        """Returns `(N, width)`, true for ids that may be drawn at `positions` (from 0)."""
        # Outputs of the model beyond the tokenizer's ids have no text, so they are never legal.
        legal = np.tile(self.vocabulary.known(width), (len(positions), 1))
        for eos_id in self.vocabulary.eos_ids:
            legal[positions < self.min_tokens, eos_id] = False
        return legal

    def _is_end(self, ids: IntegerArray) -> BooleanArray:
        ends = self.vocabulary.eos_ids
        # One comparison costs a fraction of `isin`, and most tokenizers have one end token.
        is_end: BooleanArray = ids == ends[0] if len(ends) == 1 else np.isin(ids, ends)
        return is_end
