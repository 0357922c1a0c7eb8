"""Which episodes make a gradient step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def shuffled(rows: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yields index tensors of `size` rows each, in a random order; together each row once."""
    yield from torch.split(torch.randperm(rows, generator=rng), size)
