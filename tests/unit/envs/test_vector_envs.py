"""The native vector environments, against Gymnasium's `SyncVectorEnv` of the single ones."""

from __future__ import annotations

import pickle
import warnings
from collections import Counter

import gymnasium
import numpy as np
import pytest
from fixtures.toy import EOS_ID, toy_task
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.envs.vector import CompletionVectorEnv, TextGenerationVectorEnv

VIEWS = {
    "token": (TextGenerationVectorEnv, TextGenerationEnv),
    "completion": (CompletionVectorEnv, CompletionEnv),
}
N = 4


@pytest.fixture(params=sorted(VIEWS))
def views(request):
    return VIEWS[request.param]


@pytest.fixture
def native(views, tokenizer):
    return views[0](toy_task(), tokenizer, num_envs=N)


def _actions(env, rng) -> np.ndarray:
    shape = (N,) if isinstance(env, TextGenerationVectorEnv) else (N, 8)
    return np.where(rng.random(shape) < 0.25, EOS_ID, rng.integers(45, size=shape))


def _without_group_ids(infos: dict) -> dict:
    kept = {key: value for key, value in infos.items() if key not in ("group_id", "_group_id")}
    if "final_info" in kept:
        kept["final_info"] = _without_group_ids(kept["final_info"])
    return kept


def test_equals_gymnasiums_own_vectorization(native, views, tokenizer):
    """Same prompts in, so everything that comes out must be the same, infos included."""
    rng = np.random.default_rng(0)
    steps = [native.reset(seed=0)]
    actions = [_actions(native, rng) for _ in range(40)]
    steps += [native.step(action) for action in actions]
    drawn: list[list[str]] = [[] for _ in range(N)]
    for *_, infos in steps:
        for row in range(N):
            if "sample_id" in infos and infos["_sample_id"][row]:
                drawn[row].append(infos["sample_id"][row])

    task = toy_task()

    def scripted(row: int) -> gymnasium.Env:
        env = views[1](task, tokenizer)
        names = iter(drawn[row])
        env.core.draw = lambda: env.core.sample(next(names))
        return env

    makers = [lambda row=row: scripted(row) for row in range(N)]
    oracle = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    assert oracle.single_observation_space == native.single_observation_space
    assert oracle.observation_space == native.observation_space
    assert oracle.single_action_space == native.single_action_space
    assert oracle.action_space == native.action_space
    expected = [oracle.reset(seed=0)] + [oracle.step(action) for action in actions]
    for left, right in zip(steps, expected, strict=True):
        *values, infos = left
        *oracle_values, oracle_infos = right
        assert data_equivalence(tuple(values), tuple(oracle_values), exact=True)
        assert data_equivalence(_without_group_ids(infos), oracle_infos, exact=True)
    assert sum(map(len, drawn)) > 3 * N


