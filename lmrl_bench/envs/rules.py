"""When an episode ends and what counts, as pure functions on ids.

The one statement of the rules that the token view, the completion view and the batched core share:

* EOS ends the episode (**terminated**) and is itself a token that the policy chose.
* The `max_tokens`-th token without EOS ends it too (**truncated**); EOS at that place terminates.
* Whatever stands after the end does not exist.
* EOS before `min_tokens` tokens is illegal. Policies of this package cannot draw it, because their
  distribution masks it. An environment, which anybody may step, ends the episode there as at any
  EOS, reports it (`early_eos`) and counts it; so all views agree, and random agents do not crash.
* An id outside the tokenizer has no text: a `ValueError`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntegerArray = NDArray[np.int64]
BooleanArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Ends:
    """How `B` responses ended.

    Attributes:
        mask: `(B, T)`, true up to and including the last token of the episode.
        terminated: `(B,)`, by EOS.
        truncated: `(B,)`, by the cap.
        early_eos: `(B,)`, by EOS before the minimum length.
    """

    mask: BooleanArray
    terminated: BooleanArray
    truncated: BooleanArray
    early_eos: BooleanArray

    @property
    def lengths(self) -> IntegerArray:
        """`(B,)`, tokens, EOS included."""
        lengths: IntegerArray = self.mask.sum(axis=1, dtype=np.int64)
        return lengths


@dataclass(frozen=True)
class EpisodeRules:
    """The rules of one task under one tokenizer.

    Attributes:
        eos_id: Id that ends a response.
        pad_id: Id at padded places; may equal `eos_id`.
        n_tokens: Number of ids that the tokenizer knows.
        max_tokens: Cap of a response, EOS included.
        min_tokens: EOS is illegal before so many tokens.
    """

    eos_id: int
    pad_id: int
    n_tokens: int
    max_tokens: int
    min_tokens: int = 0

    def require_tokens(self, ids: IntegerArray) -> None:
        """Checks that the tokenizer knows all ids.

        Raises:
            ValueError: Names the first unknown id.
        """
        unknown = ids[(ids < 0) | (ids >= self.n_tokens)]
        if unknown.size:
            raise ValueError(
                f"token {int(unknown.flat[0])} is not in the tokenizer, whose ids are 0 to "
                f"{self.n_tokens - 1}; mask wider model outputs before sampling"
            )

    def ends_after(
        self, tokens: IntegerArray, positions: IntegerArray
    ) -> tuple[BooleanArray, BooleanArray]:
        """Returns terminated and truncated `(N,)` after `tokens` at `positions` (from 0)."""
        terminated = tokens == self.eos_id
        return terminated, ~terminated & (positions + 1 >= self.max_tokens)

    def ends_of(self, ids: IntegerArray) -> Ends:
        """Finds the ends of whole responses.

        Args:
            ids: `(B, T)`, `T` the cap; everything after a row's first EOS is ignored.

        Raises:
            ValueError: The width is not the cap, or an id inside an episode is unknown.
        """
        if ids.ndim != 2 or ids.shape[1] != self.max_tokens:
            raise ValueError(
                f"responses have shape {ids.shape}, expected (B, {self.max_tokens}): pad them on "
                "the right, after EOS, to the length cap"
            )
        is_eos = ids == self.eos_id
        eos_before = np.cumsum(is_eos, axis=1) - is_eos
        mask = eos_before == 0
        self.require_tokens(ids[mask])
        terminated = is_eos.any(axis=1)
        early = terminated & (mask.sum(axis=1) <= self.min_tokens)
        return Ends(mask, terminated, ~terminated, early)

    def legal_tokens(self, positions: IntegerArray, width: int) -> BooleanArray:
        """Returns `(N, width)`, true at the ids that may be drawn at `positions` (from 0)."""
        legal = np.tile(np.arange(width) < self.n_tokens, (len(positions), 1))
        legal[positions < self.min_tokens, self.eos_id] = False
        return legal
