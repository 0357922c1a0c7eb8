"""The policy that sampled is the policy that is scored: four families, ragged prompts, every behavior."""

import pytest
import torch
from fixtures.policies import (
    FAMILIES,
    VOCABULARY,
    generate,
    ragged_prompts,
    score,
    tiny_model,
    tiny_policy,
)
from fixtures.toy import EOS_ID, toy_tokenizer

from lmrl_bench.data.episodes import TokenBatch
from lmrl_bench.models.behavior import TopPFilter

BEHAVIORS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "hot-minimum-length": {"temperature": 1.5, "min_tokens": 6},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", BEHAVIORS)
def test_scored_equals_sampled(family, name):
    policy, prompts = tiny_policy(family), ragged_prompts(repeated=2)
    behavior = policy.make_behavior(**BEHAVIORS[name])
    completions = generate(policy, prompts, behavior)
    scores = score(policy, prompts, completions, behavior)
    assert completions.mask.any(dim=1).all()
    assert (completions.logprobs[completions.mask] < 0).all()
    torch.testing.assert_close(scores.logprobs, completions.logprobs, atol=1e-5, rtol=0)
    with torch.no_grad():
        again = score(policy, prompts, completions, behavior)
    torch.testing.assert_close(again.logprobs, completions.logprobs, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.entropy, scores.entropy, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value_trunk", ["shared", "frozen"])
def test_values_while_sampling_equal_scored_values(family, value_trunk):
    policy, prompts = tiny_policy(family, value_trunk=value_trunk), ragged_prompts()
    torch.nn.init.normal_(policy.critic.value_head.weight)
    completions = generate(policy, prompts)
    values = score(policy, prompts, completions).values
    assert completions.values.abs().max() > 0.1
    torch.testing.assert_close(values, completions.values, atol=1e-5, rtol=1e-5)
    assert not values[~completions.mask].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_reference_equal_to_the_policy_has_no_divergence(family):
    policy, prompts = tiny_policy(family), ragged_prompts()
    policy.make_ref_policy()
    behavior = policy.make_behavior(temperature=0.7)
    completions = generate(policy, prompts, behavior)
    inputs = (TokenBatch.of(prompts, completions), behavior)
    with torch.no_grad():
        own = policy.score(*inputs).logprobs
    assert torch.equal(policy.score_ref_policy(*inputs), own)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
def test_token_filter_ratio_is_one_and_masked_distribution_is_normalized(family, top_p):
    policy, prompts = tiny_policy(family), ragged_prompts()
    behavior = policy.make_behavior(temperature=0.9, min_tokens=2)
    mask = TopPFilter(policy.network, EOS_ID, top_p=top_p)
    with torch.no_grad():  # a lagged copy is not the policy
        for parameter in policy.parameters():
            parameter.add_(
                0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            )
    completions = generate(policy, prompts, behavior, mask=mask)
    scores = score(
        policy, prompts, completions, behavior, allowed=completions.allowed, full_logits=True
    )
    torch.testing.assert_close(scores.logprobs, completions.logprobs, atol=1e-5, rtol=0)
    totals = scores.logits.exp().sum(dim=-1)
    torch.testing.assert_close(totals, torch.ones_like(totals))
    impossible = scores.logits == -torch.inf
    assert impossible[:, VOCABULARY:].all()
    assert impossible[:, :VOCABULARY].any() == (top_p < 1.0 or behavior.min_tokens > 0)
    without = score(policy, prompts, completions, behavior)
    if top_p == 1.0:
        assert torch.equal(without.logprobs, scores.logprobs)
    else:
        assert (scores.logprobs - without.logprobs > 0.01).any()


@pytest.mark.parametrize("repeated", [0, 2], ids=["single", "groups"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_amount_and_content_do_not_matter(family, repeated):
    policy, prompts = tiny_policy(family), ragged_prompts(repeated=repeated)
    completions = generate(policy, prompts)
    plain = score(policy, prompts, completions)
    more = torch.nn.functional.pad
    ids = prompts.ids.masked_fill(~prompts.mask, 7)  # other ids at the padding
    garbage = torch.randint(
        0, 45, completions.ids.shape, generator=torch.Generator().manual_seed(9)
    )
    completion = torch.where(completions.mask, completions.ids, garbage)
    wide = policy.score(
        TokenBatch(
            more(ids, (5, 0), value=3), more(prompts.mask, (5, 0)),
            more(completion, (0, 4), value=9), more(completions.mask, (0, 4)),
        ),
        policy.make_behavior(),
    )  # fmt: skip
    width = completions.ids.shape[1]
    for name in ("logprobs", "entropy", "values"):
        torch.testing.assert_close(
            getattr(wide, name)[:, :width], getattr(plain, name), atol=1e-5, rtol=0
        )
        assert not getattr(wide, name)[:, width:].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_garbage_after_the_end_is_bit_identical(family):
    policy, prompts = tiny_policy(family), ragged_prompts()
    behavior = policy.make_behavior(temperature=3.0)
    completions = generate(policy, prompts, behavior)
    assert completions.terminated.any()
    plain = score(policy, prompts, completions, behavior)
    completion = completions.ids.masked_fill(~completions.mask, 11)
    garbage = policy.score(
        TokenBatch(prompts.ids, prompts.mask, completion, completions.mask), behavior
    )
    assert torch.equal(garbage.logprobs, plain.logprobs)
    assert torch.equal(garbage.entropy, plain.entropy)


@pytest.mark.parametrize("family", FAMILIES)
def test_pad_equal_to_eos_with_eos_inside_the_prompt(family):
    model = tiny_model(family)
    with_pad = tiny_policy(family, model=model)
    pad_is_eos = tiny_policy(family, model=model, tokenizer=toy_tokenizer(pad_is_eos=True))
    prompts = ragged_prompts()
    behavior = pad_is_eos.make_behavior(temperature=3.0)
    one, two = (generate(policy, prompts, behavior) for policy in (with_pad, pad_is_eos))
    assert one.terminated.any()
    assert torch.equal(one.mask, two.mask)
    assert torch.equal(one.ids[one.mask], two.ids[two.mask])
    torch.testing.assert_close(one.logprobs, two.logprobs, atol=1e-5, rtol=0)
    # EOS, where it was drawn, is a token of the policy: it is scored and gets a gradient.
    last = two.lengths[two.terminated] - 1
    rows = two.terminated.nonzero().squeeze(1)
    assert (two.ids[rows, last] == EOS_ID).all()
    scores = score(pad_is_eos, prompts, two, behavior)
    assert (scores.logprobs[rows, last] < 0).all()
    gradients = torch.autograd.grad(
        scores.logprobs[rows, last].sum(), pad_is_eos.model.get_output_embeddings().weight
    )
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_never_acts(family):
    policy, prompts = tiny_policy(family), ragged_prompts()
    policy.set_training_mode(True)
    assert not policy.training
    completions = generate(policy, prompts)
    one, two = (score(policy, prompts, completions).logprobs for _ in range(2))
    assert torch.equal(one, two)
    torch.testing.assert_close(one, completions.logprobs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_group_reads_its_prompt_once_with_the_same_gradient(family):
    policy, prompts = tiny_policy(family), ragged_prompts(6, repeated=5)
    completions = generate(policy, prompts)
    weights = torch.randn(completions.ids.shape, generator=torch.Generator().manual_seed(2))

    def gradient(rows):
        scores = policy.score(
            TokenBatch.of(prompts, completions).select(rows, trim=False), policy.make_behavior(),
        )  # fmt: skip
        loss = (scores.logprobs * weights[rows]).sum()
        return torch.autograd.grad(loss, list(policy.model.parameters()), allow_unused=True)

    together = gradient(torch.arange(6))
    alone = [gradient(torch.tensor([row])) for row in range(6)]
    for number, value in enumerate(together):
        if value is not None:
            expected = torch.stack([parts[number] for parts in alone]).sum(dim=0)
            torch.testing.assert_close(value, expected, atol=2e-4, rtol=1e-3)
