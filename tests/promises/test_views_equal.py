"""Promise: token view = completion view = batched core, in rewards, flags and observations.

Random action sequences, among them EOS at once, the cap without EOS, EOS at the cap, and garbage
after EOS; the batched core gets completions as a sampler writes them, not through the views.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.toy import EOS_ID, ToyReward, toy_task, toy_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.data.episodes import Completions
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.envs.vector import CompletionVectorEnv, TextGenerationVectorEnv

CAP = 6
N_TOKENS = 45

Ids = list[int]


def _task(reward=None):
    return toy_task(max_completion_tokens=CAP, reward=reward)


def _drawn(n_random: int, seed: int) -> list[Ids]:
    rng = np.random.default_rng(seed)
    random = rng.integers(N_TOKENS, size=(n_random, CAP))
    random[rng.random(random.shape) < 0.2] = EOS_ID
    eos, letter = EOS_ID, 3
    return [
        [eos, letter, letter, eos, letter, letter],
        [letter] * CAP,
        [letter] * (CAP - 1) + [eos],
        [letter, eos] + [eos] * (CAP - 2),
        [0] * CAP,
        *random.tolist(),
    ]


def _episode(ids_drawn: Ids) -> tuple[Ids, bool]:
    """Returns the tokens up to EOS, as a sampler would have drawn them, and whether there is one."""
    if EOS_ID in ids_drawn:
        return ids_drawn[: ids_drawn.index(EOS_ID) + 1], True
    return ids_drawn, False


def _core_outcome(core: EpisodeCore, names: list[str], drawn: list[Ids]):
    """Scores the batch as the collector does."""
    episodes = [_episode(ids_drawn) for ids_drawn in drawn]
    width = max(len(tokens) for tokens, _ in episodes)
    ids = torch.full((len(drawn), width), core.codec.pad_id)
    mask = torch.zeros((len(drawn), width), dtype=torch.bool)
    for row, (tokens, _) in enumerate(episodes):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
    terminated = torch.tensor([ended for _, ended in episodes])
    prompts = core.codec.prompts([core.sample(name) for name in names])
    completions = Completions(ids, mask, torch.zeros(ids.shape), terminated, ~terminated)
    return prompts, completions, core.outcome(prompts, completions)


def _token_episode(env: TextGenerationEnv, name: str, ids_drawn: Ids):
    """Steps to the end; returns the rewards of all steps and the last step's results."""
    env.reset(options={"sample_id": name})
    rewards = []
    for token in ids_drawn:
        observation, reward, terminated, truncated, info = env.step(token)
        rewards.append(reward)
        if terminated or truncated:
            break
    return rewards, observation, terminated, truncated, info


@pytest.mark.parametrize("pad_is_eos", [False, True])
@pytest.mark.parametrize("token_bonus", [None, 0.25])
def test_views_and_core_agree(pad_is_eos, token_bonus):
    tokenizer = toy_tokenizer(pad_is_eos=pad_is_eos)
    task = _task(ToyReward(token_bonus=token_bonus))
    token_env, completion_env = TextGenerationEnv(task, tokenizer), CompletionEnv(task, tokenizer)
    core = token_env.core
    drawn = _drawn(60, seed=1)
    names = [core.samples[row % len(core.samples)].id for row in range(len(drawn))]
    prompts, completions, outcome = _core_outcome(core, names, drawn)

    for row, (name, ids_drawn) in enumerate(zip(names, drawn, strict=True)):
        rewards, last, terminated, truncated, info = _token_episode(token_env, name, ids_drawn)
        completion_env.reset(options={"sample_id": name})
        step = completion_env.step(np.array(ids_drawn))
        length = int(completions.lengths[row])

        assert len(rewards) == length
        assert rewards[:-1] == [0.0] * (length - 1)
        assert rewards[-1] == step[1] == float(outcome.totals[row])
        assert (terminated, truncated) == step[2:4]
        assert terminated == bool(completions.terminated[row])
        assert truncated == bool(completions.truncated[row])
        assert info["text"] == step[4]["text"] == outcome.texts[row]
        assert info["length"] == step[4]["length"] == length
        assert info["reward_components"] == step[4]["reward_components"]
        assert info["reward_components"] == {
            name: float(part[row]) for name, part in outcome.components.items()
        }
        for key in last:
            np.testing.assert_array_equal(last[key], step[0][key])
        _assert_observation_is_row(last, prompts, completions, row)


def _assert_observation_is_row(observation, prompts, completions, row: int) -> None:
    """The masked ids of an observation are the core's."""
    seen = observation["prompt_ids"][observation["prompt_mask"] == 1]
    np.testing.assert_array_equal(seen, prompts.ids[row][prompts.mask[row]].numpy())
    seen = observation["completion_ids"][observation["completion_mask"] == 1]
    np.testing.assert_array_equal(seen, completions.ids[row][completions.mask[row]].numpy())


