"""The mathematics, against closed forms and enumeration."""

import math

import pytest
import torch
from torch.nn import functional as F

from lmrl_bench.algorithms import functional as f
from lmrl_bench.policies.critic import value_error


def mask_of(*lengths, width=None):
    width = width or max(lengths)
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]


class TestGae:
    """Pitfalls B6, B7, B8."""

    rewards = torch.tensor([[1.0, 0.0, 2.0]])
    values = torch.tensor([[0.5, 1.0, 1.5]])

    def closed_form(self, last):
        gamma, lam = 0.9, 0.8
        d2 = 2.0 + gamma * last - 1.5
        d1 = 0.0 + gamma * 1.5 - 1.0
        d0 = 1.0 + gamma * 1.0 - 0.5
        a2 = d2
        a1 = d1 + gamma * lam * a2
        return torch.tensor([[d0 + gamma * lam * a1, a1, a2]])

    @pytest.mark.parametrize(("bootstrap", "last"), [(None, 0.0), (0.0, 0.0), (3.0, 3.0)])
    def test_terminated_truncated_and_bootstrapped(self, bootstrap, last):
        tail = None if bootstrap is None else torch.tensor([bootstrap])
        advantages, returns = f.gae(
            self.rewards, self.values, mask_of(3), gamma=0.9, gae_lambda=0.8, bootstrap=tail
        )
        torch.testing.assert_close(advantages, self.closed_form(last))
        torch.testing.assert_close(returns, self.closed_form(last) + self.values)

    def test_monte_carlo_returns_where_lambda_is_one(self):
        _, returns = f.gae(self.rewards, self.values, mask_of(3), gamma=1.0, gae_lambda=1.0)
        torch.testing.assert_close(returns, torch.tensor([[3.0, 2.0, 2.0]]))

    def test_garbage_at_padding_changes_nothing(self):
        rewards, values = torch.randn(3, 6), torch.randn(3, 6)
        mask = mask_of(6, 2, 4)
        clean = f.gae(rewards, values, mask, gamma=0.9, gae_lambda=0.7)
        dirty = f.gae(
            rewards.masked_fill(~mask, math.nan), values.masked_fill(~mask, 1e9), mask,
            gamma=0.9, gae_lambda=0.7,
        )  # fmt: skip
        for one, other in zip(clean, dirty, strict=True):
            assert torch.equal(one, other)

    def test_environment_tokens_inside_a_completion_change_nothing(self):
        bootstrap = torch.tensor([0.7])
        plain = f.gae(
            self.rewards, self.values, mask_of(3), gamma=0.9, gae_lambda=0.8, bootstrap=bootstrap
        )
        inserted = torch.tensor([[True, False, False, True, True]])
        wide_rewards = torch.full((1, 5), 5.0)
        wide_values = torch.full((1, 5), -7.0)
        wide_rewards[inserted], wide_values[inserted] = self.rewards[0], self.values[0]
        wide = f.gae(
            wide_rewards, wide_values, inserted, gamma=0.9, gae_lambda=0.8, bootstrap=bootstrap
        )
        for one, other in zip(plain, wide, strict=True):
            torch.testing.assert_close(one[0], other[inserted])
            assert not other[~inserted].any()


class TestTokenRewards:
    @pytest.mark.parametrize("length", range(1, 6))
    def test_the_score_is_at_the_last_policy_token(self, length):
        mask = mask_of(length, width=5)
        rewards = f.token_rewards(torch.tensor([2.0]), torch.full((1, 5), 0.25), mask)
        expected = torch.zeros(5)
        expected[:length] = -0.25
        expected[length - 1] += 2.0
        torch.testing.assert_close(rewards[0], expected)

    def test_environment_text_at_the_end_is_not_rewarded(self):
        mask = torch.tensor([[True, True, False, False]])
        rewards = f.token_rewards(torch.tensor([1.0]), torch.zeros(1, 4), mask)
        torch.testing.assert_close(rewards, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))

    def test_dense_rewards_come_on_top_and_padding_is_ignored(self):
        mask = mask_of(2, width=3)
        dense = torch.tensor([[0.5, 0.5, math.nan]])
        charge = torch.tensor([[0.1, 0.1, math.nan]])
        rewards = f.token_rewards(torch.tensor([1.0]), charge, mask, dense)
        torch.testing.assert_close(rewards, torch.tensor([[0.4, 1.4, 0.0]]))

    def test_an_empty_completion_is_an_error(self):
        with pytest.raises(ValueError, match="without a policy token"):
            f.token_rewards(torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool))


