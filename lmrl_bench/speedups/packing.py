"""Groups rows into batches with little padding, and with shared prompts computed once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmrl_bench.speedups import speedups_on

Numbers = NDArray[np.int64]

CALL_TOKENS = 128
"""Cost of starting a forward and backward, in tokens that a CPU could process meanwhile."""
CALL_TOKENS_OF_A_GPU = 4096
"""The same on other devices, which few tokens leave idle."""


def pack_rows(
    prompt_ids: Tensor, prompt_mask: Tensor, completion_lengths: Tensor, token_budget: int
) -> list[Tensor]:
    """Splits the rows, sorted by length or by prompt, into the groups with the least total work.

    The work of a group is its distinct prompts × the longest of them, plus its rows × the longest
    completion, plus a call. With speedups off, rows stay in order and are cut where the budget ends.

    Args:
        prompt_ids: `(B, P)`, left-padded.
        prompt_mask: `(B, P)` bool.
        completion_lengths: `(B,)` int64.
        token_budget: Limit of rows × (longest prompt + longest completion) per group; a longer row
            forms its own group.

    Returns:
        Index tensors `(N,)` int64 on the CPU, which contain each row once. Deterministic.
    """
    if len(prompt_ids) == 0:
        return []
    same = torch.unique(prompt_ids.masked_fill(~prompt_mask, -1), dim=0, return_inverse=True)[1]
    columns = (prompt_mask.sum(dim=1), completion_lengths, same)
    rows = torch.stack([column.long() for column in columns], dim=1).cpu().numpy()
    if not speedups_on():
        return _in_order(rows, token_budget)
    call = CALL_TOKENS if prompt_ids.device.type == "cpu" else CALL_TOKENS_OF_A_GPU
    found = [(*_cut(rows[order], token_budget, call), order) for order in _orders(rows)]
    _, ends, order = min(found, key=lambda one: one[0])
    return [torch.from_numpy(group) for group in np.split(order, ends)]


def _in_order(rows: Numbers, token_budget: int) -> list[Tensor]:
    """Returns groups of neighboring rows, each as large as the budget allows."""
    starts, longest = [0], rows[0, :2]
    for row in range(1, len(rows)):
        longest = np.maximum(longest, rows[row, :2])
        if (row + 1 - starts[-1]) * longest.sum() > token_budget:
            starts.append(row)
            longest = rows[row, :2]
    return [torch.from_numpy(group) for group in np.split(np.arange(len(rows)), starts[1:])]


def _orders(rows: Numbers) -> list[Numbers]:
    """Returns the order from long to short and, if prompts repeat, the same order by prompt."""
    length, same = rows[:, 0] + rows[:, 1], rows[:, 2]
    longest = np.zeros(same.max() + 1, dtype=np.int64)
    np.maximum.at(longest, same, length)
    by_length = np.argsort(-length, kind="stable")
    if len(longest) == len(rows):
        return [by_length]
    return [by_length, np.lexsort((-length, same, -longest[same]))]


def _cut(rows: Numbers, token_budget: int, call: int) -> tuple[float, list[int]]:
    """Finds the partition of the rows into contiguous groups with the least work.

    Dynamic programming over the end of the last group.

    Args:
        rows: `(N, 3)`: prompt tokens, completion tokens, and the prompt's index among the distinct
            ones.
        token_budget: See `pack_rows`.
        call: Fixed cost of a group, in tokens.

    Returns:
        The work in tokens, and the ends of the groups.
    """
    most = max(token_budget // max(int(rows[:, :2].sum(axis=1).min()), 1), 1)
    following = _following(rows[:, 2])
    least, begins = np.zeros(len(rows) + 1), [0] * (len(rows) + 1)
    for stop in range(1, len(rows) + 1):
        # Backwards: the last group starts at `stop - 1`, `stop - 2`, …, as far as the budget
        # allows.
        back = slice(stop - 1, stop - 1 - most if stop > most else None, -1)
        prompt, completion = np.maximum.accumulate(rows[back, :2], axis=0).T
        count = np.arange(1, len(prompt) + 1)
        prompts = np.cumsum(following[back] >= stop)
        work = least[back] + prompts * prompt + count * completion + call
        work[1:][(count * (prompt + completion) > token_budget)[1:]] = np.inf
        best = int(work.argmin())
        least[stop], begins[stop] = work[best], stop - 1 - best
    ends: list[int] = []
    stop = begins[-1]
    while stop:
        ends.insert(0, stop)
        stop = begins[stop]
    return float(least[-1]), ends


def _following(prompts: Numbers) -> Numbers:
    """Returns for each row the next one with the same prompt, or a number beyond all rows."""
    following = np.full(len(prompts), len(prompts) + 1)
    seen: dict[int, int] = {}
    for row, prompt in reversed(list(enumerate(prompts.tolist()))):
        following[row] = seen.get(prompt, len(prompts) + 1)
        seen[prompt] = row
    return following
