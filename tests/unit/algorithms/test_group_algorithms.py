"""REINFORCE, RLOO and GRPO: what they have in common, what must not change them, and that they have no critic."""

import math

import numpy as np
import pytest
import torch
from fixtures.toy import ToyReward, toy_task
from fixtures.training import (
    GROUPS,
    WITHOUT_CRITIC,
    changed,
    make_algorithm,
    make_policy,
    weights_of,
)
from pydantic import ValidationError

from lmrl_bench.algorithms import ALGORITHMS
from lmrl_bench.algorithms import functional as f
from lmrl_bench.core.errors import AlgorithmError
from lmrl_bench.rewards.base import RewardOutput

NO_KL = {"kl": {"coefficient": 0.0}}
ONE_STEP = {"epochs": 1, "minibatch_episodes": 8, "max_grad_norm": 1e9}
EXACT = {
    "grpo": {**NO_KL, **ONE_STEP, "group_size": 4},
    "reinforce": {**NO_KL, "max_grad_norm": 1e9},
    "rloo": {**NO_KL, **ONE_STEP, "group_size": 4},
    **{
        name: {**NO_KL, **ONE_STEP, "group_size": 4}
        for name in GROUPS
        if name not in ("grpo", "rloo")
    },
    "reinforce-plus-plus": {**NO_KL, **ONE_STEP},
}
LENGTHS = torch.tensor([8, 3, 1, 5, 2, 8, 6, 4])


def exact(name, **settings):
    """An algorithm with one unclipped gradient step and no KL charge."""
    return make_algorithm(name, **{**EXACT[name], **settings})


def scored(algorithm, scores=(0.1, 0.9, 0.4, 0.5, -1.0, 2.0, 0.3, 0.3)):
    """Eight ragged completions with these scores, and the algorithm's advantages of them."""
    batch = algorithm.collect().episodes
    columns = torch.arange(batch.tokens.completion_ids.shape[1])
    mask = batch.mask & (columns[None, :] < LENGTHS[:, None])
    scores = torch.tensor(scores)
    rewards = f.token_rewards(scores, torch.zeros_like(batch.rewards), mask)
    fields = {
        name: getattr(batch, name).masked_fill(~mask, 0.0)
        for name in ("behavior_logprobs", "ref_logprobs")
    }
    batch = changed(batch, completion_mask=mask, scores=scores, rewards=rewards, **fields)
    advantages, returns = algorithm.advantages(batch)
    return batch.replace(advantages=advantages, returns=returns)


def gradient(algorithm, batch):
    """The gradient of one step, which is not taken, as one vector."""
    algorithm.gradient_step(batch, algorithm._loss, proceed=lambda _: False)
    return torch.cat([p.grad.flatten().clone() for p in algorithm.policy.model.parameters()])


def moved(algorithm, size=0.02):
    """Moves the policy away from the one that sampled."""
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in algorithm.policy.model.parameters():
            parameter += size * torch.randn(parameter.shape, generator=rng)
    return algorithm


def close(one, other, relative=1e-6):
    assert float(other.abs().max()) > 1e-3
    assert float((one - other).abs().max()) < relative * max(float(other.abs().max()), 1.0)


class TestGroupStatistics:
    values = torch.tensor([1.0, 2.0, 6.0, 3.0, 5.0], dtype=torch.float64)
    groups = torch.tensor([7, 4, 7, 4, 7])

    def test_by_hand(self):
        """Pitfall C9, with groups that are neither adjacent nor of one size."""
        expected = {
            f.group_mean: [4.0, 2.5, 4.0, 2.5, 4.0],
            f.leave_one_out: [1.0 - 5.5, 2.0 - 3.0, 6.0 - 3.0, 3.0 - 2.0, 5.0 - 3.5],
            f.group_deviation: [math.sqrt(7.0), math.sqrt(0.5)] * 2 + [math.sqrt(7.0)],
        }
        for function, numbers in expected.items():
            found = function(self.values, self.groups)
            torch.testing.assert_close(found, torch.tensor(numbers, dtype=torch.float64))

    @pytest.mark.parametrize("function", [f.group_mean, f.leave_one_out, f.group_deviation])
    def test_a_permutation_permutes(self, function):
        """Pitfall C10, bit for bit."""
        order = torch.tensor([3, 0, 4, 1, 2])
        permuted = function(self.values[order], self.groups[order])
        assert torch.equal(permuted, function(self.values, self.groups)[order])

    def test_another_groups_infinity_stays_there(self):
        values = self.values.clone()
        values[0] = math.inf
        assert f.group_mean(values, self.groups)[[1, 3]].tolist() == [2.5, 2.5]

    @pytest.mark.parametrize("size", [2, 3, 5, 6, 7])
    def test_equal_values_differ_by_exactly_nothing(self, size):
        """Pitfall C11: any rounding would be divided by a deviation that is rounding, too."""
        values = f.episode_returns(torch.full((size, 1), 0.1), torch.ones(size, 1).bool())
        groups = torch.zeros(size, dtype=torch.long)
        for found in (values - f.group_mean(values, groups), f.leave_one_out(values, groups),
                      f.group_deviation(values, groups)):  # fmt: skip
            assert not found.any()

    def test_a_group_of_one_is_an_error(self):
        for function in (f.leave_one_out, f.group_deviation):
            with pytest.raises(ValueError, match="no others"):
                function(self.values[:3], self.groups[:3])

    def test_the_share_of_equal_groups(self):
        scores = torch.tensor([0.1, 0.1, 0.1, 0.3, 0.1])
        assert f.share_of_equal_groups(scores, torch.tensor([0, 0, 1, 1, 0])) == 0.6
        assert f.share_of_equal_groups(scores, torch.tensor([0, 1, 0, 0, 1])) == 0.4


