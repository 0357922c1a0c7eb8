"""TRPO's parts: the Fisher product, the line search, the critic that leaves the policy alone (pitfall D7)."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from fixtures.families import MOE, build
from fixtures.toy import toy_tokenizer
from fixtures.training import make_algorithm, make_policy, weights_of
from gymnasium import spaces
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from lmrl_bench.algorithms.functional import categorical_kl, conjugate_gradient
from lmrl_bench.core.errors import AlgorithmError, DivergedError
from lmrl_bench.policies.policy import LanguageModelPolicy, token_space


def test_conjugate_gradient_solves():
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(6)
    target = torch.randn(6, generator=rng, dtype=torch.float64)
    for steps in (2, 20):
        solution, image = conjugate_gradient(lambda v: matrix @ v, target, steps=steps)
        torch.testing.assert_close(image, matrix @ solution)
    torch.testing.assert_close(solution, torch.linalg.solve(matrix, target))
    assert not conjugate_gradient(lambda v: matrix @ v, torch.zeros(6), steps=3)[0].any()
    small, _ = conjugate_gradient(lambda v: matrix @ v, 1e-8 * target, steps=20)
    torch.testing.assert_close(1e8 * small, solution)


def test_a_fisher_product_of_negative_curvature_ends_the_run(monkeypatch):
    algorithm = make_algorithm("trpo")
    batch = algorithm.collect().episodes
    before = weights_of(algorithm.policy)
    wrong = lambda _product, gradient, _steps: (gradient, -gradient)  # noqa: E731
    monkeypatch.setattr("lmrl_bench.algorithms.trpo.conjugate_gradient", wrong)
    with pytest.raises(DivergedError, match="the trust-region step"):
        algorithm.update(batch)
    after = weights_of(algorithm.policy)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("scale", "moves"), [(1e-6, True), (1e-30, False)])
def test_a_small_gradient_has_a_step_of_the_stated_length_and_none_has_no_step(scale, moves):
    """The direction does not depend on the size of the gradient, as long as float32 can square it."""
    algorithm = make_algorithm("trpo", normalize_advantage=False)
    batch = algorithm.collect().episodes
    before = weights_of(algorithm.policy)
    stats = algorithm.update(batch.replace(advantages=scale * batch.advantages))
    assert (stats.approx_kl > 1e-4) == moves
    moved = weights_of(algorithm.policy)
    assert (
        any(not torch.equal(before[name], moved[name]) for name in before if "model" in name)
        == moves
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
def test_fisher_product_equals_finite_differences(family):
    """F v is the change of ∇KL along v; min_tokens makes EOS impossible at some positions."""
    policy = make_policy(family)
    algorithm = make_algorithm("trpo", policy=policy, fisher_fraction=1.0, damping=0.0)
    batch = algorithm.collect().episodes
    parameters = algorithm.policy_parameters
    old = parameters_to_vector(parameters).detach().clone()
    rng = torch.Generator().manual_seed(1)
    gradient, _, _ = algorithm._surrogate_gradient(algorithm.normalized(batch))
    # Embeddings give their padding row no gradient, so that it is not a direction of the policy.
    vector = torch.randn(old.shape, generator=rng) * (gradient != 0.0)
    vector /= vector.norm()
    with torch.no_grad():
        before = algorithm._distribution(batch)
    product = algorithm._fisher_product(batch)(vector)

    def slope(distance):
        vector_to_parameters(old + distance * vector, parameters)
        after = algorithm._distribution(batch)
        kl = (categorical_kl(before, after) * algorithm.weights(batch)[batch.mask]).sum()
        gradient = torch.autograd.grad(kl, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in gradient])

    # Behavior logits are float32, so the step is not as small as float64 would allow.
    step = 1e-2
    numeric = (slope(step) - slope(-step)) / (2 * step)
    error = float((numeric - product).norm() / product.norm())
    assert error < 2e-3
    assert float(product.dot(vector)) > 0.0


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_an_accepted_step_keeps_its_promises(family):
    algorithm = make_algorithm("trpo", family=family, max_kl=0.005)
    batch = algorithm.collect().episodes
    with torch.no_grad():
        before = algorithm._distribution(batch)
    stats = algorithm.update(batch)
    with torch.no_grad():
        after = algorithm._distribution(batch)
        ratio = (algorithm.score(batch).logprobs - batch.behavior_logprobs).exp()
    weights = algorithm.weights(batch)
    kl = float((categorical_kl(before, after) * weights[batch.mask]).sum())
    assert 0.0 < kl <= 0.005
    assert stats.approx_kl == pytest.approx(kl, rel=1e-3)
    advantages = algorithm.normalized(batch).advantages
    surrogate = float((ratio * advantages * weights).sum())
    assert surrogate == pytest.approx(stats.terms["surrogate_after"], abs=1e-4)
    assert surrogate > float((advantages * weights).sum())


def test_without_an_acceptable_step_the_policy_stays_bit_for_bit():
    algorithm = make_algorithm("trpo", max_kl=0.05)
    batch = algorithm.collect().episodes
    before = weights_of(algorithm.policy)
    compare = algorithm._compare
    algorithm._compare = lambda *points: replace(
        compare(*points), surrogate=-math.inf
    )  # nothing improves
    stats = algorithm.update(batch)
    after = weights_of(algorithm.policy)
    assert stats.terms["step_fraction"] == 0.0
    assert stats.optimizer_steps == 4  # the critic's: two epochs of two minibatches
    for name in before:
        assert torch.equal(before[name], after[name]) == ("value" not in name)


def test_equal_advantages_move_nothing():
    algorithm = make_algorithm("trpo")
    batch = algorithm.collect().episodes
    before = weights_of(algorithm.policy)
    stats = algorithm.update(batch.replace(advantages=torch.zeros_like(batch.advantages)))
    after = weights_of(algorithm.policy)
    assert stats.gradient_norm == 0.0
    assert all(torch.equal(before[n], after[n]) for n in before if "value" not in n)


@pytest.mark.parametrize("value_trunk", ["shared", "frozen", "separate"])
def test_the_critic_learns_without_moving_the_policy(value_trunk):
    algorithm = make_algorithm(
        "trpo", value_trunk=value_trunk, critic_epochs=20, learning_rate=1e-2
    )
    batch = algorithm.collect().episodes
    before = weights_of(algorithm.policy)
    states = algorithm._look(batch)
    first, _ = algorithm._fit_critic(batch, states)
    last, _ = algorithm._fit_critic(batch, states)
    after = weights_of(algorithm.policy)
    assert last < first
    for name in before:
        if "value" not in name:
            assert torch.equal(before[name], after[name])
    assert all(p.requires_grad for p in algorithm.policy_parameters)
    of_policy = {id(p) for p in algorithm.policy.model.parameters()}
    assert of_policy.isdisjoint(id(p) for p in algorithm.parameters)
    if value_trunk == "separate":
        assert any(
            not torch.equal(before[n], after[n])
            for n in before
            if n.startswith("critic.value_trunk")
        )


def mixture_of_experts():
    policy = LanguageModelPolicy(
        token_space(16, 8, 48),
        spaces.Discrete(48),
        lambda _: 0.0,
        model=build("MixtralForCausalLM", MOE),
        tokenizer=toy_tokenizer(),
    )
    policy.make_ref_policy()
    return policy


def test_a_mixture_of_experts_learns():
    """Its grouped product has no derivative in forward mode."""
    algorithm = make_algorithm(
        "trpo", policy=mixture_of_experts(), max_kl=1e-4, fisher_fraction=1.0
    )
    before = weights_of(algorithm.policy)
    stats = algorithm.update(algorithm.collect().episodes)
    assert 0.0 < stats.approx_kl <= 1e-4
    changed = [
        name
        for name, value in weights_of(algorithm.policy).items()
        if not value.equal(before[name])
    ]
    assert any("experts" in name for name in changed)
    assert algorithm.policy.model.config._experts_implementation != "eager"


def test_a_model_without_derivatives_is_refused_before_the_first_rollout(monkeypatch):
    monkeypatch.setattr("lmrl_bench.algorithms.fisher._plain_experts", lambda _: nullcontext())
    with pytest.raises(
        AlgorithmError, match=r"forward mode, and MixtralForCausalLM has none.*choose another"
    ):
        make_algorithm("trpo", policy=mixture_of_experts())