@pytest.mark.parametrize("group_size", [1, 3])
def test_vector_token_view_equals_core(tokenizer, group_size):
    """Rows end at different times and start again in the same step; nothing may mix."""
    task = _task()
    env = TextGenerationVectorEnv(task, tokenizer, num_envs=6)
    core = EpisodeCore(_task(), env.core.codec)
    rng = np.random.default_rng(2)
    _, infos = env.reset(seed=0, options={"group_size": group_size})
    names, groups = infos["sample_id"].copy(), infos["group_id"].copy()
    tokens: list[Ids] = [[] for _ in range(6)]
    n_episodes = 0
    for _ in range(60):
        actions = np.where(rng.random(6) < 0.2, EOS_ID, rng.integers(N_TOKENS, size=6))
        for row in range(6):
            tokens[row].append(int(actions[row]))
        observation, rewards, terminated, truncated, infos = env.step(actions)
        for row in range(6):
            if not (terminated[row] or truncated[row]):
                assert rewards[row] == 0.0
                shown = observation["completion_ids"][row][observation["completion_mask"][row] == 1]
                assert shown.tolist() == tokens[row]
                continue
            prompts, completions, outcome = _core_outcome(core, [names[row]], [tokens[row]])
            assert rewards[row] == float(outcome.totals[0])
            assert terminated[row] == bool(completions.terminated[0])
            assert infos["final_info"]["text"][row] == outcome.texts[0]
            assert infos["final_info"]["group_id"][row] == groups[row]
            _assert_observation_is_row(infos["final_obs"][row], prompts, completions, 0)
            assert observation["completion_mask"][row].sum() == 0
            names[row], groups[row] = infos["sample_id"][row], infos["group_id"][row]
            tokens[row] = []
            n_episodes += 1
    assert n_episodes > 60
    assert len(task.reward_function.batches) <= 60, "one reward call per step"


def test_vector_completion_view_equals_core(tokenizer):
    task = _task()
    env = CompletionVectorEnv(task, tokenizer, num_envs=4)
    core = EpisodeCore(_task(), env.core.codec)
    _, infos = env.reset(seed=3)
    names = list(infos["sample_id"])
    drawn = _drawn(35, seed=4)
    for start in range(0, 40, 4):
        batch = drawn[start : start + 4]
        _, rewards, terminated, truncated, infos = env.step(np.array(batch))
        prompts, completions, outcome = _core_outcome(core, names, batch)
        np.testing.assert_array_equal(rewards, outcome.totals.double().numpy())
        np.testing.assert_array_equal(terminated, completions.terminated.numpy())
        np.testing.assert_array_equal(truncated, completions.truncated.numpy())
        assert tuple(infos["final_info"]["text"]) == outcome.texts
        for row in range(4):
            _assert_observation_is_row(infos["final_obs"][row], prompts, completions, row)
        names = list(infos["sample_id"])
    assert len(task.reward_function.batches) == 10, "one reward call per step"


def test_garbage_after_eos_changes_nothing(tokenizer):
    env = CompletionEnv(_task(), tokenizer)
    rng = np.random.default_rng(5)
    name = env.core.samples[0].id
    results = []
    for _ in range(5):
        env.reset(options={"sample_id": name})
        garbage = rng.integers(10_000, size=CAP - 3)
        results.append(env.step(np.array([5, 3, EOS_ID, *garbage])))
    for observation, *rest in results[1:]:
        assert rest == list(results[0][1:])
        np.testing.assert_array_equal(observation["completion_ids"], [5, 3, EOS_ID, 0, 0, 0])
        np.testing.assert_array_equal(observation["completion_mask"], [1, 1, 1, 0, 0, 0])


@settings(max_examples=60, deadline=None)
@given(
    ids_drawn=st.lists(st.integers(0, N_TOKENS - 1), min_size=CAP, max_size=CAP),
    min_tokens=st.integers(0, CAP - 1),
)
def test_any_completion_any_minimum(ids_drawn, min_tokens):
    """EOS before the minimum ends the episode in both views alike, and is reported."""
    task = toy_task(max_completion_tokens=CAP, min_completion_tokens=min_tokens)
    tokenizer = toy_tokenizer()
    token_env, completion_env = TextGenerationEnv(task, tokenizer), CompletionEnv(task, tokenizer)
    name = token_env.core.samples[2].id
    rewards, last, terminated, truncated, info = _token_episode(token_env, name, ids_drawn)
    completion_env.reset(options={"sample_id": name})
    step = completion_env.step(np.array(ids_drawn))
    assert (rewards[-1], terminated, truncated, info) == step[1:]
    for key in last:
        np.testing.assert_array_equal(last[key], step[0][key])
    assert info["early_eos"] == (EOS_ID in ids_drawn[:min_tokens])
    assert token_env.core.counters == completion_env.core.counters


def test_core_reads_ids_as_the_views_do(tokenizer):
    codec = TextCodec(tokenizer, max_prompt_tokens=16, max_completion_tokens=CAP)
    core = EpisodeCore(_task(), codec)
    drawn = _drawn(30, seed=6)
    names = [core.samples[0].id] * len(drawn)
    prompts, completions, outcome = _core_outcome(core, names, drawn)
    read = core.completions(np.array(drawn))
    for name in ("terminated", "truncated", "lengths"):
        assert torch.equal(getattr(read, name), getattr(completions, name))
    assert torch.equal(core.outcome(prompts, read).scores, outcome.scores)
