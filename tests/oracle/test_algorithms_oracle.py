"""Updates against Stable-Baselines3 and sb3-contrib, which run their own `train()` on the same episodes.

Their policy is the same class on the token view: every token of our episodes is one transition of theirs.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from fixtures.toy import tiny_causal, tiny_seq2seq, toy_task, toy_tokenizer
from fixtures.training import (
    PROMPT_TOKENS,
    largest_difference,
    make_algorithm,
    make_policy,
    weights_of,
)
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger

import lmrl_bench.algorithms.ppo
from lmrl_bench.algorithms.functional import gae
from lmrl_bench.policies.policy import LanguageModelPolicy

pytestmark = pytest.mark.usefixtures("speedups")
KEYS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")


class Spaces(gym.Env):
    """An environment that has spaces and nothing else."""

    def __init__(self, policy):
        self.observation_space = policy.observation_space
        self.action_space = policy.action_space


def transitions(batch, n_columns):
    """Each policy token with what the policy saw before it, in the token view's shapes."""
    columns = {key: [] for key in (*KEYS, "actions", "values", "logprobs", "advantages", "returns")}
    for row, column in batch.mask.nonzero().tolist():
        prompt = np.zeros((2, PROMPT_TOKENS), dtype=np.int64)
        width = batch.tokens.prompt_ids.shape[1]
        prompt[0, PROMPT_TOKENS - width :] = batch.tokens.prompt_ids[row]
        prompt[1, PROMPT_TOKENS - width :] = batch.tokens.prompt_mask[row]
        completion = np.zeros((2, n_columns), dtype=np.int64)
        completion[0, :column] = batch.tokens.completion_ids[row, :column]
        completion[1, :column] = 1
        for key, value in zip(KEYS, [*prompt, *completion], strict=True):
            columns[key].append(value)
        columns["actions"].append(batch.tokens.completion_ids[row, column])
        columns["values"].append(batch.values[row, column])
        columns["logprobs"].append(batch.behavior_logprobs[row, column])
        columns["advantages"].append(batch.advantages[row, column])
        columns["returns"].append(batch.returns[row, column])
    return {key: np.stack([np.asarray(value) for value in rows]) for key, rows in columns.items()}


def peer(algorithm_class, family, batch, n_columns, **settings):
    """Returns an SB3 algorithm with the toy policy, whose buffer holds the batch."""
    rows = transitions(batch, n_columns)
    count = len(rows["actions"])
    model = (tiny_causal if family in ("gpt2", "llama") else tiny_seq2seq)(family)
    ours = make_policy(family, max_completion_tokens=n_columns)
    policy_kwargs = {
        "model": model,
        "tokenizer": toy_tokenizer(),
        **settings.pop("policy_kwargs", {}),
    }
    algorithm = algorithm_class(
        LanguageModelPolicy, Spaces(ours), n_steps=count, policy_kwargs=policy_kwargs,
        device="cpu", **settings,
    )  # fmt: skip
    algorithm.policy.load_state_dict(ours.state_dict())
    algorithm.set_logger(Logger(None, []))
    buffer = algorithm.rollout_buffer
    for key in KEYS:
        buffer.observations[key][:, 0] = rows[key]
    buffer.actions[:, 0, 0] = rows["actions"]
    for name, target in [
        ("values", buffer.values), ("logprobs", buffer.log_probs),
        ("advantages", buffer.advantages), ("returns", buffer.returns),
    ]:  # fmt: skip
        target[:, 0] = rows[name]
    buffer.full = True
    return algorithm, count


def permute_as_sb3(rows, size, rng):
    """SB3 shuffles with numpy's global generator."""
    yield from torch.from_numpy(np.random.permutation(rows)).split(size)


COMMON = {
    "max_grad_norm": 0.5, "gamma": 0.97, "gae_lambda": 0.9, "normalize_advantage": True,
    "learning_rate": 1e-3,
}  # fmt: skip


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("value_clip", [None, 0.05])
def test_ppo_update_equals_sb3_on_whole_completions(family, value_clip):
    """The whole batch is one minibatch, so that our episodes and their tokens are the same set."""
    task = toy_task(max_completion_tokens=5)
    ours = make_algorithm(
        "ppo", family=family, task=task, epochs=3, minibatch_episodes=8, entropy_coefficient=0.01,
        value_clip_range=value_clip, **COMMON,
    )  # fmt: skip
    batch = ours.collect().episodes
    theirs, count = peer(
        sb3.PPO, family, batch, 5, n_epochs=3, batch_size=batch.tokens.n_tokens, ent_coef=0.01, vf_coef=0.5,
        clip_range_vf=value_clip, policy_kwargs={"optimizer_kwargs": {"eps": 1e-5}}, **COMMON,
    )  # fmt: skip
    assert count == batch.tokens.n_tokens > 8
    before = weights_of(ours.policy)
    ours.update(batch)
    theirs.train()
    after = weights_of(ours.policy)
    assert largest_difference(before, after) > 1e-3
    assert largest_difference(after, weights_of(theirs.policy)) < 1e-6


