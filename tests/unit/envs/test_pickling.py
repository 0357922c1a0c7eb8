"""An environment travels before and after a scored step: small, without the reward's models."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
import yaml
from fixtures.runs import make_world
from fixtures.toy import EOS_ID

from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.envs.vector import CompletionVectorEnv, TextGenerationVectorEnv
from lmrl_bench.tasks.catalog import load_task

PLUGIN = """
weights = [0.0] * 200_000

def mine(completions, samples):
    helper = lambda text: float(len(text))
    return [helper(text) for text in completions]

REWARDS = {"mine": mine}
"""
REWARDS = {
    "rouge": [{"name": "rouge-l"}, {"name": "rouge-2"}],
    "perplexity": [{"name": "perplexity", "args": {"model": "MODEL", "scale": [0, 10]}}],
    "answers": [{"name": "regex", "args": {"pattern": "a+"}}, {"name": "accuracy"}],
    "plugin": [{"name": "mine"}],
    "meteor": [{"name": "meteor-exact-stem"}],
}


@pytest.fixture(params=sorted(REWARDS))
def task(request, tmp_path, monkeypatch):
    world = make_world(tmp_path, monkeypatch.setenv)
    text = yaml.safe_dump(REWARDS[request.param]).replace("MODEL", str(world.model))
    world.edit_task(reward={"terms": yaml.safe_load(text)})
    if request.param == "plugin":
        (world.folder / "plugin.py").write_text(PLUGIN)
    return load_task("toy")


def envs(task):
    return [
        TextGenerationEnv(task),
        CompletionEnv(task),
        TextGenerationVectorEnv(task, num_envs=2),
        CompletionVectorEnv(task, num_envs=2, autoreset_mode="NextStep"),
    ]


def episode(env):
    """One scored step after another; returns the rewards."""
    shape = env.action_space.shape
    action = np.full(shape, 10, dtype=np.int64)
    rewards = []
    env.reset(seed=0)
    for turn in range(4):
        chosen = np.full(shape, EOS_ID, dtype=np.int64) if turn % 2 else action
        _, reward, terminated, truncated, _ = env.step(chosen if shape else int(chosen))
        rewards.append(np.asarray(reward).tolist())
        if np.ndim(terminated) == 0 and (terminated or truncated):
            env.reset()
    return rewards


def test_a_scored_environment_pickles_as_before(task):
    for env in envs(task):
        env.reset(seed=0)
        before = len(pickle.dumps(env))
        expected = episode(env)
        task.metrics()
        after = pickle.dumps(env)
        assert len(after) < before + 3000
        for twin in (pickle.loads(after), copy.deepcopy(env)):
            assert twin.core.task._reward is None
            assert episode(twin) == expected
        assert episode(env) == expected


@pytest.mark.parametrize("task", ["plugin"], indirect=True)
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_worker_continues_it(task, method):
    env = TextGenerationVectorEnv(task, num_envs=2)
    expected = episode(env)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(episode, (env,)) == expected
