"""When an episode ends and what counts, as pure functions on ids.

The one statement of the rules that the token view, the completion view and the batched core share:

* EOS ends the episode (**terminated**) and is itself a token that the policy chose.
* The `max_tokens`-th token without EOS ends it too (**truncated**); EOS at that place terminates.
* Whatever stands after the end does not exist.
* EOS before `min_tokens` tokens is illegal. Policies of this package cannot draw it, because their
  distribution masks it. An environment, which anybody may step, ends the episode there as at any
  EOS, reports it (`early_eos`) and counts it; so all views agree, and random agents do not crash.
* Each of the checkpoint's end tokens counts as EOS.
* An id outside the tokenizer has no text: a `ValueError`.
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
        vocabulary: Legal ids, end tokens and the id at padded places.
        max_tokens: Cap of a response, EOS included.
        min_tokens: EOS is illegal before so many tokens.
    """

    vocabulary: Vocabulary
    max_tokens: int
    min_tokens: int = 0

    def require_tokens(self, ids: IntegerArray) -> None:
        """Checks that the tokenizer knows all ids.

        Raises:
            ValueError: Names the first unknown id.
        """
        vocabulary = self.vocabulary
        known = vocabulary.known(vocabulary.width)
        if not ids.size or (ids.min() >= 0 and ids.max() < len(known) and known[ids].all()):
            return
        inside = (ids >= 0) & (ids < vocabulary.width)
        unknown = ids[~(inside & known[np.where(inside, ids, 0)])]
        if unknown.size:
            raise ValueError(
                f"token {int(unknown.flat[0])} is not in the tokenizer, whose ids are {vocabulary.described}; "
                "give the other outputs of the model probability 0 before sampling"
            )

    def ends_after(
        self, tokens: IntegerArray, positions: IntegerArray
    ) -> tuple[BooleanArray, BooleanArray]:
        """Returns terminated and truncated `(N,)` after `tokens` at `positions` (from 0)."""
        terminated = self._is_end(tokens)
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
        is_eos = self._is_end(ids).astype(np.int64)
        eos_before = np.cumsum(is_eos, axis=1) - is_eos
        mask = eos_before == 0
        self.require_tokens(ids[mask])
        terminated: BooleanArray = np.asarray(is_eos.any(axis=1))
        early = terminated & (mask.sum(axis=1) <= self.min_tokens)
        return Ends(mask, terminated, ~terminated, early)

    def legal_tokens(self, positions: IntegerArray, width: int) -> BooleanArray:
        """Returns `(N, width)`, true at the ids that may be drawn at `positions` (from 0)."""
        legal = np.tile(self.vocabulary.known(width), (len(positions), 1))
        for eos_id in self.vocabulary.eos_ids:
            legal[positions < self.min_tokens, eos_id] = False
        return legal

    def _is_end(self, ids: IntegerArray) -> BooleanArray:
        ends = self.vocabulary.eos_ids
        is_end: BooleanArray = ids == ends[0] if len(ends) == 1 else np.isin(ids, ends)
        return is_end
