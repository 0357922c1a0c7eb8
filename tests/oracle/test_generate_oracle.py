"""Decoding against Transformers' `generate`, and drawn tokens against the softmax."""

import pytest
import torch
from fixtures.policies import (
    COMPLETION_TOKENS,
    FAMILIES,
    VOCABULARY,
    generate,
    ragged_prompts,
    tiny_model,
    tiny_policy,
)
from fixtures.toy import toy_tokenizer
from scipy.stats import chisquare
from transformers import GenerationConfig

from lmrl_bench.data.episodes import Prompts
from lmrl_bench.policies.policy import LanguageModelPolicy
from lmrl_bench.rollouts.engine import draw_tokens

pytestmark = pytest.mark.usefixtures("speedups")


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_greedy_equals_transformers_generate(family):
    policy = tiny_policy(family, model=tiny_model(family, VOCABULARY, seed=3))
    if policy.kind == "seq2seq":
        policy.model.get_output_embeddings().weight[1] *= 2.0  # some rows end early
    prompts = ragged_prompts(10, seed=4)
    completions = generate(policy, prompts, greedy=True)
    for row in range(len(prompts)):
        prompt = prompts.ids[row : row + 1, prompts.mask[row]]
        output = policy.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=COMPLETION_TOKENS, pad_token_id=0, eos_token_id=1,
                bos_token_id=None, decoder_start_token_id=policy.model.generation_config.decoder_start_token_id,
            ),
        )  # fmt: skip
        skipped = prompt.shape[1] if policy.kind == "causal" else 1
        expected = output[0, skipped:]
        assert completions.ids[row, completions.mask[row]].tolist() == expected.tolist()
    assert completions.truncated.any()


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@torch.no_grad()
def test_first_tokens_follow_the_softmax_whatever_the_checkpoint_says(family, tmp_path):
    model = tiny_model(family, VOCABULARY)
    settings = {"repetition_penalty": 1.5, "top_k": 3, "temperature": 0.3, "do_sample": True}
    model.generation_config.update(**settings)
    model.save_pretrained(tmp_path)
    toy_tokenizer().save_pretrained(tmp_path)
    policy = LanguageModelPolicy.load(str(tmp_path), max_prompt_tokens=12, max_completion_tokens=8)
    for name in ("repetition_penalty", "top_k", "temperature"):
        assert getattr(policy.model.generation_config, name) in (None, 1.0)
    count = 20_000
    prompt = torch.tensor([[5, 9, 5, 12, 5]])
    prompts = Prompts(
        prompt.expand(count, -1), torch.ones(count, 5, dtype=torch.bool), ("p",) * count, torch.arange(count)
    )  # fmt: skip
    drawn = generate(policy, prompts, policy.make_behavior(), max_tokens=1).ids[:, 0]
    if family == "gpt2":
        logits = policy.model(input_ids=prompt).logits[0, -1]
    else:
        logits = policy.model(input_ids=prompt, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
    expected = count * logits.double().softmax(dim=-1)
    observed = torch.bincount(drawn, minlength=VOCABULARY).double()
    groups = torch.where(expected >= 5, torch.arange(VOCABULARY), 0)  # rare tokens with the first
    observed, expected = (
        torch.zeros(VOCABULARY, dtype=torch.float64).index_add(0, groups, counts)[groups.unique()]
        for counts in (observed, expected)
    )
    assert chisquare(observed.numpy(), expected.numpy()).pvalue > 1e-3


def test_draw_inverts_the_cumulative_distribution_exactly():
    probabilities = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    numbers = torch.tensor([0.0, 0.1, 0.25, 0.7499, 0.75, 1 - 2**-53], dtype=torch.float64)
    rows = probabilities.log().expand(len(numbers), -1)
    assert draw_tokens(rows, numbers).tolist() == [1, 1, 3, 3, 4, 4]


def test_draw_never_gives_a_token_of_probability_zero():
    rng = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(4096, 300, generator=rng)
    impossible = torch.rand(4096, 300, generator=rng) < 0.5
    impossible[:, 150] = False  # the first and the last token are impossible in half of the rows
    rows = logits.masked_fill(impossible, -torch.inf).log_softmax(dim=-1)
    for numbers in (
        torch.rand(4096, generator=rng, dtype=torch.float64),
        torch.zeros(4096, dtype=torch.float64),
        torch.full((4096,), 1 - 2**-53, dtype=torch.float64),
    ):
        tokens = draw_tokens(rows, numbers)
        assert torch.isfinite(rows.gather(1, tokens[:, None])).all()