class TestIdentities:
    def test_grpo_without_deviation_is_rloo_but_for_a_factor(self):
        """G/(G − 1), in the advantages, and in the gradient where tokens are added up as in RLOO."""
        rloo, grpo = exact("rloo"), exact("grpo", divide_by_std=False, aggregation="constant")
        batch = scored(rloo)
        relative, _ = grpo.advantages(batch)
        torch.testing.assert_close(batch.advantages, relative * 4 / 3)
        longest = rloo.core.task.spec.completion.max_tokens
        factor = longest * 4 / 3
        expected = gradient(grpo, batch.replace(advantages=relative))
        close(gradient(rloo, batch) / factor, expected)

    def test_reinforce_is_grpo_and_rloo_with_one_group(self):
        reinforce = exact("reinforce")
        grpo = exact("grpo", group_size=8, divide_by_std=False, aggregation="token-mean")
        rloo = exact("rloo", group_size=8)
        batch = scored(reinforce).replace(group_ids=torch.zeros(8, dtype=torch.long))
        relative, returns = grpo.advantages(batch)
        torch.testing.assert_close(batch.advantages, relative)
        torch.testing.assert_close(batch.returns, returns)
        close(gradient(reinforce, batch), gradient(grpo, batch.replace(advantages=relative)))
        left_out, _ = rloo.advantages(batch)
        torch.testing.assert_close(batch.advantages * 8 / 7, left_out)
        expected = gradient(rloo, batch.replace(advantages=left_out)) * 8 / batch.tokens.n_tokens
        close(gradient(reinforce, batch), expected * 7 / 8)

    @pytest.mark.parametrize("name", WITHOUT_CRITIC)
    def test_the_first_gradient_is_the_policy_gradient(self, name):
        """Before the first step ratio and clip are nothing: the gradient of −Σ w log π A, by autograd alone."""
        algorithm = exact(name)
        batch = scored(algorithm)
        logprobs = algorithm.score(batch, values=False).logprobs
        weights = algorithm.weights(batch)
        if name == "rloo":
            weights = batch.mask.float() / len(batch)
        parameters = list(algorithm.policy.model.parameters())
        parts = torch.autograd.grad(-(weights * logprobs * batch.advantages).sum(), parameters)
        expected = torch.cat([part.flatten() for part in parts])
        if name == "grpo":
            algorithm = exact(name, kl_loss_coefficient=0.0)
        close(gradient(algorithm, batch), expected, 1e-5)

    def test_equal_deviations_make_grpo_a_scaled_copy(self):
        one, other = exact("grpo"), exact("grpo", divide_by_std=False)
        batch = scored(one, (0.0, 1.0, 0.0, 1.0, 5.0, 6.0, 5.0, 6.0))
        deviation = math.sqrt(1.0 / 3.0)
        expected = other.advantages(batch)[0] / (deviation + 1e-4)
        torch.testing.assert_close(batch.advantages, expected)


