"""The rules and the batched core: order of prompts, resume, one reward call, refusals."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from fixtures.tokenizers import byte_level_bpe
from fixtures.toy import EOS_ID, ToyReward, toy_task
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.core.errors import RecordError, RewardError, TaskError
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.data.vocabulary import Vocabulary
from lmrl_bench.envs.core import EpisodeCore
from lmrl_bench.envs.rules import EpisodeRules
from lmrl_bench.rewards.base import RewardFunction, RewardOutput


@pytest.fixture
def make_core(tokenizer):
    def make(task=None, **kwargs) -> EpisodeCore:
        codec = TextCodec(tokenizer, max_prompt_tokens=16, max_completion_tokens=8)
        return EpisodeCore(task or toy_task(), codec, **kwargs)

    return make


def _answer(core: EpisodeCore, prompts, seed: int = 0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(45, size=(len(prompts), 8))
    ids[rng.random(ids.shape) < 0.2] = EOS_ID
    return core.completions(ids)


class TestRules:
    rules = EpisodeRules(Vocabulary.contiguous(10, eos_id=1), max_tokens=5, min_tokens=2)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.lists(st.integers(0, 9), min_size=5, max_size=5), min_size=1, max_size=4))
    def test_ends_against_plain_python(self, rows):
        ends = self.rules.ends_of(np.array(rows))
        for number, row in enumerate(rows):
            length = row.index(1) + 1 if 1 in row else 5
            assert ends.mask[number].tolist() == [True] * length + [False] * (5 - length)
            assert ends.lengths[number] == length
            assert ends.terminated[number] == (1 in row)
            assert ends.truncated[number] == (1 not in row)
            assert ends.early_eos[number] == (1 in row[:2])

    def test_token_by_token(self):
        tokens, positions = np.array([1, 3, 3, 1]), np.array([0, 3, 4, 4])
        terminated, truncated = self.rules.ends_after(tokens, positions)
        assert terminated.tolist() == [True, False, False, True]
        assert truncated.tolist() == [False, False, True, False]

    def test_legal_tokens(self):
        legal = self.rules.legal_tokens(np.array([1, 2]), 12)
        assert legal[0].tolist() == [True, False] + [True] * 8 + [False] * 2
        assert legal[1].tolist() == [True] * 10 + [False] * 2


def test_every_epoch_is_a_new_permutation(make_core):
    core = make_core(toy_task(n_rows=12), seed=3)
    names = [name for _ in range(9) for name in core.sample_prompts(4).sample_ids]
    epochs = [names[:12], names[12:24], names[24:]]
    for epoch in epochs:
        assert sorted(epoch) == sorted({f"train-{row}" for row in range(12)})
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_does_not_depend_on_batch_or_group_size(make_core):
    one, other = make_core(seed=1), make_core(seed=1)
    names = [name for _ in range(10) for name in one.sample_prompts(3).sample_ids]
    groups = [name for _ in range(6) for name in other.sample_prompts(5, 4).sample_ids[::4]]
    assert groups == names


def test_split_and_seed_have_their_own_orders(make_core):
    orders = {
        make_core(toy_task(n_rows=n_rows), split=split, seed=seed).sample_prompts(6).sample_ids
        for split, n_rows, seed in [("train", 6, 0), ("train", 6, 1), ("test", 12, 0)]
    }
    assert len({tuple(name.split("-")[1] for name in order) for order in orders}) == 3


def test_groups_are_adjacent(make_core):
    prompts = make_core().sample_prompts(3, group_size=2)
    assert prompts.group_ids.tolist() == [0, 0, 1, 1, 2, 2]
    assert prompts.sample_ids[::2] == prompts.sample_ids[1::2]
    assert len(set(prompts.sample_ids)) == 3
    assert torch.equal(prompts.ids[::2], prompts.ids[1::2])
    assert prompts.mask.any(dim=0).all(), "padded to the longest, not to the limit"


def test_order_is_pinned(make_core):
    """The order is part of a run's identity: changing the stream changes every record."""
    names = make_core(seed=0).sample_prompts(6).sample_ids
    assert [int(name.split("-")[1]) for name in names] == [5, 11, 3, 10, 7, 9]


def test_resume_is_exact(make_core):
    core = make_core(seed=5)
    for number in range(4):
        prompts = core.sample_prompts(5)
        core.outcome(prompts, _answer(core, prompts, number))
    state = json.loads(json.dumps(core.state_dict()))
    expected = [core.sample_prompts(5).sample_ids for _ in range(6)]
    resumed = make_core(seed=99)
    resumed.load_state_dict(state)
    assert [resumed.sample_prompts(5).sample_ids for _ in range(6)] == expected
    assert resumed.counters == core.counters


def test_resume_with_other_data_is_refused(make_core):
    state = make_core(toy_task(n_rows=10)).state_dict()
    with pytest.raises(
        RecordError, match="10 samples of 'train', but task 'toy' has 12 of 'train'"
    ):
        make_core().load_state_dict(state)


