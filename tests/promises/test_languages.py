"""End tokens and gaps in the ids, from the checkpoint to rollout, score, environments and sft targets."""

from __future__ import annotations

import pytest
import torch
from fixtures.policies import generate, score
from fixtures.tokenizers import byte_level_bpe, with_gaps
from fixtures.toy import toy_task
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lmrl_bench.algorithms.sft import reference_batch
from lmrl_bench.data.episodes import Prompts
from lmrl_bench.data.sample import Sample
from lmrl_bench.data.tokenization import TextCodec
from lmrl_bench.envs.completion_env import CompletionEnv
from lmrl_bench.envs.token_env import TextGenerationEnv
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.policies.policy import LanguageModelPolicy

WIDTH = 320


def checkpoint(folder, tokenizer, **changes):
    """Saves a tiny Llama whose next token is uniform, with its tokenizer; returns the folder's name."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WIDTH, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        pad_token_id=0, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for name, value in changes.items():
        setattr(model.generation_config, name, value)
    with torch.no_grad():
        model.model.norm.weight.zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def load(folder):
    return LanguageModelPolicy.load(folder, max_prompt_tokens=16, max_completion_tokens=20)


def prompts(rows):
    ids = torch.full((rows, 3), 1)
    return Prompts(ids, ids.bool(), tuple(map(str, range(rows))), torch.arange(rows))


@pytest.fixture(scope="module")
def two_ends(tmp_path_factory):
    place = checkpoint(tmp_path_factory.mktemp("ends"), byte_level_bpe(), eos_token_id=[1, 3])
    return load(place)


def test_every_end_token_of_the_checkpoint_ends(two_ends):
    done = generate(two_ends, prompts(600))
    ends = (done.ids == 1) | (done.ids == 3)
    assert {1, 3} <= set(done.ids[done.mask].tolist())
    for row in range(600):
        places = ends[row][: int(done.lengths[row])].nonzero().flatten().tolist()
        assert places in ([], [int(done.lengths[row]) - 1])
        assert bool(done.terminated[row]) == bool(places)


def test_what_was_drawn_is_what_is_scored(two_ends):
    behavior = two_ends.make_behavior(min_tokens=3)
    done = generate(two_ends, prompts(200), behavior)
    assert not ((done.ids[:, :3] == 1) | (done.ids[:, :3] == 3)).any()
    scored = score(two_ends, prompts(200), done, behavior).logprobs
    torch.testing.assert_close(scored, done.logprobs, atol=1e-5, rtol=0)
    count = len(byte_level_bpe().get_vocab())
    free = -torch.log(torch.tensor(float(count)))
    early = -torch.log(torch.tensor(count - 2.0))
    expected = torch.where(torch.arange(done.ids.shape[1]) < 3, early, free).expand_as(scored)
    torch.testing.assert_close(scored[done.mask], expected[done.mask], atol=1e-5, rtol=0)


def test_a_mask_lets_every_end_token_pass(two_ends):
    vocabulary = two_ends.vocabulary
    mask = TopPFilter(two_ends.network, vocabulary.eos_ids, top_p=0.1)
    logits = torch.zeros(1, WIDTH)
    logits[0, 40] = 20.0
    assert mask.allowed(logits)[0].nonzero().flatten().tolist() == [1, 3, 40]


def test_the_saved_policy_names_its_end_tokens(two_ends, tmp_path):
    two_ends.save(tmp_path / "saved")
    own = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config
    assert own.eos_token_id == [1, 3]
    assert load(str(tmp_path / "saved")).vocabulary.eos_ids == (1, 3)


@pytest.mark.parametrize("view", [TextGenerationEnv, CompletionEnv])
def test_environments_end_at_every_end_token(two_ends, view, tmp_path):
    place = checkpoint(tmp_path, byte_level_bpe(), eos_token_id=[1, 3])
    env = view(toy_task(max_completion_tokens=4, min_completion_tokens=1), place)
    env.reset(seed=0)
    if view is CompletionEnv:
        result = env.step([70, 3, 70, 70])
    else:
        assert env.action_masks()[[1, 3, 70]].tolist() == [False, False, True]
        env.step(70)
        result = env.step(3)
    assert result[2:4] == (True, False)
    assert result[4]["length"] == 2
    assert result[4]["text"] == byte_level_bpe().decode([70])


def test_a_vocabulary_with_gaps(tmp_path):
    """Only the tokenizer's ids are drawn, with equal probability, and EOS among them."""
    policy = load(checkpoint(tmp_path, with_gaps()))
    done = generate(policy, prompts(300))
    drawn = done.ids[done.mask]
    assert set(drawn.tolist()) == {0, 1, 2, 50, 60, 200}
    assert (drawn == 200).float().mean() == pytest.approx(1 / 6, abs=0.04)
    torch.testing.assert_close(
        done.logprobs[done.mask], torch.full_like(drawn, -1.791759, dtype=torch.float32),
        atol=1e-5, rtol=0,
    )  # fmt: skip
    scored = score(policy, prompts(300), done).logprobs
    torch.testing.assert_close(scored, done.logprobs, atol=1e-6, rtol=0)


def test_sft_targets_of_a_vocabulary_with_gaps_have_a_probability(tmp_path):
    policy = load(checkpoint(tmp_path, with_gaps()))
    codec = TextCodec(policy.tokenizer, max_prompt_tokens=8, max_completion_tokens=8)
    batch = reference_batch(codec, [Sample("0", "a b", ("red house",))], 0, policy.device)
    assert batch.completion_ids.tolist() == [[50, 60, 200]]
    scored = policy.score(
        batch,
        policy.make_behavior(),
    ).logprobs  # fmt: skip
    assert scored.isfinite().all()


def test_environments_of_a_vocabulary_with_gaps():
    task = toy_task(max_completion_tokens=4)
    env = TextGenerationEnv(task, with_gaps())
    env.reset(seed=0)
    assert env.action_space.n == 201
    assert env.action_masks().nonzero()[0].tolist() == [0, 1, 2, 50, 60, 200]
    with pytest.raises(
        ValueError,
        match="token 7 is not in the tokenizer, whose ids are 6 from 0 to 200, with gaps",
    ):
        env.step(7)
    completion = CompletionEnv(task, with_gaps())
    completion.action_space.seed(0)
    drawn = {int(token) for _ in range(50) for token in completion.action_space.sample()}
    assert drawn == {0, 1, 2, 50, 60, 200}