class TestInvariances:
    @pytest.mark.parametrize("name", WITHOUT_CRITIC)
    @pytest.mark.parametrize("order", [[4, 5, 6, 7, 0, 1, 2, 3], [3, 6, 0, 5, 2, 7, 1, 4]])
    def test_permuted_groups_change_nothing(self, name, order):
        """Whole groups, and rows across groups (pitfall C10)."""
        algorithm = exact(name)
        batch = scored(algorithm)
        other = batch.select(order, trim=False)
        advantages, returns = algorithm.advantages(other)
        if (
            name == "reinforce-plus-plus"
        ):  # its mean is over all rows, and sums round by their order
            torch.testing.assert_close(advantages, batch.advantages[order], atol=1e-6, rtol=0)
        else:
            assert torch.equal(advantages, batch.advantages[order])
        assert torch.equal(returns, batch.returns[order])
        expected = gradient(algorithm, batch)
        close(gradient(algorithm, other), expected, 3e-6)

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("grpo", {"aggregation": "token-mean"}),
            ("grpo", {"aggregation": "sequence-mean", "kl_loss_coefficient": 0.1}),
            ("grpo", {"aggregation": "constant"}),
            *((name, {}) for name in WITHOUT_CRITIC if name != "grpo"),
        ],
    )
    def test_the_split_into_micro_batches_changes_nothing(self, name, settings):
        """Pitfall D2, with ragged completions and groups that are cut."""
        whole = exact(name, **settings)
        batch = scored(whole)
        expected = gradient(moved(whole), batch)
        for budget in (1, 50):
            split = moved(exact(name, micro_batch_tokens=budget, **settings))
            assert len(split.micro_batches(batch)) > 1
            close(gradient(split, batch), expected, 3e-6)

    @pytest.mark.parametrize("name", WITHOUT_CRITIC)
    def test_a_constant_added_to_all_rewards_changes_nothing(self, name):
        algorithm = exact(name)
        plain = scored(algorithm)
        higher = scored(algorithm, tuple(score + 4.0 for score in plain.scores.tolist()))
        torch.testing.assert_close(higher.advantages, plain.advantages, atol=2e-6, rtol=1e-5)

    @pytest.mark.parametrize("name", WITHOUT_CRITIC)
    def test_truncated_completions_are_rewarded_as_they_stand(self, name):
        """Pitfall B6: without a critic nothing is bootstrapped, so the flags play no part."""
        algorithm = exact(name)
        batch = scored(algorithm)
        flipped = batch.replace(truncated=batch.terminated, terminated=batch.truncated)
        assert torch.equal(algorithm.advantages(flipped)[0], batch.advantages)

    @pytest.mark.parametrize("name", [name for name in WITHOUT_CRITIC if name != "raft"])
    def test_equal_rewards_give_no_gradient(self, name):
        """Pitfall C11, exactly: Adam would make a step even of rounding."""
        algorithm = exact(name, kl_loss_coefficient=0.0) if name == "grpo" else exact(name)
        batch = scored(algorithm, (0.1,) * 8)
        before = weights_of(algorithm.policy)
        assert not batch.advantages.any()
        stats = algorithm.update(batch)
        assert stats.gradient_norm == 0.0
        if name in GROUPS:
            assert stats.terms["equal_scores"] == 1.0
        after = weights_of(algorithm.policy)
        assert all(torch.equal(before[key], after[key]) for key in before)

    @pytest.mark.parametrize("name", [name for name in GROUPS if name != "raft"])
    def test_a_group_of_equal_rewards_teaches_nothing_next_to_another(self, name):
        algorithm = exact(name)
        batch = scored(algorithm, (0.7,) * 4 + (0.1, 0.2, 0.3, 0.9))
        assert not batch.advantages[:4].any()
        assert bool(batch.advantages[4:, 0].all())
        assert algorithm.update(batch).terms["equal_scores"] == 0.5


class TestNoCritic:
    @pytest.mark.parametrize("name", WITHOUT_CRITIC)
    def test_no_value_is_computed_and_no_value_head_is_trained(self, name, monkeypatch):
        algorithm = make_algorithm(name, learning_rate=1e-2, total_tokens=150)

        def refuse(*_):
            raise AssertionError("a value was computed")

        monkeypatch.setattr(algorithm.policy.critic, "state_values", refuse)
        before = weights_of(algorithm.policy)
        algorithm.learn()
        after = weights_of(algorithm.policy)
        heads = [key for key in before if "value" in key]
        assert heads
        assert all(torch.equal(before[key], after[key]) for key in heads)
        assert all(not torch.equal(before[key], after[key]) for key in before if key not in heads)
        assert not algorithm.collect().episodes.values.any()
        head = {id(parameter) for parameter in algorithm.policy.critic.value_head.parameters()}
        assert head.isdisjoint(id(parameter) for parameter in algorithm.parameters)

    @pytest.mark.parametrize("name", WITHOUT_CRITIC)
    def test_a_trunk_for_the_critic_is_refused(self, name):
        with pytest.raises(AlgorithmError, match=r"value_trunk is 'separate', but \w+ has no"):
            make_algorithm(name, value_trunk="separate")

    def test_the_others_have_one(self):
        for name in ALGORITHMS:
            algorithm = ALGORITHMS.get(name)
            if hasattr(algorithm, "uses_critic"):
                assert algorithm.uses_critic == (
                    "gae_lambda" in algorithm.config_class.model_fields
                )
                assert algorithm.uses_critic == (name not in WITHOUT_CRITIC)


