"""The two single environments: the libraries' checkers, seeding, options, pickling, rendering."""

from __future__ import annotations

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from fixtures.toy import EOS_ID, toy_model_folder, toy_task, toy_task_folder, toy_tokenizer
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.token_env import TextGenerationEnv

VIEWS = {"token": TextGenerationEnv, "completion": CompletionEnv}


@pytest.fixture(params=sorted(VIEWS))
def view(request):
    return VIEWS[request.param]


@pytest.fixture
def registered(view, tokenizer):
    """Registers the view of a toy task for one test, as `gymnasium.make` sees it."""
    identifier = f"LMRLTest/toy-{view.__name__}-v1"
    gymnasium.register(
        identifier, entry_point=view, kwargs={"task": toy_task(), "tokenizer": tokenizer}
    )
    yield identifier
    del gymnasium.registry[identifier]


def test_gymnasium_checker_has_nothing_to_say(registered):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(registered, render_mode="ansi").unwrapped
        gymnasium_check(env)


def test_sb3_checker_has_nothing_to_say(registered):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(registered, render_mode="ansi").unwrapped
        sb3_check(env, skip_render_check=False)


def test_passive_checker_has_nothing_to_say(registered):
    """`gymnasium.make` wraps in checkers by default; whole episodes pass them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(registered, render_mode="ansi")
        env.action_space.seed(0)
        env.reset(seed=0)
        for _ in range(30):
            *_, terminated, truncated, _ = env.step(env.action_space.sample())
            env.render()
            if terminated or truncated:
                env.reset()
        env.close()


def _names(env, count: int, seed: int | None = None) -> list[str]:
    names = [env.reset(seed=seed)[1]["sample_id"]]
    return names + [env.reset()[1]["sample_id"] for _ in range(count - 1)]


def test_same_seed_same_prompts_other_seed_others(view, tokenizer):
    env, other = view(toy_task(), tokenizer), view(toy_task(), tokenizer)
    assert _names(env, 30, seed=1) == _names(other, 30, seed=1)
    assert _names(env, 30, seed=1) != _names(other, 30, seed=2)
    # Environments must not share a stream: stepping one must not move the other.
    first = _names(env, 5, seed=7)
    _names(other, 11, seed=7)
    assert first + [env.reset()[1]["sample_id"] for _ in range(6)] == _names(other, 11, seed=7)


def test_without_a_seed_environments_differ(view, tokenizer):
    task = toy_task(n_rows=100)
    assert _names(view(task, tokenizer), 10) != _names(view(task, tokenizer), 10)


def test_chosen_prompt_leaves_the_order_alone(view, tokenizer):
    env = view(toy_task(), tokenizer)
    expected = _names(env, 4, seed=0)
    got = _names(env, 2, seed=0)
    _, info = env.reset(options={"sample_id": "train-5"})
    assert info["sample_id"] == "train-5"
    assert env.reset(options={"index": 3})[1]["sample_id"] == "train-3"
    assert got + [env.reset()[1]["sample_id"] for _ in range(2)] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": "train-1"}, "did you mean 'sample_id'"),
        ({"sample_id": "trian-1"}, "no sample 'trian-1'.*did you mean 'train-1'"),
        ({"index": 12}, "allowed: 0 to 11"),
        ({"index": 1, "sample_id": "train-1"}, "exclude each other"),
    ],
)
def test_wrong_options(view, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        view(toy_task(), tokenizer).reset(seed=0, options=options)


def test_step_needs_an_open_episode(view, tokenizer):
    env = view(toy_task(), tokenizer)
    action = EOS_ID if view is TextGenerationEnv else np.full(8, EOS_ID)
    with pytest.raises(ResetNeeded):
        env.step(action)
    env.reset(seed=0)
    assert env.step(action)[2]
    with pytest.raises(ResetNeeded):
        env.step(action)


@pytest.mark.parametrize("token", [-1, 45, 49])
def test_unknown_token(tokenizer, token):
    """Ids between the tokenizer's length and the model's width are actions, but never legal."""
    message = f"token {token} is not in the tokenizer, whose ids are 0 to 44"
    env = TextGenerationEnv(toy_task(), tokenizer, vocabulary_size=50)
    assert env.action_space.n == 50
    env.reset(seed=0)
    env.step(3)
    with pytest.raises(ValueError, match=message):
        env.step(token)
    assert env.step(4)[0]["completion_ids"].tolist()[:3] == [3, 4, 0], "the bad step left no trace"
    completion = CompletionEnv(toy_task(), tokenizer, vocabulary_size=50)
    completion.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        completion.step(np.array([3, token, EOS_ID, 0, 0, 0, 0, 0]))


def test_wrong_widths(tokenizer):
    env = CompletionEnv(toy_task(), tokenizer)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected \(B, 8\)"):
        env.step(np.array([3, EOS_ID]))
    with pytest.raises(ValueError, match="below the tokenizer's size"):
        TextGenerationEnv(toy_task(), tokenizer, vocabulary_size=44)


def test_action_masks(tokenizer):
    env = TextGenerationEnv(toy_task(min_completion_tokens=2), tokenizer, vocabulary_size=50)
    env.reset(seed=0)
    expected = np.arange(50) < 45
    expected[EOS_ID] = False
    for _ in range(2):
        np.testing.assert_array_equal(env.action_masks(), expected)
        env.step(3)
    expected[EOS_ID] = True
    np.testing.assert_array_equal(env.action_masks(), expected)


def test_random_completions_are_legal(tokenizer):
    env = CompletionEnv(toy_task(min_completion_tokens=3), tokenizer)
    env.action_space.seed(0)
    lengths = set()
    for _ in range(200):
        completion = env.action_space.sample()
        assert completion in env.action_space
        lengths.add(completion.tolist().index(EOS_ID) + 1)
    assert lengths == {4, 5, 6, 7, 8}


def test_eos_counts_and_is_not_text(tokenizer):
    env = TextGenerationEnv(toy_task(), tokenizer)
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(EOS_ID)
    assert (reward, terminated, truncated) == (0.5, True, False)
    assert observation["completion_mask"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert (info["text"], info["length"]) == ("", 1)


def test_padding_with_eos_keeps_the_masks():
    """pad == eos, and an EOS inside the prompt: masks come from lengths, not from ids."""
    tokenizer = toy_tokenizer(pad_is_eos=True)
    task = toy_task()
    sample = task.rows["train"][0]
    task.rows["train"][0] = type(sample)(
        sample.id, "bad</s> cab:", sample.references, written=((3, 7),)
    )
    env = TextGenerationEnv(task, tokenizer)
    observation, _ = env.reset(options={"index": 0}, seed=0)
    ids, mask = observation["prompt_ids"], observation["prompt_mask"]
    assert EOS_ID in ids[mask == 1]
    assert ids[mask == 1].tolist() == tokenizer("bad</s> cab:").input_ids
    assert mask.tolist() == sorted(mask.tolist())
    assert env.step(EOS_ID)[0]["completion_mask"].sum() == 1


def test_render(view, tokenizer):
    env = view(toy_task(), tokenizer, render_mode="ansi")
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(options={"sample_id": "train-0"}, seed=0)
    assert env.render() == "prompt: bad:\ncompletion: \nreward: (open, 0 tokens)"
    ids = [*tokenizer("cab").input_ids, EOS_ID]
    if view is TextGenerationEnv:
        env.step(ids[0])
        assert env.render() == "prompt: bad:\ncompletion: c\nreward: (open, 1 tokens)"
        for token in ids[1:]:
            env.step(token)
    else:
        env.step(np.array(ids + [0] * (8 - len(ids))))
    assert env.render() == "prompt: bad:\ncompletion: cab\nreward: 0.8333"


def test_render_without_a_mode_warns(view, tokenizer):
    env = view(toy_task(), tokenizer)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='ansi'"):
        assert env.render() is None


def test_pickled_in_the_middle_goes_on_alike(tokenizer):
    env = TextGenerationEnv(toy_task(), tokenizer)
    env.reset(seed=3)
    env.step(7)
    copy = pickle.loads(pickle.dumps(env))
    for token in (8, EOS_ID):
        left, right = env.step(token), copy.step(token)
        assert left[1:] == right[1:]
        np.testing.assert_array_equal(left[0]["completion_ids"], right[0]["completion_ids"])
    assert _names(env, 20) == _names(copy, 20)


def test_spec_survives_json(tmp_path, view):
    """With names instead of objects, a spec is plain text that makes the same environment."""
    folder = toy_task_folder(tmp_path)
    model = toy_model_folder(tmp_path / "model")
    spec = EnvSpec(
        "LMRLTest/json-v1",
        entry_point=f"{view.__module__}:{view.__name__}",
        kwargs={"task": str(folder), "tokenizer": str(model), "split": "test"},
    )
    env = gymnasium.make(spec)
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert _names(env, 6, seed=0) == _names(again, 6, seed=0)
    assert env.unwrapped.core.codec.vocabulary_size == 45
    action = EOS_ID if view is TextGenerationEnv else np.full(8, EOS_ID)
    assert env.step(action)[1] == again.step(action)[1]
