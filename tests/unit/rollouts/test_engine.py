import pytest
import torch
from fixtures.policies import (
    COMPLETION_TOKENS,
    FAMILIES,
    count_forwards,
    generate,
    ragged_prompts,
    tiny_policy,
)
from fixtures.toy import EOS_ID

from lmrl_bench.config.sampling import SamplingConfig
from lmrl_bench.core.errors import DataError
from lmrl_bench.data.episodes import Prompts
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.rollouts.engine import RolloutEngine


def hot(policy):
    """A behavior under which completions end at many lengths."""
    return policy.make_behavior(temperature=8.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_order_and_neighbors_do_not_matter(family):
    policy, prompts = tiny_policy(family), ragged_prompts(12, repeated=3)
    whole = generate(policy, prompts, hot(policy))
    assert len(set(whole.lengths.tolist())) > 2
    for batch_size in (1, 5):
        parts = generate(policy, prompts, hot(policy), batch_size=batch_size)
        assert torch.equal(parts.ids, whole.ids)
        assert torch.equal(parts.mask, whole.mask)
        torch.testing.assert_close(parts.logprobs, whole.logprobs, atol=1e-5, rtol=0)
        torch.testing.assert_close(parts.values, whole.values, atol=1e-5, rtol=0)


def test_rows_of_a_group_answer_differently():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts(6, repeated=5)
    completions = generate(policy, prompts)
    assert len({tuple(row.tolist()) for row in completions.ids}) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_what_completions_say(family):
    policy, prompts = tiny_policy(family), ragged_prompts(12)
    done = generate(policy, prompts, hot(policy))
    assert done.ids.shape[1] == int(done.lengths.max())
    assert done.terminated.any()
    assert done.truncated.any()
    assert torch.equal(done.truncated, ~done.terminated)
    for row in range(len(prompts)):
        length = int(done.lengths[row])
        completion = done.ids[row, :length].tolist()
        assert done.mask[row].tolist() == [True] * length + [False] * (done.ids.shape[1] - length)
        assert EOS_ID not in completion[:-1]
        assert (completion[-1] == EOS_ID) == bool(done.terminated[row])
        assert bool(done.terminated[row]) or length == COMPLETION_TOKENS
        assert (done.ids[row, length:] == policy.network.pad_id).all()
    assert not done.logprobs[~done.mask].any()


def test_same_seed_same_completions_and_next_draw_differs():
    policy, prompts = tiny_policy("llama"), ragged_prompts()
    sampling, behavior = SamplingConfig(), policy.make_behavior()
    rng = torch.Generator().manual_seed(5)
    engine = RolloutEngine(policy)
    first, second = (
        engine.generate(prompts, sampling, behavior, rng, max_tokens=8) for _ in range(2)
    )
    assert not torch.equal(first.ids, second.ids)
    assert torch.equal(generate(policy, prompts, seed=5, max_tokens=8).ids, first.ids)


def test_greedy_takes_no_random_numbers():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts()
    one, two = (generate(policy, prompts, greedy=True, seed=seed) for seed in (1, 2))
    assert torch.equal(one.ids, two.ids)
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    RolloutEngine(policy).generate(
        prompts, SamplingConfig(greedy=True), policy.make_behavior(), rng, max_tokens=4
    )
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_minimum_length_and_vocabulary(family):
    policy, prompts = tiny_policy(family), ragged_prompts(40)
    behavior = policy.make_behavior(temperature=20.0, min_tokens=4)
    done = generate(policy, prompts, behavior)
    assert int(done.lengths.min()) >= 5
    assert (done.ids < behavior.vocabulary.width).all()
    assert (generate(policy, prompts, policy.make_behavior(temperature=20.0)).lengths < 5).any()


def eos_at_once(policy):
    """Makes EOS the only likely token."""
    head = policy.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.zeros_like(head.weight))
    head.bias = torch.nn.Parameter(torch.full((head.weight.shape[0],), -100.0))
    head.bias.data[EOS_ID] = 100.0
    return policy


@pytest.mark.parametrize("family", FAMILIES)
def test_immediate_eos_costs_one_forward(family):
    policy = eos_at_once(tiny_policy(family))
    forwards = count_forwards(policy)
    done = generate(policy, ragged_prompts())
    assert len(forwards) == 1
    assert done.lengths.tolist() == [1] * 8
    assert done.terminated.all()
    torch.testing.assert_close(done.logprobs, torch.zeros(8, 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_finished_rows_stop_costing(family):
    policy, prompts = tiny_policy(family), ragged_prompts(24)
    behavior = policy.make_behavior(temperature=6.0)
    forwards = count_forwards(policy)
    done = generate(policy, prompts, behavior)
    read = sum(rows for rows, columns in forwards[1:])
    assert forwards[-1][0] < 24
    assert len(forwards) == int(done.lengths.max())
    # Every read row that did not draw a token was waiting for a quarter of its batch to finish.
    needed = int(done.lengths.sum()) - 24
    assert needed <= read <= needed / 0.75


@pytest.mark.parametrize("family", FAMILIES)
def test_a_group_reads_its_prompt_once(family):
    policy, prompts = tiny_policy(family), ragged_prompts(6, repeated=5)
    forwards = count_forwards(policy)
    generate(policy, prompts, max_tokens=3)
    assert [rows for rows, _ in forwards] == [1, 6, 6]


def test_one_forward_for_each_token_and_model():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts()
    mask = TopPFilter(policy.network, EOS_ID, top_p=0.9)
    behavior = policy.make_behavior(min_tokens=5)
    forwards, seen = count_forwards(policy), []
    mask.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape)
    )
    generate(policy, prompts, behavior, max_tokens=5, mask=mask)
    assert len(forwards) == len(seen) == 5
    assert seen[0] == forwards[0] == (8, 12)
    assert all(shape == (8, 1) for shape in seen[1:])


def test_masked_completions_stay_in_the_set():
    policy, prompts = tiny_policy("llama"), ragged_prompts()
    mask = TopPFilter(policy.network, EOS_ID, top_p=0.01)  # the most probable token, or EOS
    behavior = policy.make_behavior(min_tokens=COMPLETION_TOKENS)
    greedy = generate(policy, prompts, behavior, greedy=True)
    assert torch.equal(generate(policy, prompts, behavior, mask=mask).ids, greedy.ids)


def test_decoding_leaves_no_gradients_and_no_mode_behind():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts()
    done = generate(policy, prompts)
    assert not done.logprobs.requires_grad
    assert not done.values.requires_grad
    assert not done.logprobs.is_inference()
    assert torch.is_grad_enabled()


def test_no_prompts_no_completions():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts().select(torch.zeros(0, dtype=torch.long))
    done = generate(policy, prompts)
    assert done.ids.shape == (0, 1)


def test_a_prompt_without_tokens_is_refused():
    policy, prompts = tiny_policy("gpt2"), ragged_prompts()
    mask = prompts.mask.clone()
    mask[3] = False
    with pytest.raises(DataError, match="sample-3"):
        generate(policy, Prompts(prompts.ids, mask, prompts.sample_ids, prompts.group_ids))


def test_two_temperatures_are_refused():
    policy = tiny_policy("gpt2")
    with pytest.raises(ValueError, match="temperature"):
        RolloutEngine(policy).generate(
            ragged_prompts(), SamplingConfig(temperature=0.5), policy.make_behavior(1.0),
            torch.Generator(), max_tokens=4,
        )  # fmt: skip
