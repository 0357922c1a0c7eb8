"""SB3's stock PPO and A2C and sb3-contrib's TRPO train the policy on the token view, unmodified."""

import numpy as np
import pytest
import torch
from fixtures.policies import tiny_model
from fixtures.toy import toy_task, toy_tokenizer
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.rewards.base import RewardFunction, RewardOutput

ALGORITHMS = {
    "PPO": (PPO, {"n_steps": 8, "batch_size": 8, "n_epochs": 2}),
    "A2C": (A2C, {"n_steps": 8, "use_rms_prop": False}),
    "TRPO": (TRPO, {"n_steps": 8, "batch_size": 8, "cg_max_steps": 3, "n_critic_updates": 2}),
}


class EarlyLetters(RewardFunction):
    """The share of letters before "n": hardly ever the same twice."""

    name = signature = "early-letters"

    def __call__(self, batch):
        shares = [sum(x < "n" for x in text) / max(len(text), 1) for text in batch.completions]
        return RewardOutput(np.array(shares), {})


def make_env(width=50):
    task = toy_task(min_completion_tokens=2, reward=EarlyLetters())
    return TextGenerationEnv(task, toy_tokenizer(), vocabulary_size=width)


def make(name, family, **options):
    algorithm, settings = ALGORITHMS[name]
    return algorithm(
        LanguageModelPolicy,
        DummyVecEnv([make_env, make_env]),
        policy_kwargs={
            "model": tiny_model(family), "tokenizer": toy_tokenizer(), "min_tokens": 2,
            "optimizer_kwargs": {"eps": 1e-5}, **options,
        },
        learning_rate=1e-3,
        device="cpu",
        seed=0,
        **settings,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "family", "value_trunk"),
    [
        ("PPO", "gpt2", "shared"),
        ("PPO", "bart", "separate"),
        ("A2C", "llama", "frozen"),
        ("A2C", "t5", "shared"),
        ("TRPO", "gpt2", "shared"),
        ("TRPO", "t5", "separate"),
    ],
)
def test_trains(name, family, value_trunk):
    algorithm = make(name, family, value_trunk=value_trunk)
    before = {key: value.clone() for key, value in algorithm.policy.state_dict().items()}
    algorithm.learn(32, log_interval=None)
    after = algorithm.policy.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert all(torch.isfinite(value).all() for value in after.values())
    assert {key.split(".")[0] for key in changed} >= {"model", "critic"}
    assert algorithm.policy.optimizer.defaults["eps"] == 1e-5
    if name == "TRPO":
        logged = algorithm.logger.name_to_value
        assert logged["train/is_line_search_success"] == 1.0
        assert 0 < logged["train/kl_divergence_loss"] <= algorithm.target_kl


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_ratio_is_one_before_the_first_update(family):
    algorithm = make("PPO", family, temperature=0.8)
    _, callback = algorithm._setup_learn(16)
    algorithm.collect_rollouts(algorithm.env, callback, algorithm.rollout_buffer, 8)
    for data in algorithm.rollout_buffer.get(None):
        values, logprobs, _ = algorithm.policy.evaluate_actions(
            data.observations, data.actions.long().flatten()
        )
        torch.testing.assert_close(logprobs, data.old_log_prob, atol=1e-5, rtol=0)
        torch.testing.assert_close(values.flatten(), data.old_values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_token_view_and_episodes_have_the_same_probabilities(family):
    """SB3's probabilities token by token equal those of `score` for the whole episode."""
    algorithm = make("PPO", family, temperature=0.8)
    policy, env = algorithm.policy, make_env()
    observation, _ = env.reset(seed=3)
    tokens, logprobs, done = [], [], False
    while not done:
        inputs, _ = policy.obs_to_tensor(observation)
        with torch.no_grad():
            action, _, logprob = policy(inputs)
        tokens.append(int(action))
        logprobs.append(float(logprob))
        observation, _, terminated, truncated, _ = env.step(int(action))
        done = terminated or truncated
    completion = torch.tensor([tokens])
    scores = policy.score(
        TokenBatch(
            inputs["prompt_ids"].long(), inputs["prompt_mask"].bool(), completion,
            torch.ones_like(completion, dtype=torch.bool),
        ),
        policy.behavior,
    )  # fmt: skip
    torch.testing.assert_close(scores.logprobs[0], torch.tensor(logprobs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [45, 50])
def test_predict_and_sb3_save(width, tmp_path):
    env = make_env(width)
    kwargs = {"model": tiny_model("gpt2"), "tokenizer": toy_tokenizer(), "min_tokens": 2}
    algorithm = PPO(
        LanguageModelPolicy, env, policy_kwargs=kwargs, n_steps=4, batch_size=4, device="cpu"
    )
    algorithm.learn(4)
    observation, _ = env.reset(seed=0)
    actions = []
    for _ in range(3):
        action, _ = algorithm.predict(observation, deterministic=True)
        actions.append(int(action))
        observation = env.step(action)[0]
    assert all(action < 45 for action in actions)
    assert 1 not in actions[:2]
    algorithm.save(tmp_path / "algorithm")
    loaded = PPO.load(tmp_path / "algorithm", device="cpu")
    for name, value in loaded.policy.state_dict().items():
        assert torch.equal(value, algorithm.policy.state_dict()[name])