def test_made_by_gymnasium_without_a_warning(views, tokenizer):
    vector, single = views
    identifier = "LMRLTest/vector-v1"
    gymnasium.register(
        identifier,
        entry_point=single,
        vector_entry_point=vector,
        kwargs={"task": toy_task(), "tokenizer": tokenizer},
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env = gymnasium.make_vec(identifier, num_envs=3)
        assert type(env) is vector
        assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        observation, _ = env.reset(seed=0)
        assert observation in env.observation_space
        assert env.spec.id == identifier
    finally:
        del gymnasium.registry[identifier]


def test_observations_and_actions_are_in_their_spaces(native):
    rng = np.random.default_rng(1)
    observation, _ = native.reset(seed=0)
    for _ in range(20):
        assert observation in native.observation_space
        action = _actions(native, rng)
        assert action in native.action_space
        observation, rewards, terminated, truncated, infos = native.step(action)
        assert rewards.dtype == np.float64
        assert (terminated.dtype, truncated.dtype) == (np.bool_, np.bool_)
        for row in np.flatnonzero(terminated | truncated):
            assert infos["final_obs"][row] in native.single_observation_space


def test_returned_arrays_are_never_written_again(native):
    rng = np.random.default_rng(1)
    observation, _ = native.reset(seed=0)
    kept = {name: value.copy() for name, value in observation.items()}
    for _ in range(10):
        native.step(_actions(native, rng))
    for name, value in observation.items():
        np.testing.assert_array_equal(value, kept[name])


def _prompts_of(env, seed: int, n_steps: int = 10) -> list[list[str]]:
    rng = np.random.default_rng(0)
    env.reset(seed=seed)
    return [env.step(_actions(env, rng))[0]["prompt_ids"].tolist() for _ in range(n_steps)]


def test_seeds(native, views, tokenizer):
    other = views[0](toy_task(), tokenizer, num_envs=N)
    assert _prompts_of(native, 0) == _prompts_of(other, 0)
    assert _prompts_of(native, 0) != _prompts_of(other, 1)
    assert _prompts_of(native, 0) == _prompts_of(native, 0)


def test_an_epoch_meets_every_prompt_once(tokenizer):
    env = CompletionVectorEnv(toy_task(n_rows=12), tokenizer, num_envs=N)
    rng = np.random.default_rng(0)
    names = list(env.reset(seed=0)[1]["sample_id"])
    for _ in range(5):
        names += list(env.step(_actions(env, rng))[-1]["sample_id"])
    for epoch in (names[:12], names[12:]):
        assert sorted(epoch) == sorted({f"train-{row}" for row in range(12)})
    assert names[:12] != names[12:]


def test_groups_answer_the_same_prompt(native):
    """Each drawing is answered by exactly one group of two, however the rows' ends interleave."""
    rng = np.random.default_rng(2)
    _, infos = native.reset(seed=0, options={"group_size": 2})
    starts = [(infos["group_id"][row], row, infos["sample_id"][row]) for row in range(N)]
    for _ in range(60):
        infos = native.step(_actions(native, rng))[-1]
        starts += [
            (infos["group_id"][row], row, infos["sample_id"][row])
            for row in range(N)
            if "sample_id" in infos and infos["_sample_id"][row]
        ]
    names = {group: name for group, _, name in starts}
    pairs = {group: row // 2 for group, row, _ in starts}
    assert all(names[group] == name and pairs[group] == row // 2 for group, row, name in starts)
    counts = Counter(group for group, _, _ in starts)
    assert set(counts.values()) <= {1, 2}
    assert sum(count == 2 for count in counts.values()) > 10
    assert len(native._queue._waiting) == sum(count == 1 for count in counts.values())


def test_chosen_prompts(native):
    names = ["train-3", "train-0", "train-3", "train-7"]
    _, infos = native.reset(seed=0, options={"sample_ids": names})
    assert infos["sample_id"].tolist() == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 2}, "did you mean 'group_size'"),
        ({"group_size": 3}, "must divide the number of environments"),
        ({"group_size": 0}, "must divide the number of environments"),
        ({"sample_ids": ["train-1"]}, "1 sample ids for 4 environments"),
        ({"sample_ids": ["x", "x", "x", "x"]}, "no sample 'x'"),
    ],
)
def test_wrong_options(native, options, message):
    with pytest.raises(ValueError, match=message):
        native.reset(options=options)


def test_wrong_calls(native, views, tokenizer):
    with pytest.raises(ResetNeeded):
        native.step(np.zeros(N, dtype=np.int64))
    native.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected|completions for"):
        native.step(np.zeros((N + 1, 8), dtype=np.int64))
    with pytest.raises(ValueError, match="at least 1"):
        views[0](toy_task(), tokenizer, num_envs=0)


def test_render_and_masks(tokenizer):
    env = TextGenerationVectorEnv(
        toy_task(min_completion_tokens=1), tokenizer, num_envs=2, render_mode="ansi"
    )
    env.reset(options={"sample_ids": ["train-0", "train-6"]}, seed=0)
    assert not env.action_masks()[:, EOS_ID].any()
    env.step(np.array(tokenizer("cb").input_ids))
    assert env.action_masks()[:, EOS_ID].all()
    assert env.render() == (
        "prompt: bad:\ncompletion: c\nreward: (open, 1 tokens)",
        "prompt: a:\ncompletion: b\nreward: (open, 1 tokens)",
    )


def test_pickled_in_the_middle_goes_on_alike(native):
    rng = np.random.default_rng(3)
    native.reset(seed=0, options={"group_size": 2})
    for _ in range(5):
        native.step(_actions(native, rng))
    copy = pickle.loads(pickle.dumps(native))
    for _ in range(15):
        action = _actions(native, rng)
        assert data_equivalence(native.step(action), copy.step(action), exact=True)