def test_one_reward_call_with_everything_it_needs(make_core):
    task = toy_task()
    core = make_core(task)
    prompts = core.sample_prompts(6, 2)
    completions = _answer(core, prompts)
    outcome = core.outcome(prompts, completions)
    (batch,) = task.reward_function.batches
    assert [sample.id for sample in batch.samples] == list(prompts.sample_ids)
    assert tuple(batch.completions) == outcome.texts
    assert batch.lengths.tolist() == completions.mask.sum(dim=1).tolist()
    assert batch.terminated.tolist() == completions.terminated.tolist()
    assert outcome.scores.dtype == torch.float32
    total = sum(part for part in outcome.components.values())
    torch.testing.assert_close(total, outcome.scores)
    assert task.reward_function.prepared == [sample.id for sample in task.samples("train")]
    core.outcome(prompts, completions)
    assert len(task.reward_function.prepared) == 12, "prepared once"


def test_row_order_does_not_matter(make_core):
    core = make_core()
    prompts = core.sample_prompts(8)
    completions = _answer(core, prompts)
    scores = core.outcome(prompts, completions).scores
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    shuffled = core.completions(completions.ids[order].numpy())
    assert torch.equal(core.outcome(prompts.select(order), shuffled).scores, scores[order])


def test_counters(make_core):
    core = make_core(toy_task(min_completion_tokens=2))
    prompts = core.sample_prompts(3)
    core.outcome(
        prompts,
        core.completions(np.array([[3] * 8, [3, EOS_ID] + [0] * 6, [3] * 7 + [EOS_ID]])),
    )
    expected = {
        "episodes": 3, "tokens": 18, "terminated": 2, "truncated": 1, "early_eos": 1,
        "control_tokens": 0,
    }  # fmt: skip
    assert core.state_dict()["counters"] == expected


def test_token_rewards_reach_the_tokens(make_core):
    core = make_core(toy_task(reward=ToyReward(token_bonus=0.5)))
    prompts = core.sample_prompts(2)
    ids = np.array([[3, EOS_ID] + [0] * 6, [3, 3, 3, EOS_ID] + [0] * 4])
    outcome = core.outcome(prompts, core.completions(ids))
    assert outcome.token_rewards.tolist() == [[0.5] * 2 + [0.0] * 6, [0.5] * 4 + [0.0] * 4]
    torch.testing.assert_close(outcome.totals, outcome.scores + torch.tensor([1.0, 2.0]))


class _Scripted(RewardFunction):
    name = signature = "scripted"

    def __init__(self, output: RewardOutput) -> None:
        self.output = output

    def __call__(self, batch) -> RewardOutput:
        return self.output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            RewardOutput(np.array([0.0, np.nan])),
            r"'scripted' \(.*\): returned nan for sample 'train-1'",
        ),
        (
            RewardOutput(np.array([np.inf, 0.0])),
            r"'scripted' \(.*\): returned inf for sample 'train-0'",
        ),
        (RewardOutput(np.zeros(3)), r"scores of shape \(3,\), expected \(2,\)"),
        (RewardOutput(np.zeros(2), {"part": np.zeros((2, 1))}), r"part of shape \(2, 1\)"),
        (RewardOutput(np.zeros(2), {}, np.ones((2, 8))), "after the end"),
        (RewardOutput(np.zeros(2), {}, np.full((2, 2), np.nan)), "not finite"),
        (RewardOutput(np.zeros(2), {}, np.zeros(2)), "token rewards of shape"),
    ],
)
def test_unusable_rewards(make_core, output, message):
    core = make_core(toy_task(reward=_Scripted(output)))
    prompts = core.codec.prompts([core.sample_at(0), core.sample_at(1)])
    completions = core.completions(np.array([[3, EOS_ID] + [0] * 6] * 2))
    with pytest.raises(RewardError, match=message):
        core.outcome(prompts, completions)
    assert core.counters.episodes == 0


def test_impossible_completions(make_core):
    core = make_core()
    prompts = core.sample_prompts(2)
    good = _answer(core, prompts)
    both = type(good)(good.ids, good.mask, good.logprobs, good.terminated, good.terminated)
    with pytest.raises(ValueError, match="either terminated or truncated"):
        core.outcome(prompts, both)
    empty = torch.zeros_like(good.mask)
    with pytest.raises(ValueError, match="no token"):
        core.outcome(
            prompts, type(good)(good.ids, empty, good.logprobs, good.terminated, ~good.terminated)
        )


def test_empty_split_is_refused(make_core):
    task = toy_task()
    task.rows["train"] = []
    with pytest.raises(TaskError, match="split 'train' has no rows"):
        make_core(task)


def test_more_prompts_than_rows(make_core):
    prompts = make_core(toy_task(n_rows=4)).sample_prompts(12)
    assert set(Counter(prompts.sample_ids).values()) == {3}
    assert prompts.group_ids.tolist() == list(range(12)), "a prompt drawn again is another group"


def test_control_tokens_inside_completions_are_counted():
    """They are not in the text; the end token that ends the completion is not such an event."""
    tokenizer = byte_level_bpe()
    task = toy_task()
    codec = TextCodec(tokenizer, max_prompt_tokens=64, max_completion_tokens=4)
    core = EpisodeCore(task, codec)
    (letter,) = tokenizer("a").input_ids
    completions = core.completions(np.array([[letter, 2, 3, 1] + [0] * 4, [letter] * 8]))
    outcome = core.outcome(core.sample_prompts(2), completions)
    assert outcome.texts == ("a", "a" * 8)
    assert core.counters.control_tokens == 2
