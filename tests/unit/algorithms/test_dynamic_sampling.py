"""Dynamic sampling draws until all groups have unequal scores, within a bound, and counts every token."""

import numpy as np
import torch
from fixtures.toy import ToyReward, toy_task
from fixtures.training import make_algorithm

from lmrl_bench.rewards.base import RewardOutput


class Rare(ToyReward):
    """Equal scores for every prompt but each fourth that is asked."""

    every = 4

    def __init__(self):
        super().__init__()
        self.asked = {}

    def __call__(self, batch):
        scores = []
        for sample, text in zip(batch.samples, batch.completions, strict=True):
            number = self.asked.setdefault(sample.id, len(self.asked))
            scores.append(len(scores) + 0.5 * len(text) if number % self.every == 0 else 1.0)
        return RewardOutput(np.array(scores, dtype=float))


class Never(Rare):
    every = 10**9


def collected(reward, **settings):
    algorithm = make_algorithm(
        "dapo", task=toy_task(reward=reward, n_rows=64), group_size=2, episodes_per_iteration=8,
        **settings,
    )  # fmt: skip
    return algorithm, algorithm.collect()


def groups_of(rollout):
    return rollout.episodes.scores.view(-1, 2), rollout.episodes.group_ids.view(-1, 2)


def test_the_iteration_is_filled_with_groups_of_unequal_scores():
    algorithm, rollout = collected(Rare(), max_sampling_rounds=20)
    scores, ids = groups_of(rollout)
    assert bool((scores[:, 0] != scores[:, 1]).all())
    assert ids.tolist() == [[number, number] for number in range(4)]
    names = [rollout.episodes.sample_ids[row] for row in range(8)]
    assert names[0::2] == names[1::2]
    assert len(set(names)) == 4
    assert rollout.n_episodes > 8
    assert rollout.n_tokens == algorithm.core.counters.tokens > rollout.episodes.tokens.n_tokens
    assert rollout.n_episodes == algorithm.core.counters.episodes
    assert rollout.info["kept_share"] == 8 / rollout.n_episodes


def test_the_bound_holds_and_equal_groups_fill_the_rest():
    algorithm, rollout = collected(Never(), max_sampling_rounds=3)
    assert len(rollout.episodes) == 8
    assert algorithm.core.counters.episodes <= 8 + 3 * 8
    assert rollout.info["kept_share"] < 1.0
    stats = algorithm.update(rollout.episodes)
    assert stats.terms["equal_scores"] > 0.0


def test_dropped_episodes_count_against_the_budget():
    algorithm = make_algorithm(
        "dapo", task=toy_task(reward=Rare(), n_rows=64), group_size=2, max_sampling_rounds=20,
        total_tokens=200,
    )  # fmt: skip
    rows = []
    algorithm.learn(after_iteration=rows.append)
    assert rows[-1].tokens == algorithm.core.counters.tokens
    assert rows[-1].episodes == algorithm.core.counters.episodes > 8 * len(rows)
    assert "kept_share" in rows[0].update.terms


def test_joined_episodes_are_scored_as_they_were_sampled():
    """Widths differ between draws; padding must not change what a policy says of a token."""
    algorithm, rollout = collected(Rare(), max_sampling_rounds=20)
    with torch.no_grad():
        scored = algorithm.score(rollout.episodes).logprobs
    assert float((scored - rollout.episodes.behavior_logprobs).abs().max()) < 1e-5


def test_the_overlong_penalty_takes_part_in_the_reward_and_not_in_the_score():
    algorithm, rollout = collected(
        Rare(), overlong_penalty=5.0, overlong_buffer_tokens=8, kl={"coefficient": 0.0}
    )
    episodes = rollout.episodes
    lost = episodes.scores - episodes.rewards.sum(dim=1)
    torch.testing.assert_close(lost, 5.0 * episodes.lengths / 8)
    assert algorithm.transforms[0].name in rollout.stats.transformed
