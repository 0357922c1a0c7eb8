"""Which rows are read together: so that little is padding, and a prompt with several responses is read once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CALL_TOKENS = 128
"""What it takes to start a forward and its backward, in tokens that a processor could read meanwhile."""
CALL_TOKENS_OF_A_GPU = 4096
"""The same on other devices, which fewer tokens leave idle."""

Row = tuple[int, int, int]
"""Tokens of the prompt, tokens of the response, and the prompt's number among the distinct ones."""


def pack_rows(
    prompt_ids: Tensor, prompt_mask: Tensor, response_lengths: Tensor, token_budget: int
) -> list[Tensor]:
    """Cuts the rows, sorted by length or by prompt, into the groups that are read with the least work.

    A group's work is its distinct prompts × the longest of them, its rows × the longest response, and a call.

    Args:
        prompt_ids: `(B, P)`, padded on the left.
        prompt_mask: `(B, P)` bool.
        response_lengths: `(B,)` int64.
        token_budget: Bound of a group's rows × (longest prompt + longest response); a longer row stands alone.

    Returns:
        Index tensors `(N,)` int64 on the prompts' device; together each row once. A function of the arguments.
    """
    if len(prompt_ids) == 0:
        return []
    device = prompt_ids.device
    same = torch.unique(prompt_ids.masked_fill(~prompt_mask, -1), dim=0, return_inverse=True)[1]
    columns = (prompt_mask.sum(dim=1), response_lengths, same)
    rows: list[Row] = list(zip(*(column.tolist() for column in columns), strict=True))
    call = CALL_TOKENS if device.type == "cpu" else CALL_TOKENS_OF_A_GPU
    _, groups = min(_cut(rows, order, token_budget, call) for order in _orders(rows))
    return [torch.tensor(group, device=device) for group in groups]


def _orders(rows: Sequence[Row]) -> list[list[int]]:
    """Returns the rows' numbers from long to short, and, where prompts repeat, the same prompt by prompt."""
    length = [prompt + response for prompt, response, _ in rows]
    by_length = sorted(range(len(rows)), key=lambda row: -length[row])
    longest: dict[int, int] = {}
    for row in by_length:
        longest.setdefault(rows[row][2], length[row])
    if len(longest) == len(rows):
        return [by_length]
    return [by_length, sorted(by_length, key=lambda row: (-longest[rows[row][2]], rows[row][2]))]


def _cut(
    rows: Sequence[Row], order: Sequence[int], token_budget: int, call: int
) -> tuple[float, list[list[int]]]:
    """Returns the least work, in tokens, in which stretches of the order can be read, and those stretches."""
    least = [0.0] + [math.inf] * len(order)
    begins = [0] * len(least)
    for stop in range(1, len(least)):
        prompt = response = 0
        prompts = set()
        for begin in reversed(range(stop)):
            row = rows[order[begin]]
            prompt, response = max(prompt, row[0]), max(response, row[1])
            prompts.add(row[2])
            count = stop - begin
            if count > 1 and count * (prompt + response) > token_budget:
                break
            work = least[begin] + len(prompts) * prompt + count * response + call
            if work < least[stop]:
                least[stop], begins[stop] = work, begin
    groups: list[list[int]] = []
    stop = len(order)
    while stop:
        groups.insert(0, list(order[begins[stop] : stop]))
        stop = begins[stop]
    return least[-1], groups
