"""Identities between algorithms, and what sets NLPO apart from PPO."""

from dataclasses import replace

import pytest
import torch
from fixtures.training import largest_difference, make_algorithm, weights_of

from lmrl_bench.core.seeding import derive_seed

COMMON = {"learning_rate": 1e-3, "entropy_coefficient": 0.01, "total_tokens": 150}


def trained(name, **settings):
    algorithm = make_algorithm(name, **{**COMMON, **settings})
    return weights_of(algorithm.learn().policy)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a2c_is_ppo_with_one_epoch_one_minibatch_and_no_clip(family):
    # With its usual epsilon Adam makes a step of the learning rate from the rounding of a gradient of nearly zero.
    same = {"family": family, "adam_epsilon": 1e-4}
    a2c = trained("a2c", **same)
    ppo = trained("ppo", **same, epochs=1, minibatch_episodes=8, clip_range=1e6)
    assert largest_difference(a2c, ppo) < 1e-6
    start = weights_of(make_algorithm("a2c", **COMMON | same).policy)
    assert largest_difference(a2c, start) > 1e-4


def test_nlpo_with_top_p_one_is_ppo():
    nlpo = trained("nlpo", top_p=1.0, filter_update_iterations=1)
    assert largest_difference(nlpo, trained("ppo")) == 0.0
    assert largest_difference(nlpo, trained("nlpo", top_p=0.5)) > 1e-4


def test_the_first_trpo_direction_is_the_natural_gradient_of_the_a2c_loss():
    """With damping alone left of F + c I (c large), the direction is the A2C gradient divided by c."""
    trpo = make_algorithm("trpo", damping=1e6, conjugate_gradient_steps=3, max_kl=5.0)
    a2c = make_algorithm("a2c")
    batch = trpo.collect().episodes
    before = weights_of(trpo.policy)
    trpo.update(batch)
    minibatch = a2c.normalized(batch)
    logprobs = a2c.score(minibatch, values=False).logprobs
    objective = (logprobs * minibatch.advantages * a2c.weights(minibatch)).sum()
    names = [name for name, _ in a2c.policy.model.named_parameters()]
    gradients = torch.autograd.grad(objective, list(a2c.policy.model.parameters()))
    after = weights_of(trpo.policy)
    step = torch.cat([(after[f"model.{n}"] - before[f"model.{n}"]).flatten() for n in names])
    gradient = torch.cat([g.flatten() for g in gradients])
    assert float(torch.cosine_similarity(step, gradient, dim=0)) > 0.999


class TestNLPOFilter:
    def test_the_mask_lags_and_moves_after_k_iterations(self):
        algorithm = make_algorithm(
            "nlpo", learning_rate=1e-2, filter_update_iterations=3, total_tokens=10_000
        )
        distances = []

        def watch(stats):
            pairs = zip(
                algorithm.token_filter.model.parameters(),
                algorithm.policy.model.parameters(),
                strict=True,
            )
            distances.append(max(float((one - other).abs().max()) for one, other in pairs))
            algorithm.total_tokens = stats.tokens if stats.iteration == 4 else 10_000

        algorithm.learn(1, after_iteration=watch)
        for _ in range(3):
            algorithm.learn(algorithm.tokens + 1, after_iteration=watch)
        assert distances[0] > 0.0
        assert distances[1] > 0.0
        assert distances[2] == 0.0
        assert distances[3] > 0.0

    def test_drawn_tokens_lie_in_the_set_and_the_masked_distribution_is_renormalized(self):
        algorithm = make_algorithm("nlpo", top_p=0.5)
        batch = algorithm.collect().episodes
        with torch.no_grad():
            logits = algorithm.score(batch, full_logits=True).logits
            raw = algorithm.policy.score(
                replace(batch.tokens, allowed=None),
                algorithm.behavior, full_logits=True,
            ).logits  # fmt: skip
        torch.testing.assert_close(logits.exp().sum(-1), torch.ones(len(logits)))
        assert bool((logits.isneginf().sum(-1) > 0).any())
        kept = torch.where(logits.isneginf(), 0.0, raw.exp()).sum(-1, keepdim=True)
        expected = (raw - kept.log())[~logits.isneginf()]
        torch.testing.assert_close(logits[~logits.isneginf()], expected, atol=1e-5, rtol=1e-5)

    def test_sets_go_with_their_tokens(self):
        algorithm = make_algorithm("nlpo", top_p=0.5)
        batch = algorithm.collect().episodes
        with torch.no_grad():
            whole = algorithm.score(batch).logprobs
            for rows in ([5, 2], [7], [0, 3, 1]):
                part = batch.select(rows)
                scored = algorithm.score(part).logprobs
                expected = whole[rows, : scored.shape[1]]
                torch.testing.assert_close(scored, expected, atol=1e-5, rtol=0)

    def test_the_released_mask_never_moves_and_log_probabilities_are_the_unmasked_ones(self):
        algorithm = make_algorithm("nlpo-rl4lms", learning_rate=1e-2, total_tokens=150)
        start = [p.clone() for p in algorithm.token_filter.model.parameters()]
        algorithm.learn()
        assert all(
            torch.equal(one, other)
            for one, other in zip(start, algorithm.token_filter.model.parameters(), strict=True)
        )
        batch = algorithm.collect().episodes
        with torch.no_grad():
            raw = algorithm.policy.score(
                batch.tokens,
                algorithm.behavior,
            ).logprobs  # fmt: skip
        assert torch.equal(raw, batch.behavior_logprobs)


def test_streams_of_one_seed_differ_by_name():
    assert derive_seed(0, "sampling") != derive_seed(0, "shuffle")
