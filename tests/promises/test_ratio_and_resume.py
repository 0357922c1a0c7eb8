"""Two promises: the ratio is 1 before the first update, and resume equals uninterrupted, bit for bit."""

from __future__ import annotations

import io

import pytest
import torch
from fixtures.toy import toy_task
from fixtures.training import ACTING, FAMILIES, make_algorithm, weights_of


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ACTING)
def test_the_ratio_is_one_before_the_first_update(name, family):
    """Ragged prompts, temperature 0.7, a minimum length, and NLPO's mask (pitfalls A1, A4, A13)."""
    task = toy_task(min_completion_tokens=2)
    algorithm = make_algorithm(name, family=family, task=task, temperature=0.7)
    rollout = algorithm.collect()
    batch = rollout.episodes
    assert len(set(batch.tokens.prompt_mask.sum(dim=1).tolist())) > 1
    with torch.no_grad():
        scored = algorithm.score(batch).logprobs
    assert float((scored - batch.behavior_logprobs).abs().max()) < 1e-5
    assert float(batch.behavior_logprobs[batch.mask].exp().mean()) < 0.9
    # The reference is the initial policy, so nothing is charged yet (pitfall C5).
    assert abs(rollout.stats.kl) < 1e-4
    stats = algorithm.update(batch)
    assert stats.first_clip_fraction == 0.0
    assert stats.max_logprob_difference < 1e-5


def test_the_released_nlpo_reports_that_it_scores_another_distribution_than_it_draws_from():
    seen = []
    algorithm = make_algorithm("nlpo-rl4lms", total_tokens=30)
    algorithm.learn(after_iteration=seen.append)
    assert seen[0].update.max_logprob_difference > 0.01
    assert seen[0].update.first_clip_fraction == 0.0


def learn(name, tokens, state=None, **settings):
    """Trains up to `tokens`; returns the parameters, the state and the numbers of each iteration."""
    rows = []
    adaptive = {} if name == "sft" else {"kl": {"coefficient": 0.1, "target": 0.5}}
    algorithm = make_algorithm(name, total_tokens=200, **{**adaptive, **settings})
    if state is not None:
        # Everything that was drawn or changed before must come from the state.
        for parameter in algorithm.policy.parameters():
            torch.nn.init.constant_(parameter, 0.5)
        algorithm.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))

    def keep(stats):
        flat = stats.flat()
        flat.pop("rollout/tokens_per_second", None)
        rows.append({key: value for key, value in flat.items() if not key.startswith("seconds/")})

    algorithm.learn(tokens, after_iteration=keep)
    buffer = io.BytesIO()
    torch.save(algorithm.state_dict(), buffer)
    return weights_of(algorithm.policy), buffer.getvalue(), rows


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a2c", {"optimizer": "rmsprop", "value_trunk": "separate"}),
        ("grpo", {}),
        ("grpo", {"kl": {"coefficient": 0.0}, "kl_loss_coefficient": 0.5}),
        ("nlpo", {"learning_rate_schedule": "linear"}),
        ("ppo", {"learning_rate_schedule": "linear"}),
        ("reinforce", {"baseline": "moving-average"}),
        ("rloo", {"learning_rate_schedule": "linear"}),
        ("trpo", {}),
    ],
)
def test_resume_equals_uninterrupted(name, settings):
    settings = {"learning_rate": 1e-3, **settings}
    whole, _, all_rows = learn(name, 200, **settings)
    _, state, first_rows = learn(name, 100, **settings)
    resumed, _, last_rows = learn(name, 200, state, **settings)
    assert 1 < len(first_rows) < len(all_rows)
    assert first_rows + last_rows == all_rows
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_same_seed_same_numbers_another_seed_others():
    (one, _, rows), (same, _, same_rows) = learn("ppo", 60), learn("ppo", 60)
    other, _, other_rows = learn("ppo", 60, seed=1)
    assert rows == same_rows != other_rows
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