class TestSettings:
    @pytest.mark.parametrize("name", ["grpo", "rloo"])
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"group_size": 1}, "greater than or equal to 2"),
            ({"group_size": 3}, "must divide episodes_per_iteration"),
            ({"minibatch_episodes": 3}, "must divide"),
        ],
    )
    def test_groups_and_minibatches_fill_an_iteration(self, name, settings, message):
        with pytest.raises(ValidationError, match=message):
            make_algorithm(name, **settings)

    def test_the_kl_is_charged_once(self):
        """Pitfall C4."""
        config = ALGORITHMS.get("grpo").config_class
        assert (config().kl.coefficient, config().kl_loss_coefficient) == (0.0, 0.04)
        assert config(kl={"horizon": 9}).kl.coefficient == 0.0
        with pytest.raises(ValidationError, match="charged twice"):
            config(kl={"coefficient": 0.1})
        assert config(kl={"coefficient": 0.1}, kl_loss_coefficient=0.0).kl.coefficient == 0.1

    def test_defaults_are_one_step_an_iteration(self):
        for name, size in (("grpo", 8), ("rloo", 4)):
            config = ALGORITHMS.get(name).config_class()
            assert (config.group_size, config.epochs, config.step_episodes) == (size, 1, 64)


class TestGRPO:
    def test_token_weights(self):
        """Pitfall D9: what a token of a short and of a long completion weighs."""
        mask = torch.arange(8)[None, :] < torch.tensor([2, 6])[:, None]
        expected = {
            "token-mean": (1 / 8, 1 / 8),
            "sequence-mean": (1 / 4, 1 / 12),
            "constant": (1 / 16, 1 / 16),  # the task's longest completion has 8 tokens
        }
        for aggregation, (short, long) in expected.items():
            algorithm = exact("grpo", aggregation=aggregation)
            batch = scored(algorithm).select([0, 1], trim=False)
            batch = changed(batch, completion_mask=mask)
            weights = algorithm.weights(batch)
            assert weights[0].tolist() == pytest.approx([short] * 2 + [0.0] * 6)
            assert weights[1].tolist() == pytest.approx([long] * 6 + [0.0] * 2)

    def test_the_upper_clip_has_a_range_of_its_own(self):
        """Pitfall D1: four quadrants, and what counts as clipped."""
        ratio = torch.tensor([0.7, 1.25, 1.4, 0.7, 1.25, 1.4])
        sign = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
        objective = f.clipped_surrogate(ratio, sign, 0.2, 0.3)
        assert objective.tolist() == pytest.approx([0.7, 1.25, 1.3, -0.8, -1.25, -1.4])
        algorithm = exact("grpo", clip_range=0.2, clip_range_high=0.3, epochs=2)
        batch = scored(algorithm)
        shifted = batch.replace(
            behavior_logprobs=batch.behavior_logprobs - torch.tensor(1.25).log()
        )
        assert algorithm.update(shifted).first_clip_fraction == 0.0
        narrow = exact("grpo", clip_range=0.2)
        assert narrow.update(shifted).first_clip_fraction == 1.0

    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_kl_term_pulls_the_policy_back_to_the_reference(self, weighted):
        """Pitfall C1: with no reward but the KL, that of a perturbed policy falls."""

        class Nothing(ToyReward):
            def __call__(self, batch):
                return RewardOutput(np.zeros(len(batch)))

        rows = []
        algorithm = make_algorithm(
            "grpo", task=toy_task(reward=Nothing()), kl_loss_coefficient=1.0, **NO_KL,
            weighted_kl_loss=weighted, episodes_per_iteration=64, minibatch_episodes=16,
            learning_rate=1e-3, total_tokens=64 * 8 * 6,
        )  # fmt: skip
        moved(algorithm, 0.05)
        algorithm.learn(after_iteration=rows.append)
        kl = [row.rollout.kl for row in rows]
        assert np.mean(kl[-2:]) < 0.7 * kl[0]
        assert rows[-1].update.terms["kl_loss"] < rows[0].update.terms["kl_loss"]
        assert all(row.rollout.kl_charged == 0.0 for row in rows)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_whose_gradient_the_kl_term_has(self, weighted):
        """Pitfall C2, by enumerating one token: KL(π ‖ ρ) if weighted, else KL(ρ ‖ π)."""
        logits = torch.randn(8, generator=torch.Generator().manual_seed(0)).double()
        reference = torch.randn(8, generator=torch.Generator().manual_seed(1)).double()
        logits.requires_grad_(True)
        ours, theirs = logits.log_softmax(0), reference.log_softmax(0)
        old = ours.detach()
        k3 = f.kl_k3(ours, theirs)
        term = (old.exp() * (k3 * (ours - old).exp() if weighted else k3)).sum()
        pair = (ours, theirs) if weighted else (theirs, ours)
        (expected,) = torch.autograd.grad(f.categorical_kl(*pair), logits, retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(term, logits)[0], expected)


