"""Which episodes are computed together: like lengths, packed by a token budget, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def pack_rows(prompt_mask: Tensor, response_lengths: Tensor, token_budget: int) -> list[Tensor]:
    """Splits the rows into groups whose padded size, rows × (longest prompt + longest response), fits the budget.

    Args:
        prompt_mask: `(B, P)` bool.
        response_lengths: `(B,)` int64.
        token_budget: Padded tokens per group; a single row that is longer stands alone.

    Returns:
        Index tensors `(N,)` int64, long rows first; together each row once. The order is a function of the lengths.
    """
    prompt_lengths = prompt_mask.sum(dim=1)
    order = torch.argsort(prompt_lengths + response_lengths, descending=True, stable=True).tolist()
    prompts, responses = prompt_lengths.tolist(), response_lengths.tolist()
    groups: list[list[int]] = [[]]
    longest_prompt = longest_response = 0
    for row in order:
        prompt = max(longest_prompt, prompts[row])
        response = max(longest_response, responses[row])
        if groups[-1] and (len(groups[-1]) + 1) * (prompt + response) > token_budget:
            groups.append([])
            prompt, response = prompts[row], responses[row]
        groups[-1].append(row)
        longest_prompt, longest_response = prompt, response
    return [torch.tensor(group, dtype=torch.long) for group in groups if group]


def shuffled(rows: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yields index tensors of `size` rows each, in a random order; together each row once."""
    yield from torch.split(torch.randperm(rows, generator=rng), size)