def test_ppo_update_equals_sb3_on_one_token_episodes_in_minibatches(monkeypatch):
    monkeypatch.setattr(lmrl_bench.algorithms.ppo, "shuffled", permute_as_sb3)
    task = toy_task(max_completion_tokens=1)
    ours = make_algorithm(
        "ppo", task=task, episodes_per_iteration=12, epochs=2, minibatch_episodes=4, **COMMON
    )
    batch = ours.collect().episodes
    theirs, _ = peer(
        sb3.PPO, "gpt2", batch, 1, n_epochs=2, batch_size=4,
        policy_kwargs={"optimizer_kwargs": {"eps": 1e-5}}, **COMMON,
    )  # fmt: skip
    np.random.seed(7)
    ours.update(batch)
    np.random.seed(7)
    theirs.train()
    assert largest_difference(weights_of(ours.policy), weights_of(theirs.policy)) < 1e-6


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("tokens", [1, 5])
def test_a2c_update_equals_sb3(optimizer, tokens):
    ours = make_algorithm(
        "a2c", task=toy_task(max_completion_tokens=tokens), optimizer=optimizer,
        entropy_coefficient=0.02, **COMMON,
    )  # fmt: skip
    batch = ours.collect().episodes
    theirs, _ = peer(
        sb3.A2C, "gpt2", batch, tokens, use_rms_prop=optimizer == "rmsprop", rms_prop_eps=1e-5,
        ent_coef=0.02, vf_coef=0.5,
        policy_kwargs={} if optimizer == "rmsprop" else {"optimizer_kwargs": {"eps": 1e-5}},
        **COMMON,
    )  # fmt: skip
    before = weights_of(ours.policy)
    ours.update(batch)
    theirs.train()
    after = weights_of(ours.policy)
    assert largest_difference(before, after) > 1e-4
    assert largest_difference(after, weights_of(theirs.policy)) < 1e-6


@pytest.mark.parametrize(("family", "tokens"), [("gpt2", 1), ("gpt2", 5), ("t5", 4)])
def test_trpo_step_equals_sb3_contrib(family, tokens, monkeypatch):
    # Their conjugate gradient starts at 1e-4 times noise; at 0 the two take the same path.
    # Their bound is on KL(new ‖ old), ours on KL(old ‖ new); δ is small, so that the two accept the same step.
    monkeypatch.setattr(sb3_contrib.common.utils.th, "randn_like", torch.zeros_like)
    settings = {
        "learning_rate": 1e-3,
        "gamma": 0.97,
        "gae_lambda": 0.9,
        "normalize_advantage": True,
    }
    ours = make_algorithm(
        "trpo", family=family, task=toy_task(max_completion_tokens=tokens), fisher_fraction=1.0,
        max_kl=0.001, damping=0.1, conjugate_gradient_steps=5, backtracks=10, backtrack_factor=0.8,
        **settings,
    )  # fmt: skip
    batch = ours.collect().episodes
    theirs, _ = peer(
        sb3_contrib.TRPO, family, batch, tokens, batch_size=batch.tokens.n_tokens, n_critic_updates=1,
        cg_max_steps=5, cg_damping=0.1,
        target_kl=0.001, line_search_max_iter=10, line_search_shrinking_factor=0.8, **settings,
    )  # fmt: skip
    before = weights_of(ours.policy)
    stats = ours.update(batch)
    theirs.train()
    assert stats.terms["step_fraction"] > 0.0
    model = [name for name in before if "value" not in name]
    ours_after, theirs_after = weights_of(ours.policy), weights_of(theirs.policy)
    assert max(float((ours_after[name] - before[name]).abs().max()) for name in model) > 1e-3
    assert max(float((ours_after[n] - theirs_after[n]).abs().max()) for n in model) < 1e-5


@pytest.mark.parametrize("bootstrap", [False, True])
def test_gae_equals_sb3(bootstrap):
    """Their buffer is one stream of episodes; the last one may be cut, which is where they bootstrap."""
    rng = np.random.default_rng(0)
    lengths = [3, 1, 5, 2]
    total = sum(lengths)
    space = gym.spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(total, space, gym.spaces.Discrete(2), gamma=0.93, gae_lambda=0.8)
    starts = np.zeros(total, dtype=np.float32)
    starts[np.cumsum([0, *lengths[:-1]])] = 1.0
    buffer.rewards[:, 0] = rng.normal(size=total)
    buffer.values[:, 0] = rng.normal(size=total)
    buffer.episode_starts[:, 0] = starts
    last = torch.tensor([0.7])
    buffer.compute_returns_and_advantage(last, np.array([not bootstrap]))

    mask = torch.arange(5)[None, :] < torch.tensor(lengths)[:, None]
    rewards, values = (torch.full((4, 5), float("nan")) for _ in range(2))
    rewards[mask] = torch.from_numpy(buffer.rewards[:, 0])
    values[mask] = torch.from_numpy(buffer.values[:, 0])
    tail = torch.tensor([0.0, 0.0, 0.0, 0.7]) if bootstrap else None
    advantages, returns = gae(rewards, values, mask, gamma=0.93, gae_lambda=0.8, bootstrap=tail)
    np.testing.assert_allclose(advantages[mask], buffer.advantages[:, 0], atol=1e-6)
    np.testing.assert_allclose(returns[mask], buffer.returns[:, 0], atol=1e-6)
