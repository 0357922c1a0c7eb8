"""Gradient steps: shuffling."""

import torch

from lmrl_bench.algorithms.gradient import shuffled


def test_shuffled_is_a_seeded_partition():
    draws = [
        torch.cat(list(shuffled(10, 4, torch.Generator().manual_seed(seed)))).tolist()
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert sorted(draws[0]) == list(range(10))
