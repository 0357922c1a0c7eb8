"""The distribution that acts: one function from raw logits to behaviour logits.

Sampling, update and reference scoring all go through `Behaviour`, so that the ratio before the
first update is exactly 1.
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
class Behaviour:
    """Temperature, vocabulary and minimum length.

    Attributes:
        temperature: the logits are divided by it.
        vocabulary: the tokenizer's ids; all other outputs of the model have probability 0.
        min_tokens: every end token has probability 0 at the response positions below it.
    """

    temperature: float
    vocabulary: Vocabulary
    min_tokens: int = 0

    @property
    def vocabulary_size(self) -> int:
        """The tokenizer's largest id plus one; outputs beyond it are impossible, and so are gaps below it."""
        return self.vocabulary.width

    @property
    def eos_id(self) -> int:
        """The end token of training targets."""
        return self.vocabulary.eos_id

    def __call__(self, logits: Tensor, positions: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Returns the behaviour logits `(..., V)`, float32; impossible tokens are -inf.

        Args:
            logits: `(..., V)`, of the model.
            positions: `(...)` int64, response position of the token that is drawn, from 0.
            allowed: `(..., V)` bool, the tokens that an action mask lets pass, or None for all.
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
        """Returns a mask that broadcasts to the logits, or None where every token is possible."""
        forbidden = None if allowed is None else ~allowed
        illegal = self.vocabulary.illegal(logits.shape[-1], logits.device)
        if illegal is not None:
            forbidden = illegal if forbidden is None else forbidden | illegal
        return forbidden


class TopPMask(nn.Module):
    """NLPO's action mask: the top-p set of a lagged copy of the policy.

    As in arXiv 2210.01241, section 4. The set is taken from the copy's behaviour distribution, at
    every state; the masked distribution is renormalised by the softmax that follows. A module, so
    that the copy is saved with a checkpoint.

    Args:
        network: the policy's network; its model is copied and frozen.
        eos_ids: the end tokens, always allowed, so that a response can end.
        top_p: the smallest set of tokens whose probability reaches it is allowed; at 1 every token
            is.
        min_tokens_to_keep: so many of the most probable tokens are always allowed.
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
        """Returns the allowed tokens `(..., V)`, bool.

        Args:
            logits: `(..., V)`, behaviour logits of the lagged copy.
        """
        if self.top_p >= 1.0:
            return torch.ones_like(logits, dtype=torch.bool)
        probabilities = logits.softmax(dim=-1)
        ordered = _descending(probabilities)
        mass_before = ordered.cumsum(dim=-1) - ordered
        n_kept = (mass_before < self.top_p).sum(dim=-1, keepdim=True)
        n_kept = n_kept.clamp(min=min(self.min_tokens_to_keep, logits.shape[-1]))
        least = ordered.gather(-1, n_kept - 1)
        allowed = probabilities >= least
        if bool((allowed.sum(dim=-1, keepdim=True) > n_kept).any()):
            allowed = _first_of_ties(probabilities, least, n_kept)
        allowed[..., self.eos_ids] = True
        return allowed

    def train(self, mode: bool = True) -> TopPMask:
        """Does nothing: the copy never trains and its dropout is always off."""
        del mode
        return self


def pack_sets(allowed: Tensor) -> Tensor:
    """Returns sets of tokens `(..., V)`, bool, as bits: `(..., ceil(V / 8))`, uint8."""
    width = allowed.shape[-1]
    padded = nn.functional.pad(allowed, (0, -width % 8))
    eights = padded.view(*allowed.shape[:-1], padded.shape[-1] // 8, 8)
    return (eights * _bits(allowed.device)).sum(dim=-1, dtype=torch.uint8)


def unpack_sets(packed: Tensor, width: int) -> Tensor:
    """Returns the sets `(..., V)`, bool, that `pack_sets` packed; `width` is V."""
    return (packed.unsqueeze(-1) & _bits(packed.device)).ne(0).flatten(-2)[..., :width]


def _bits(device: torch.device) -> Tensor:
    return 2 ** torch.arange(8, dtype=torch.uint8, device=device)


def _descending(values: Tensor) -> Tensor:
    """Returns `(..., V)` from large to small, without the order, which is what costs."""
    if values.device.type != "cpu":
        return values.sort(dim=-1, descending=True).values
    # numpy sorts bare numbers with vector instructions, thirty times as fast as torch.
    return torch.from_numpy(np.sort(values.detach().numpy(), axis=-1)).flip(-1)


def _first_of_ties(probabilities: Tensor, least: Tensor, n_kept: Tensor) -> Tensor:
    """Of the tokens that are as probable as the last one kept, lets only the first ones pass."""
    above = probabilities > least
    ties = probabilities == least
    places = n_kept - above.sum(dim=-1, keepdim=True)
    return above | (ties & (ties.cumsum(dim=-1) <= places))