class TestRLOO:
    def test_the_ratio_is_that_of_whole_completions(self):
        """Each token is within the range, the long completion as a whole is not: it gives no gradient."""
        algorithm = exact("rloo", clip_range=0.2)
        batch = scored(algorithm, (1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0))
        shift = math.log(1.1)
        moved_away = batch.replace(behavior_logprobs=batch.behavior_logprobs - shift)
        rows = [0, 2]  # 8 tokens and 1 token, both better than the others
        long, short = (
            gradient(exact("rloo", clip_range=0.2), moved_away.select([row])) for row in rows
        )
        assert batch.lengths[rows].tolist() == [8, 1]
        assert not long.any()
        assert bool(short.any())
        stats = algorithm.update(moved_away)
        # Clipped are the completions of two tokens or more: 1.1² > 1.2.
        assert stats.first_clip_fraction == pytest.approx(1.0 - 1.0 / batch.tokens.n_tokens)

    def test_dense_rewards_and_the_kl_charge_are_part_of_the_return(self):
        task = toy_task(reward=ToyReward(token_bonus=0.25))
        algorithm = make_algorithm("rloo", task=task, kl={"coefficient": 0.3})
        moved(algorithm)
        batch = algorithm.collect().episodes
        log_ratio = batch.behavior_logprobs - batch.ref_logprobs
        expected = batch.scores + 0.25 * batch.lengths - 0.3 * log_ratio.sum(dim=1)
        assert float(log_ratio.abs().max()) > 0.01
        torch.testing.assert_close(batch.returns[:, 0], expected, atol=1e-5, rtol=1e-5)
        pairs = expected.view(4, 2)
        difference = (pairs - pairs.flip(1)).view(-1)
        torch.testing.assert_close(batch.advantages[:, 0], difference, atol=1e-5, rtol=1e-5)


class TestReinforce:
    def test_returns_are_discounted(self):
        algorithm = exact("reinforce", gamma=0.5, baseline="none")
        batch = scored(algorithm)
        assert batch.returns[1].tolist() == pytest.approx([0.225, 0.45, 0.9, 0, 0, 0, 0, 0])
        assert torch.equal(batch.advantages, batch.returns)

    def test_the_moving_average(self):
        """The first batch has its own mean; later ones those before them, whose actions are independent."""
        algorithm = exact("reinforce", baseline="moving-average", baseline_decay=0.75)
        offsets, baselines = (0.0, 1.0, 2.0), []
        for offset in offsets:
            batch = scored(algorithm, tuple(offset + 0.1 * row for row in range(8)))
            baselines.append(float((batch.returns - batch.advantages)[0, 0]))
            stats = algorithm.update(batch)
            assert stats.terms["baseline"] == pytest.approx(baselines[-1], rel=1e-5)
        first, second = 0.35, 0.75 * 0.35 + 0.25 * 1.35
        assert baselines == pytest.approx([first, first, second])
        assert float(algorithm.average.value) == pytest.approx(0.75 * second + 0.25 * 2.35)

    def test_no_baseline_gives_the_returns(self):
        algorithm = exact("reinforce", baseline="none")
        batch = scored(algorithm)
        assert torch.equal(batch.advantages, batch.returns)
        assert algorithm.update(batch).terms["baseline"] == 0.0


def test_the_reference_is_the_initial_policy_and_stays():
    """Pitfall C5 for the loss that looks at it."""
    policy = make_policy()
    start = {name: value.clone() for name, value in policy.model.state_dict().items()}
    make_algorithm(
        "grpo", policy=policy, learning_rate=1e-2, kl_loss_coefficient=0.1, **NO_KL
    ).learn(100)
    for name, value in policy.ref_policy.model.state_dict().items():
        assert torch.equal(value, start[name])
