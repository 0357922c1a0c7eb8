"""Drawing where sums round each for itself, as on a GPU; the rest is in oracle/test_generate_oracle.py."""

import torch

from lmrl_bench.rollouts.engine import rising


def test_a_cumulative_distribution_rises_at_possible_tokens_only():
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.25, 0.25, 0.0, 0.25, 0.0]])
    rounded = torch.tensor([[0.1, 0.25, 0.3, 0.5, 0.75, 0.74, 1.0, 1.1]])
    expected = torch.tensor([[0.0, 0.25, 0.25, 0.5, 0.75, 0.75, 1.0, 1.0]])
    assert torch.equal(rising(rounded, probabilities), expected)
    falling = torch.tensor([[0.5, 0.4, 0.9]])
    assert torch.equal(rising(falling, torch.ones(1, 3)), torch.tensor([[0.5, 0.5, 0.9]]))


def test_on_a_processor_nothing_has_to_be_repaired():
    """Sums are made one after the other there."""
    rng = torch.Generator().manual_seed(0)
    for rows, vocabulary in ((1, 50_000), (7, 2_048), (64, 300)):
        probabilities = (4 * torch.randn(rows, vocabulary, generator=rng)).softmax(dim=-1)
        probabilities[:, ::3] = 0.0
        cumulative = probabilities.cumsum(dim=-1)
        assert torch.equal(rising(cumulative, probabilities), cumulative)
