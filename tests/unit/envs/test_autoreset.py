"""`NEXT_STEP`: as Gymnasium's `SyncVectorEnv` has it, the same transitions as `SAME_STEP`, and wrappers take it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from fixtures.toy import EOS_ID, toy_task
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import (
    FlattenObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    TransformObservation,
)

from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.sb3 import TextVecEnv
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.envs.vector import CompletionVectorEnv, TextGenerationVectorEnv

VIEWS = {
    "token": (TextGenerationVectorEnv, TextGenerationEnv),
    "completion": (CompletionVectorEnv, CompletionEnv),
}
N = 3


@pytest.fixture(params=sorted(VIEWS))
def views(request):
    return VIEWS[request.param]


def make(views, tokenizer, mode, n=N):
    return views[0](toy_task(), tokenizer, num_envs=n, autoreset_mode=mode)


def actions_of(env, rng, n=N):
    shape = (n,) if isinstance(env, TextGenerationVectorEnv) else (n, 8)
    return np.where(rng.random(shape) < 0.25, EOS_ID, rng.integers(45, size=shape))


def without_group_ids(infos):
    return {key: value for key, value in infos.items() if key not in ("group_id", "_group_id")}


def test_equals_gymnasiums_own_vectorization(views, tokenizer):
    """The single environments are given the prompts that the native one drew."""
    rng = np.random.default_rng(0)
    native = make(views, tokenizer, AutoresetMode.NEXT_STEP)
    steps = [native.reset(seed=0)]
    actions = [actions_of(native, rng) for _ in range(40)]
    steps += [native.step(action) for action in actions]
    drawn = [[] for _ in range(N)]
    ended = np.zeros(N, bool)
    for step in steps:
        for row in range(N):
            infos = step[-1]
            if "sample_id" in infos and infos["_sample_id"][row] and (len(step) == 2 or ended[row]):
                drawn[row].append(infos["sample_id"][row])
        ended = step[2] | step[3] if len(step) == 5 else ended

    class Given(gymnasium.Wrapper):
        def __init__(self, env, ids):
            super().__init__(env)
            self.ids = iter(ids)

        def reset(self, *, seed=None, options=None):
            return self.env.reset(seed=seed, options={"sample_id": next(self.ids)})

    makers = [lambda ids=ids: Given(views[1](toy_task(), tokenizer), ids) for ids in drawn]
    oracle = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)
    expected = [oracle.reset(seed=0), *(oracle.step(action) for action in actions)]
    assert sum(len(ids) for ids in drawn) > 2 * N
    for ours, theirs in zip(steps, expected, strict=True):
        for mine, other in zip(ours[:-1], theirs[:-1], strict=True):
            assert data_equivalence(mine, other)
        assert data_equivalence(without_group_ids(ours[-1]), theirs[-1])


def test_both_modes_make_the_same_transitions(views, tokenizer):
    """One row, so that both draw the same prompts: NEXT_STEP has one more step after each end."""
    rng = np.random.default_rng(1)
    same = make(views, tokenizer, "SameStep", 1)
    following = make(views, tokenizer, "NextStep", 1)
    first, second = same.reset(seed=3)[0], following.reset(seed=3)[0]
    assert data_equivalence(first, second)
    n_ended = 0
    for _ in range(40):
        action = actions_of(same, rng, 1)
        ours, theirs = same.step(action), following.step(action)
        for mine, other in zip(ours[1:4], theirs[1:4], strict=True):
            np.testing.assert_array_equal(mine, other)
        if not (ours[2] | ours[3])[0]:
            assert data_equivalence(ours[0], theirs[0])
            continue
        n_ended += 1
        last = {name: value[0] for name, value in theirs[0].items()}
        assert data_equivalence(ours[4]["final_obs"][0], last)
        assert ours[4]["final_info"]["text"][0] == theirs[4]["text"][0]
        after = following.step(actions_of(same, rng, 1))
        assert data_equivalence(ours[0], after[0])
        assert after[1:4] == (np.zeros(1), np.zeros(1, bool), np.zeros(1, bool))
        assert after[4]["sample_id"][0] == ours[4]["sample_id"][0]
    assert n_ended > 5


@pytest.mark.parametrize(
    "wrap",
    [
        RecordEpisodeStatistics,
        FlattenObservation,
        NormalizeReward,
        lambda env: TransformObservation(env, lambda seen: seen),
    ],
)
def test_gymnasiums_wrappers_take_it(views, tokenizer, wrap):
    env = wrap(make(views, tokenizer, AutoresetMode.NEXT_STEP))
    rng = np.random.default_rng(2)
    env.reset(seed=0)
    for _ in range(12):
        env.step(actions_of(env.unwrapped, rng))


def test_episode_statistics_count_the_tokens(tokenizer):
    env = RecordEpisodeStatistics(make(VIEWS["token"], tokenizer, "NextStep"))
    env.reset(seed=0)
    seen = []
    rng = np.random.default_rng(4)
    for _ in range(30):
        *_, infos = env.step(actions_of(env.unwrapped, rng))
        if "episode" in infos:
            rows = np.flatnonzero(infos["_episode"])
            seen += [(infos["episode"]["l"][row], infos["length"][row]) for row in rows]
    assert len(seen) > 5
    assert all(counted == length for counted, length in seen)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_mode_is_an_attribute_and_in_the_metadata(views, tokenizer, mode):
    env = make(views, tokenizer, mode)
    assert env.autoreset_mode is mode
    assert env.metadata["autoreset_mode"] is mode
    assert make(views, tokenizer, mode.value).autoreset_mode is mode


def test_other_modes_are_refused(views, tokenizer):
    for mode in (AutoresetMode.DISABLED, "later"):
        with pytest.raises(ValueError, match=r"allowed: SameStep, NextStep"):
            make(views, tokenizer, mode)


def test_stable_baselines_needs_the_same_step(tokenizer):
    with pytest.raises(ValueError, match="it resets rows in the step"):
        TextVecEnv(make(VIEWS["token"], tokenizer, "NextStep"))
