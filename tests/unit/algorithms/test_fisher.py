"""Products with the Fisher matrix against the matrix itself, and against the KL differentiated twice."""

import pytest
import torch
from fixtures.training import make_algorithm, make_policy
from torch import nn

from lmrl_bench.algorithms.fisher import FisherProduct
from lmrl_bench.algorithms.functional import categorical_kl
from lmrl_bench.models.scoring import twice_differentiable


def test_the_product_is_that_of_the_matrix():
    """F of a softmax regression: the sum of w x xᵀ ⊗ (diag p − p pᵀ)."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4, bias=False)
    states, weights = torch.randn(5, 3), torch.rand(5)
    product = FisherProduct(
        model,
        [model.weight],
        lambda numbers: model(states[numbers]).log_softmax(dim=-1),
        [(rows, weights[rows]) for rows in torch.tensor([0, 3, 1, 2, 4]).split(2)],
        damping=0.3,
    )
    p = model(states).softmax(dim=-1).detach()
    curvature = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    matrix = torch.einsum("n,nij,nk,nl->ikjl", weights, curvature, states, states).reshape(12, 12)
    vector = torch.randn(12)
    expected = matrix @ vector + 0.3 * vector
    torch.testing.assert_close(product(vector), expected)
    torch.testing.assert_close(product(vector), expected)  # the graph is kept
    torch.testing.assert_close(model.weight, model.weight.detach())


@pytest.mark.parametrize("micro_batch_tokens", [8192, 60])
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_the_product_is_the_kl_differentiated_twice(family, micro_batch_tokens):
    algorithm = make_algorithm(
        "trpo", policy=make_policy(family), fisher_fraction=1.0, damping=0.0,
        micro_batch_tokens=micro_batch_tokens,
    )  # fmt: skip
    batch = algorithm.collect().episodes
    parameters = algorithm.policy_parameters

    def flat(value, **options):
        parts = torch.autograd.grad(
            value, parameters, allow_unused=True, materialize_grads=True, **options
        )
        return torch.cat([part.reshape(-1) for part in parts])

    with twice_differentiable():
        logprobs = algorithm._distribution(batch)
        kl = categorical_kl(logprobs.detach(), logprobs)
        slope = flat((kl * algorithm.weights(batch)[batch.mask]).sum(), create_graph=True)
    vector = torch.randn(slope.shape, generator=torch.Generator().manual_seed(2))
    expected = flat(slope.dot(vector))
    found = algorithm._fisher_product(batch)(vector)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
