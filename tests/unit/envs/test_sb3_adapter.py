"""The SB3 adapter, against SB3's own `DummyVecEnv` and with SB3's algorithms on top."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fixtures.toy import EOS_ID, toy_task
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.sb3 import TextVecEnv
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.envs.vector import CompletionVectorEnv, TextGenerationVectorEnv

N = 3
PAIRS = {
    "token": (TextGenerationVectorEnv, TextGenerationEnv, (N,)),
    "completion": (CompletionVectorEnv, CompletionEnv, (N, 8)),
}


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_equals_sb3s_own_vectorization(name, tokenizer):
    vector, single, shape = PAIRS[name]
    rng = np.random.default_rng(0)
    actions = [
        np.where(rng.random(shape) < 0.2, EOS_ID, rng.integers(45, size=shape)) for _ in range(40)
    ]
    env = TextVecEnv(vector(toy_task(), tokenizer, num_envs=N))
    env.seed(0)
    first = env.reset()
    drawn = [[info["sample_id"]] for info in env.reset_infos]
    results = []
    for action in actions:
        results.append(env.step(action))
        for row in np.flatnonzero(results[-1][2]):
            drawn[row].append(env.reset_infos[row]["sample_id"])

    def scripted(row: int):
        env = single(toy_task(), tokenizer)
        names = iter(drawn[row])
        env.core.draw = lambda: env.core.sample(next(names))
        return env

    oracle = DummyVecEnv([lambda row=row: scripted(row) for row in range(N)])
    oracle.seed(0)
    _assert_equal(first, oracle.reset())
    for action, (observation, rewards, dones, infos) in zip(actions, results, strict=True):
        expected = oracle.step(action)
        _assert_equal(observation, expected[0])
        np.testing.assert_array_equal(rewards, expected[1])
        np.testing.assert_array_equal(dones, expected[2])
        assert (rewards.dtype, dones.dtype) == (expected[1].dtype, expected[2].dtype)
        for info, other in zip(infos, expected[3], strict=True):
            info.pop("group_id", None)
            _assert_equal(
                info.pop("terminal_observation", {}), other.pop("terminal_observation", {})
            )
            assert info == other


def _assert_equal(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def test_seed_and_options(tokenizer):
    env = TextVecEnv(CompletionVectorEnv(toy_task(), tokenizer, num_envs=N))
    env.seed(5)
    first = env.reset()
    env.seed(5)
    _assert_equal(first, env.reset())
    env.set_options([{"sample_id": f"train-{row}"} for row in range(N)])
    env.reset()
    assert [info["sample_id"] for info in env.reset_infos] == ["train-0", "train-1", "train-2"]
    env.set_options({"group_size": N})
    env.reset()
    assert len({info["sample_id"] for info in env.reset_infos}) == 1
    env.set_options([{"group_size": 1}, {"group_size": 3}, {"group_size": 1}])
    with pytest.raises(ValueError, match="all rows the same group_size"):
        env.reset()


def test_shared_attributes(tokenizer):
    env = TextVecEnv(TextGenerationVectorEnv(toy_task(), tokenizer, num_envs=N))
    env.reset()
    assert env.get_attr("vocabulary_size") == [45] * N
    assert env.get_attr("vocabulary_size", indices=1) == [45]
    assert not env.has_attr("no_such_attribute")
    assert np.stack(env.env_method("action_masks")).shape == (N, 45)
    assert env.env_is_wrapped(object) == [False] * N
    env.set_attr("note", "x")
    assert env.get_attr("note") == ["x"] * N
    with pytest.raises(ValueError, match="share their attributes"):
        env.set_attr("note", "x", indices=[0])


def test_sb3_trains_and_evaluates_on_both_views(tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for vector in (TextGenerationVectorEnv, CompletionVectorEnv):
            env = VecMonitor(TextVecEnv(vector(toy_task(), tokenizer, num_envs=N)))
            model = A2C("MultiInputPolicy", env, n_steps=8, seed=0, device="cpu")
            model.learn(48)
            assert model.ep_info_buffer
            mean, _ = evaluate_policy(model, env, n_eval_episodes=4)
            assert 0.0 <= mean <= 1.5


def test_sb3_contrib_masks_illegal_tokens(tokenizer):
    """MaskablePPO asks the adapter for `action_masks`; then no episode ends before its minimum."""
    venv = TextGenerationVectorEnv(toy_task(min_completion_tokens=4), tokenizer, num_envs=N)
    model = MaskablePPO("MultiInputPolicy", TextVecEnv(venv), n_steps=32, batch_size=32, seed=0)
    model.learn(96)
    assert venv.core.counters.episodes > 5
    assert venv.core.counters.early_eos == 0
