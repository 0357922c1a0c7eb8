"""Packing and shuffling: every row once, within the budget, little padding."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.algorithms.minibatches import pack_rows, shuffled


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20),
    st.integers(1, 60),
)
def test_every_row_once_and_within_the_budget(lengths, budget):
    prompts, responses = (torch.tensor(column) for column in zip(*lengths, strict=True))
    mask = torch.arange(9)[None, :] >= 9 - prompts[:, None]
    groups = pack_rows(mask, responses, budget)
    assert sorted(torch.cat(groups).tolist()) == list(range(len(lengths)))
    for rows in groups:
        size = len(rows) * int(prompts[rows].max() + responses[rows].max())
        assert len(rows) == 1 or size <= budget


def test_a_large_budget_gives_one_group():
    mask = torch.ones(5, 3, dtype=torch.bool)
    assert len(pack_rows(mask, torch.arange(1, 6), 1000)) == 1


def test_shuffled_is_a_seeded_partition():
    draws = [
        torch.cat(list(shuffled(10, 4, torch.Generator().manual_seed(seed)))).tolist()
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert sorted(draws[0]) == list(range(10))