class TestKl:
    """Pitfall C2: the estimators against enumeration, in value and in gradient."""

    def distributions(self):
        rng = torch.Generator().manual_seed(3)
        logits = torch.randn(8, generator=rng, dtype=torch.float64, requires_grad=True)
        other = torch.randn(8, generator=rng, dtype=torch.float64).log_softmax(-1)
        return logits, other

    def test_expectations_by_enumeration(self):
        logits, q = self.distributions()
        p = logits.log_softmax(-1)
        exact = (p.exp() * (p - q)).sum()
        for estimator in (f.kl_k1, f.kl_k3):
            torch.testing.assert_close((p.exp() * estimator(p, q)).sum(), exact)
        smallest = [float(k(p, q).detach().min()) for k in (f.kl_k1, f.kl_k2, f.kl_k3)]
        assert smallest[0] < 0.0 <= min(smallest[1:])

    def test_gradients_as_a_loss_are_as_documented(self):
        logits, q = self.distributions()
        exact = f.categorical_kl(logits.log_softmax(-1), q)
        (expected,) = torch.autograd.grad(exact, logits)

        def gradient(estimator):
            p = logits.log_softmax(-1)
            return torch.autograd.grad((p.detach().exp() * estimator(p, q)).sum(), logits)[0]

        torch.testing.assert_close(gradient(f.kl_k2), expected)
        torch.testing.assert_close(gradient(f.kl_k1), torch.zeros_like(expected))
        assert not torch.allclose(gradient(f.kl_k3), expected, atol=1e-3)

    def test_exact_kl_equals_torch_and_ignores_impossible_tokens(self):
        logits, q = self.distributions()
        p = logits.log_softmax(-1)
        torch.testing.assert_close(
            f.categorical_kl(p, q), F.kl_div(q, p, log_target=True, reduction="sum")
        )
        hole = torch.zeros(8, dtype=torch.bool)
        hole[2] = True
        masked_p = logits.masked_fill(hole, -math.inf).log_softmax(-1)
        masked_q = q.masked_fill(hole, -math.inf).log_softmax(-1)
        kept = f.categorical_kl(logits[~hole].log_softmax(-1), q[~hole].log_softmax(-1))
        value = f.categorical_kl(masked_p, masked_q)
        torch.testing.assert_close(value, kept)
        (first,) = torch.autograd.grad(value, logits, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), logits)
        assert torch.isfinite(first).all()
        assert torch.isfinite(second).all()
        assert not bool(first[2])


def test_clipped_surrogate_in_the_four_quadrants():
    """Pitfall D1."""
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5])
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    expected = torch.tensor([1.2, 0.5, -1.5, -0.8])
    torch.testing.assert_close(f.clipped_surrogate(ratio, advantages, 0.2), expected)


def test_value_error_is_clipped_around_the_rollout_value():
    values, returns = torch.tensor([2.0, 0.1]), torch.tensor([1.0, 1.0])
    torch.testing.assert_close(value_error(values, returns), torch.tensor([1.0, 0.81]))
    clipped = value_error(values, returns, torch.zeros(2), 0.2)
    torch.testing.assert_close(clipped, torch.tensor([0.64, 0.81]))


class TestAggregation:
    """Pitfalls B5, D4, D9."""

    mask = mask_of(2, 8, 0)

    def test_token_weights(self):
        token = f.token_weights(self.mask, "token-mean")
        torch.testing.assert_close(token[self.mask], torch.full((10,), 0.1))
        sequence = f.token_weights(self.mask, "sequence-mean")
        torch.testing.assert_close(sequence.sum(1), torch.tensor([0.5, 0.5, 0.0]))
        torch.testing.assert_close(sequence[0, 0], torch.tensor(0.25))
        for weights in (token, sequence):
            assert not weights[~self.mask].any()

    def test_masking_a_row_is_dropping_the_row(self):
        values = torch.randn(3, 8)
        for mode in ("token-mean", "sequence-mean"):
            whole = f.weighted_sum(values, f.token_weights(self.mask, mode))
            dropped = f.weighted_sum(values[:2], f.token_weights(self.mask[:2], mode))
            torch.testing.assert_close(whole, dropped)

    def test_whiten(self):
        values = torch.randn(3, 8).masked_fill(~self.mask, math.nan)
        white = f.whiten(values, self.mask)
        chosen = values[self.mask]
        torch.testing.assert_close(
            white[self.mask], (chosen - chosen.mean()) / (chosen.std() + 1e-8)
        )
        assert not white[~self.mask].any()

    def test_whiten_of_equal_or_single_values_is_finite(self):
        assert not f.whiten(torch.full((2, 3), 4.0), mask_of(3, 3)).any()
        torch.testing.assert_close(
            f.whiten(torch.tensor([[4.0, 1.0]]), mask_of(1, width=2)), torch.tensor([[4.0, 0.0]])
        )


def test_explained_variance():
    mask = mask_of(3, width=4)
    returns = torch.tensor([[1.0, 2.0, 3.0, math.nan]])
    assert f.explained_variance(returns, returns, mask) == pytest.approx(1.0)
    assert f.explained_variance(torch.zeros(1, 4), returns, mask) == pytest.approx(0.0)
    assert f.explained_variance(returns, torch.ones(1, 4), mask) == 0.0
