"""The behavior distribution: one function from the model's logits to the logits that act.

Sampling, updates and reference scoring all use `Behavior`, so that the ratio before the first
update is exactly 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lmrl_bench.data.vocabulary import Vocabulary
from lmrl_bench.models.networks import Network


@dataclass(frozen=True)
class Behavior:
    """Temperature, vocabulary and minimum length.

    Attributes:
        temperature: Divides the logits.
        vocabulary: The tokenizer's ids; all other outputs of the model have probability 0.
        min_tokens: End tokens have probability 0 at completion positions below this.
    """

    temperature: float
    vocabulary: Vocabulary
    min_tokens: int = 0

    @property
    def vocabulary_size(self) -> int:
        """The tokenizer's largest id plus one; ids beyond it, and gaps below it, are impossible."""
        return self.vocabulary.width

    @property
    def eos_id(self) -> int:
        """The end token of training targets."""
        return self.vocabulary.eos_id

    def __call__(self, logits: Tensor, positions: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Returns the behavior logits `(..., V)`, float32; impossible tokens are -inf.

        Args:
            logits: Logits of the model, `(..., V)`.
            positions: SampledCompletion position of the next token, from 0, int64 `(...)`.
            allowed: Tokens that a token filter allows, bool `(..., V)`; None for all.
        """
        logits = logits.float()
        if self.temperature != 1.0:
            logits = logits / self.temperature
        forbidden = self._forbidden(logits, allowed)
        if forbidden is not None:
            logits = logits.masked_fill(forbidden, -torch.inf)
        if self.min_tokens > 0:
            early = positions < self.min_tokens
            for eos_id in self.vocabulary.eos_ids:
                eos = logits[..., eos_id].masked_fill(early, -torch.inf)
                logits = logits.select_scatter(eos, dim=-1, index=eos_id)
        return logits

    def _forbidden(self, logits: Tensor, allowed: Tensor | None) -> Tensor | None:
        """Returns a mask that broadcasts to the logits, or None if every token is possible."""
        forbidden = None if allowed is None else ~allowed
        illegal = self.vocabulary.illegal(logits.shape[-1], logits.device)
        if illegal is not None:
            forbidden = illegal if forbidden is None else forbidden | illegal
        return forbidden


class TopPFilter(nn.Module):
    """NLPO's token filter: the top-p set of a lagged copy of the policy.

    As in arXiv 2210.01241, section 4. The set is computed from the copy's behavior distribution at
    every state; the softmax that follows renormalizes the masked distribution. A module, so that
    checkpoints include the copy.

    Args:
        network: The policy's network; its model is copied and frozen.
        eos_ids: End tokens, which are always allowed, so that a completion can end.
        top_p: The smallest set of tokens with at least this total probability is allowed; 1 allows
            every token.
        min_tokens_to_keep: Minimum number of most probable tokens that are always allowed.
    """

    def __init__(
        self,
        network: Network,
        eos_ids: int | Sequence[int],
        *,
        top_p: float,
        min_tokens_to_keep: int = 1,
    ) -> None:
        super().__init__()
        if not 0.0 < top_p <= 1.0 or min_tokens_to_keep < 1:
            raise ValueError("top_p must be in (0, 1] and min_tokens_to_keep at least 1")
        self.network = network.frozen_copy()
        self.model = self.network.model
        self.eos_ids = [eos_ids] if isinstance(eos_ids, int) else list(eos_ids)
        self.top_p = top_p
        self.min_tokens_to_keep = min_tokens_to_keep

    @torch.no_grad()
    def refresh(self, network: Network) -> None:
        """Copies the weights of the policy's network."""
        for own, new in zip(self.model.parameters(), network.model.parameters(), strict=True):
            own.copy_(new)
        for kept, moved in zip(self.model.buffers(), network.model.buffers(), strict=True):
            kept.copy_(moved)

    def allowed(self, logits: Tensor) -> Tensor:
        """Returns the allowed tokens, bool `(..., V)`.

        Args:
            logits: Behavior logits of the lagged copy, `(..., V)`.
        """
        if self.top_p >= 1.0:
            return torch.ones_like(logits, dtype=torch.bool)
        probabilities = logits.softmax(dim=-1)
        ordered = _descending(probabilities)
        # Exclusive cumulative sum: the token that crosses top_p still belongs to the set.
        mass_before = ordered.cumsum(dim=-1) - ordered
        n_kept = (mass_before < self.top_p).sum(dim=-1, keepdim=True)
        n_kept = n_kept.clamp(min=min(self.min_tokens_to_keep, logits.shape[-1]))
        least = ordered.gather(-1, n_kept - 1)
        allowed = probabilities >= least
        # Equal probabilities at the threshold would enlarge the set: keep the lowest ids.
        if bool((allowed.sum(dim=-1, keepdim=True) > n_kept).any()):
            allowed = _first_of_ties(probabilities, least, n_kept)
        allowed[..., self.eos_ids] = True
        return allowed

    def train(self, mode: bool = True) -> TopPFilter:
        """Does nothing: the copy is never trained, and its dropout is always off."""
        del mode
        return self


def pack_sets(allowed: Tensor) -> Tensor:
    """Packs token sets, bool `(..., V)`, into bits: uint8 `(..., ceil(V / 8))`."""
    width = allowed.shape[-1]
    padded = nn.functional.pad(allowed, (0, -width % 8))
    eights = padded.view(*allowed.shape[:-1], padded.shape[-1] // 8, 8)
    return (eights * _bits(allowed.device)).sum(dim=-1, dtype=torch.uint8)


def unpack_sets(packed: Tensor, width: int) -> Tensor:
    """Unpacks the result of `pack_sets` to token sets, bool `(..., V)`; `width` is V."""
    return (packed.unsqueeze(-1) & _bits(packed.device)).ne(0).flatten(-2)[..., :width]


def _bits(device: torch.device) -> Tensor:
    return 2 ** torch.arange(8, dtype=torch.uint8, device=device)


def _descending(values: Tensor) -> Tensor:
    """Sorts `(..., V)` in descending order, without computing the permutation, the costly part."""
    if values.device.type != "cpu":
        return values.sort(dim=-1, descending=True).values
    # numpy sorts plain numbers with vector instructions, thirty times as fast as torch.
    return torch.from_numpy(np.sort(values.detach().numpy(), axis=-1)).flip(-1)


def _first_of_ties(probabilities: Tensor, least: Tensor, n_kept: Tensor) -> Tensor:
    """Keeps only as many of the tokens tied at the threshold as the set has room for."""
    above = probabilities > least
    ties = probabilities == least
    places = n_kept - above.sum(dim=-1, keepdim=True)
    return above | (ties & (ties.cumsum(dim=-1) <= places))
