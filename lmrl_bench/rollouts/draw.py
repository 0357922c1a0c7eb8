"""Draws tokens from log-probabilities with given random numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_tokens(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Returns tokens `(N,)` by inverting the cumulative distribution.

    One uniform number decides one token, so a row's token depends on nothing but its own
    distribution and number. A token of probability 0 is never drawn: its step of the cumulative
    distribution has no height (`rising`).

    Args:
        log_probabilities: `(N, V)`, nats.
        uniforms: `(N,)`, in [0, 1), float64.
    """
    probabilities = log_probabilities.exp()
    cumulative = probabilities.cumsum(dim=-1)
    if cumulative.device.type != "cpu":
        cumulative = rising(cumulative, probabilities)
    total = cumulative[:, -1]
    below = torch.nextafter(total, torch.zeros_like(total))
    threshold = torch.minimum((uniforms * total).to(total.dtype), below)
    return torch.searchsorted(cumulative, threshold.unsqueeze(1), right=True).squeeze(1)


def rising(cumulative: Tensor, probabilities: Tensor) -> Tensor:
    """Returns a cumulative distribution `(N, V)` that never falls, and rises at possible tokens only.

    Devices that add up in parallel round each sum for itself, so that the next one may be smaller, or larger where
    nothing was added.
    """
    return cumulative.masked_fill(probabilities == 0.0, 0.0).cummax(dim=-1).values
