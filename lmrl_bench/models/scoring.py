"""Log-probability and entropy of given tokens, without logits where no token was chosen.

Every function here is a pure map from a network and token ids to numbers; which gradients flow is
the caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.models.behavior import Behavior, unpack_sets
from lmrl_bench.models.networks import Network

CHUNK_ELEMENTS = 2**24
"""Logits held at once, in elements (64 MiB in float32). With gradients, more of them are computed a second time on the
way back: of all tokens at once they would be the largest thing in memory."""
MICRO_BATCH_TOKENS = 4096
"""Padded tokens read at once without gradients."""


@dataclass(frozen=True)
class TokenScores:
    """A policy's probabilities and values of given completions.

    Attributes:
        logprobs: `(B, T)`, nats, of the behavior distribution; 0 where the mask is false.
        values: `(B, T)`, of the states before the tokens; 0 where the mask is false, or if not
            asked for.
        entropy: `(B, T)`, nats, of the behavior distribution; 0 where the mask is false, or if not
            asked for.
        logits: `(N, V)`, normalized behavior logits (log-probabilities; impossible tokens -inf) at
            the `N` tokens where the mask is true, row by row; None if not asked for.
    """

    logprobs: Tensor
    values: Tensor
    entropy: Tensor
    logits: Tensor | None


def score_tokens(
    network: Network,
    tokens: TokenBatch,
    behavior: Behavior,
    *,
    value: Callable[[Tensor], Tensor] | None = None,
    entropy: bool = False,
    full_logits: bool = False,
) -> TokenScores:
    """Scores the tokens that the policy chose; one forward of the network.

    Args:
        network: The language model.
        tokens: What to score.
        behavior: Turns logits into the distribution that acted.
        value: Maps the network's states `(N, D)` to values `(N,)`.
        entropy: Whether to compute it.
        full_logits: Whether to keep the logits; memory grows with `N` times `V`.
    """
    states = chosen_states(network, tokens)
    mask, positions = tokens.completion_mask, tokens.positions
    chosen = tokens.completion_ids[mask]
    sets = None if tokens.allowed is None else tokens.allowed[mask]
    if sets is not None and sets.shape[1] != -(-network.width // 8):
        raise ValueError(f"allowed has {sets.shape[1]} bytes for {network.width} tokens")

    def look(states: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        allowed = None if sets is None else unpack_sets(sets[part], network.width)
        log_softmax = log_distribution(network, states, positions[part], behavior, allowed)
        drawn = log_softmax.gather(1, chosen[part].unsqueeze(1)).squeeze(1)
        nothing = drawn.new_zeros(0)
        return (
            drawn,
            entropy_of(log_softmax) if entropy else nothing,
            log_softmax if full_logits else nothing,
        )

    size = max(len(chosen) if full_logits else CHUNK_ELEMENTS // network.width, 1)
    if torch.is_grad_enabled() and len(chosen) > size:
        look = partial(checkpoint, look, use_reentrant=False, preserve_rng_state=False)
    slices = [slice(start, start + size) for start in range(0, len(chosen), size)]
    found = [look(states[part], part) for part in slices]
    logprobs, entropies, logits = zip(*found, strict=True) if found else ((), (), ())
    empty = states.new_zeros(0)
    return TokenScores(
        logprobs=place(torch.cat([empty, *logprobs]), mask),
        values=place(value(states) if value else empty, mask),
        entropy=place(torch.cat([empty, *entropies]), mask),
        logits=torch.cat([states.new_zeros(0, network.width), *logits]) if full_logits else None,
    )


def place(flat: Tensor, mask: Tensor) -> Tensor:
    """Puts values `(N,)`, if there are any, where the mask `(B, T)` is true; zeros elsewhere."""
    zeros = flat.new_zeros(mask.shape)
    return zeros.masked_scatter(mask, flat) if len(flat) else zeros


def gather_rows(parts: Sequence[Tensor], order: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Puts parts `(N, T')`, their rows numbered in `order`, into `(B, T)`; zeros elsewhere."""
    if len(order) == 1:
        missing = shape[1] - parts[0].shape[1]
        back = order[0].argsort()
        return torch.nn.functional.pad(parts[0], (0, missing))[back]
    result = torch.zeros(shape, device=parts[0].device if parts else None)
    for part, rows in zip(parts, order, strict=True):
        result[rows, : part.shape[1]] = part
    return result


def entropy_of(log_probabilities: Tensor) -> Tensor:
    """Returns the entropy `(...)`, nats, of log-probabilities `(..., V)`.

    Impossible tokens count 0, and so do their gradients.
    """
    impossible = log_probabilities == -torch.inf
    return -(log_probabilities.exp() * log_probabilities.masked_fill(impossible, 0.0)).sum(dim=-1)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Makes forwards inside it differentiable twice, and in forward mode: Fisher products need it.

    The fused attention kernels have neither derivative; the plain one has both.
    """
    with sdpa_kernel(SDPBackend.MATH):
        yield


def log_distribution(
    network: Network,
    states: Tensor,
    positions: Tensor,
    behavior: Behavior,
    allowed: Tensor | None = None,
) -> Tensor:
    """Returns the behavior's log-probabilities `(N, V)`, nats, of the tokens that follow the states.

    Args:
        network: Whose states they are.
        states: `(N, D)`.
        positions: `(N,)` int64, completion positions of those tokens.
        behavior: Turns logits into the distribution that acts.
        allowed: `(N, V)` bool, tokens that a token filter lets pass, or None for all.
    """
    return behavior(network.logits(states), positions, allowed).log_softmax(dim=-1)


def chosen_states(network: Network, tokens: TokenBatch) -> Tensor:
    """Returns the states `(N, D)`, float32, before the tokens that the policy chose."""
    mask = tokens.completion_mask
    states = network.states(tokens.prompt_ids, tokens.prompt_mask, tokens.completion_ids[:, :-1])
    return states[:, : mask.shape[1]][mask].float()
