"""A task in words gives what the array views give, for texts and for ids."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from fixtures.toy import EOS_ID, ToyReward, toy_task, toy_tokenizer

from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.text_env import End, SingleTurnEnv, open_text_env
from lmrl_bench.envs.vector import CompletionVectorEnv
from lmrl_bench.rewards.base import RewardOutput


class Telling(ToyReward):
    """The toy reward with facts; one of them a number in some episodes and a text in others."""

    def __call__(self, batch):
        output = super().__call__(batch)
        said = [len(text) if len(text) % 2 else text for text in batch.completions]
        return RewardOutput(output.scores, output.components, info={"said": said})


@pytest.fixture
def task():
    return toy_task(reward=Telling())


@pytest.fixture
def env(task):
    return open_text_env(task, toy_tokenizer())


def encoded(env, text):
    return env.core.codec.tokenizer.encode(text)


def test_an_episode_is_a_prompt_and_its_score(env):
    observation = env.start()
    assert observation.prompt == env.core.sample(observation.sample_id).prompt
    end = env.respond("a ba")
    assert isinstance(end, End)
    assert (end.text, end.terminated, end.early_eos) == ("a ba", True, False)
    assert end.length == len(encoded(env, "a ba")) + 1
    assert end.reward == pytest.approx(0.5 + 0.5)
    assert end.components == {"letters": pytest.approx(0.5), "ended": 0.5}
    assert end.info == {"said": "a ba"}
    assert end.sample.id == observation.sample_id


def test_texts_and_ids_are_scored_alike_and_as_the_array_view_scores_them(env, task):
    sample = env.core.samples[0]
    ids = [*encoded(env, "a ba"), EOS_ID]
    env.start(sample)
    by_text = env.respond("a ba")
    env.start(sample)
    by_ids = env.respond([*ids, 7, 7])  # what follows EOS does not count
    assert by_text == by_ids
    view = CompletionEnv(task, toy_tokenizer())
    _, start = view.reset(options={"sample_id": sample.id})
    padded = np.zeros(view.core.rules.max_tokens, dtype=np.int64)
    padded[: len(ids)] = ids
    *_, reward, terminated, truncated, info = view.step(padded)
    assert (reward, terminated, truncated) == (by_ids.reward, True, False)
    assert info == by_ids.as_info()
    assert info.items() >= start.items()


def test_a_long_text_is_cut_at_the_cap(env):
    env.start()
    end = env.respond("a" * 100)
    assert (end.terminated, end.length) == (False, env.core.rules.max_tokens)
    assert end.text == "a" * env.core.rules.max_tokens
    env.start()
    assert env.respond([7] * 100).length == env.core.rules.max_tokens


def test_samples_come_in_the_order_of_the_core(task):
    first, second = (open_text_env(task, toy_tokenizer()) for _ in range(2))
    assert [first.start().sample_id for _ in range(3)] == [second.core.draw().id for _ in range(3)]


def test_what_cannot_be_an_episode(env):
    with pytest.raises(ValueError, match=r"call start\(\) before respond\(\)"):
        env.respond("a")
    env.start()
    with pytest.raises(ValueError, match=r"2 of at most .* tokens and no EOS"):
        env.respond([7, 7])
    with pytest.raises(ValueError, match="not in the tokenizer"):
        env.respond([5000, EOS_ID])
    env.respond("a")  # a refused completion leaves the episode running
    with pytest.raises(ValueError, match=r"call start\(\)"):
        env.respond("a")


def test_facts_of_any_kind_pass_through_the_vector_view(task):
    venv = CompletionVectorEnv(task, toy_tokenizer(), num_envs=4)
    venv.reset(seed=0)
    *_, infos = venv.step(venv.action_space.sample())
    said = [infos["final_info"]["reward_info"][row]["said"] for row in range(4)]
    texts = infos["final_info"]["text"]
    assert said == [len(text) if len(text) % 2 else text for text in texts]


def test_the_environment_of_a_bundled_task(monkeypatch):
    env = open_text_env("docs-en-de", split="test")
    assert isinstance(env, SingleTurnEnv)
    sample = env.core.samples[0]
    env.start(sample)
    gold = env.respond(sample.references[0])
    env.start(sample)
    assert gold.reward > env.respond("").reward
    assert gymnasium.spec("LMRL/docs-en-de-v1") is not None
