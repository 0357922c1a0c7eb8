"""Drawn tokens against the softmax of Transformers' plain forward, χ²: families, temperatures, masks, positions.

The expected distribution uses nothing of the package: the model's own forward on the unpadded
prefix, and Transformers' logits processors for temperature, minimum length and top-p.
"""

from collections import defaultdict

import pytest
import torch
from fixtures.policies import FAMILIES, VOCABULARY, WIDTH, generate, tiny_policy
from fixtures.toy import EOS_ID
from scipy.stats import chi2
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from lmrl_bench.data.episodes import Prompts
from lmrl_bench.models.behavior import TopPFilter

PROMPTS = ([5, 9, 5, 12, 7], [8, 1])  # two lengths, so that one is padded; EOS inside
ROWS_EACH = 4000
STEPS = 3
LEAST_ROWS = 150
"""Prefixes that are as frequent have a distribution to compare with."""

SETTINGS = {
    "plain": {},
    "cold": {"temperature": 0.7},
    "hot, minimum length": {"temperature": 1.5, "min_tokens": 2},
    "top-p 0.7 of a lagged copy": {"temperature": 0.9, "top_p": 0.7},
}


def two_prompts():
    width = max(map(len, PROMPTS))
    ids, mask = torch.zeros(2, width, dtype=torch.long), torch.zeros(2, width, dtype=torch.bool)
    for row, tokens in enumerate(PROMPTS):
        ids[row, width - len(tokens) :] = torch.tensor(tokens)
        mask[row, width - len(tokens) :] = True
    rows = torch.arange(2).repeat_interleave(ROWS_EACH)
    names = tuple(f"row-{row}" for row in range(len(rows)))
    return Prompts(ids[rows], mask[rows], names, torch.arange(len(rows)))


def next_logits(model, kind, prompt, prefix):
    """The model's own forward on one row without padding, `(1, V)`."""
    if kind == "causal":
        return model(input_ids=torch.tensor([[*prompt, *prefix]])).logits[:, -1]
    start = model.config.decoder_start_token_id
    return model(
        input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *prefix]])
    ).logits[:, -1]


def expected_distribution(policy, lagged, prompt, prefix, temperature, min_tokens, top_p):
    """Probabilities `(V,)` by Transformers' processors; outputs beyond the tokenizer are impossible."""
    context = torch.tensor([[0, *prefix]])

    def processed(model):
        logits = next_logits(model, policy.kind, prompt, prefix)
        logits[:, VOCABULARY:] = -torch.inf
        minimum = MinNewTokensLengthLogitsProcessor(1, min_tokens, EOS_ID)
        return TemperatureLogitsWarper(temperature)(context, minimum(context, logits))

    logits = processed(policy.model)
    if lagged is not None:
        outside = TopPLogitsWarper(top_p)(context, processed(lagged)).isneginf()
        outside[:, EOS_ID] = False
        logits = logits.masked_fill(outside, -torch.inf)
    return logits.double().softmax(dim=-1)[0]


def statistic(drawn, probabilities):
    """χ² and degrees of freedom; tokens that are expected fewer than five times count as one."""
    counts = torch.bincount(drawn, minlength=WIDTH).double()
    assert not counts[probabilities == 0].any()
    expected = probabilities * len(drawn)
    cells = torch.where(expected >= 5, torch.arange(WIDTH), WIDTH)
    observed, expected = (
        torch.zeros(WIDTH + 1, dtype=torch.float64).index_add(0, cells, values)
        for values in (counts, expected)
    )
    kept = expected > 0
    value = ((observed - expected)[kept].square() / expected[kept]).sum()
    return float(value), int(kept.sum()) - 1


def continuations(done, rows):
    """The tokens that were drawn after each beginning of a completion."""
    found = defaultdict(list)
    for row in rows:
        tokens = done.ids[row, done.mask[row]].tolist()
        for step, token in enumerate(tokens):
            found[tuple(tokens[:step])].append(token)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_frequencies_match_the_softmax(family, name):
    changes = {"temperature": 1.0, "min_tokens": 0, "top_p": None} | SETTINGS[name]
    policy = tiny_policy(family)
    if family == "t5":  # untied and unscaled, it would be all but certain of every token
        policy.model.get_output_embeddings().weight.mul_(0.5)
    mask = lagged = None
    if changes["top_p"] is not None:
        mask = TopPFilter(policy.network, EOS_ID, top_p=changes["top_p"])
        lagged = mask.model
        head = policy.model.get_output_embeddings().weight
        noise = torch.randn(head.shape, generator=torch.Generator().manual_seed(1))
        head.add_(0.2 * head.std() * noise)
    behavior = policy.make_behavior(changes["temperature"], changes["min_tokens"])
    done = generate(policy, two_prompts(), behavior, mask=mask, max_tokens=STEPS, seed=11)
    total = freedom = compared = 0
    for number, prompt in enumerate(PROMPTS):
        rows = range(number * ROWS_EACH, (number + 1) * ROWS_EACH)
        for prefix, tokens in sorted(continuations(done, rows).items()):
            if len(tokens) < LEAST_ROWS:
                continue
            expected = expected_distribution(policy, lagged, prompt, prefix, **changes)
            value, degrees = statistic(torch.tensor(tokens), expected)
            total, freedom, compared = total + value, freedom + degrees, compared + 1
    assert compared >= 4
    assert freedom > 100
    assert chi2.sf(total, freedom) > 1e-3
