"""Every algorithm learns to write the letter a from a tiny random policy, in seconds."""

import pytest
from fixtures.training import make_algorithm

SETTINGS = {
    "a2c": {"learning_rate": 1e-2},
    "grpo": {"group_size": 8, "minibatch_episodes": 16},
    "nlpo": {"epochs": 2, "minibatch_episodes": 16, "filter_update_iterations": 3, "top_p": 0.9},
    "nlpo-rl4lms": {
        "epochs": 2,
        "minibatch_episodes": 16,
        "top_p": 0.9,
        "min_tokens_to_keep": 10,
    },
    "ppo": {"epochs": 2, "minibatch_episodes": 16},
    "reinforce": {"learning_rate": 1e-2},
    "cispo": {"group_size": 8, "minibatch_episodes": 16},
    "dapo": {
        "group_size": 8,
        "minibatch_episodes": 16,
        "max_sampling_rounds": 1,
        "overlong_penalty": 0.0,
    },
    "dr-grpo": {"group_size": 8, "minibatch_episodes": 16},
    "gspo": {"group_size": 8, "minibatch_episodes": 16, "clip_range": 0.1, "clip_range_high": 0.1},
    "raft": {"group_size": 8},
    "reinforce-plus-plus": {"minibatch_episodes": 16},
    "rloo": {"group_size": 4, "minibatch_episodes": 16},
    "trpo": {"max_kl": 0.2, "fisher_fraction": 0.25},
}


@pytest.mark.parametrize(
    ("name", "family"),
    [*((name, "gpt2") for name in SETTINGS), ("ppo", "t5")],
)
def test_the_reward_rises(name, family):
    rows = []
    settings = {"learning_rate": 5e-3, "episodes_per_iteration": 32, **SETTINGS[name]}
    algorithm = make_algorithm(
        name, family=family, kl={"coefficient": 0.0}, total_tokens=32 * 8 * 7, **settings
    )
    algorithm.learn(after_iteration=rows.append)
    scores = [row.rollout.score for row in rows]
    assert scores[0] < 0.2
    assert sum(scores[-3:]) / 3 > scores[0] + 0.2


def test_sft_learns_the_references():
    algorithm = make_algorithm(
        "sft", epochs=20, batch_size=4, learning_rate=1e-2, steps_per_iteration=20
    )
    start = algorithm.validation_loss()
    rows = []
    algorithm.learn(after_iteration=rows.append)
    assert rows[-1].update.terms["validation_loss"] < 0.4 * start
