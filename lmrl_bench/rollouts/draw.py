"""Draws tokens from log-probabilities with given random numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_tokens(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Returns tokens `(N,)` by inverting the cumulative distribution.

    One uniform number decides one token, so a row's token depends on nothing but its own
    distribution and number. A token of probability 0 is never drawn: its step of the cumulative
    distribution has no height.

    Args:
        log_probabilities: `(N, V)`, nats.
        uniforms: `(N,)`, in [0, 1), float64.
    """
    cumulative = log_probabilities.exp().cumsum(dim=-1)
    total = cumulative[:, -1]
    below = torch.nextafter(total, torch.zeros_like(total))
    threshold = torch.minimum((uniforms * total).to(total.dtype), below)
    return torch.searchsorted(cumulative, threshold.unsqueeze(1), right=True).squeeze(1)
