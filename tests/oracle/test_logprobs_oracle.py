"""Log-probabilities, values and entropy against Transformers' plain forward on each row alone, without padding."""

import math

import pytest
import torch
from fixtures.policies import FAMILIES, generate, ragged_prompts, score, tiny_policy
from torch import nn
from torch.distributions import Categorical

from lmrl_bench.data.episodes import TokenBatch

pytestmark = pytest.mark.usefixtures("speedups")


def plain_logits(policy, prompt, completion):
    """Logits `(T, V)` for the tokens of one unpadded completion, by the model's own forward."""
    if policy.kind == "causal":
        ids = torch.cat([prompt, completion])[None]
        return policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    start = torch.tensor([policy.model.config.decoder_start_token_id])
    inputs = torch.cat([start, completion[:-1]])[None]
    return policy.model(input_ids=prompt[None], decoder_input_ids=inputs).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
@torch.no_grad()
def test_equals_the_unpadded_forward(family, temperature):
    policy, prompts = tiny_policy(family), ragged_prompts(repeated=1)
    if family == "bart":  # zero in most checkpoints, but not in all
        policy.model.final_logits_bias.normal_()
    behavior = policy.make_behavior(temperature, min_tokens=2)
    completions = generate(policy, prompts, behavior)
    scores = score(policy, prompts, completions, behavior)
    for row in range(len(prompts)):
        prompt = prompts.ids[row, prompts.mask[row]]
        completion = completions.ids[row, completions.mask[row]]
        logits = plain_logits(policy, prompt, completion) / temperature
        logits[:, behavior.vocabulary_size :] = -torch.inf
        logits[:2, behavior.eos_id] = -torch.inf
        expected = Categorical(logits=logits)
        length = len(completion)
        for got in (completions.logprobs, scores.logprobs):
            torch.testing.assert_close(
                got[row, :length], expected.log_prob(completion), atol=1e-5, rtol=0
            )
        torch.testing.assert_close(
            scores.entropy[row, :length], expected.entropy(), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value_trunk", ["shared", "separate"])
@torch.no_grad()
def test_values_are_the_head_on_the_unpadded_states(family, value_trunk):
    policy, prompts = tiny_policy(family, value_trunk=value_trunk), ragged_prompts(5)
    nn.init.normal_(policy.critic.value_head.weight)
    nn.init.constant_(policy.critic.value_head.bias, 0.3)
    trunk = policy.model
    if value_trunk == "separate":
        trunk = policy.critic.value_trunk
        for parameter in trunk.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    completions = generate(policy, prompts)
    values = score(policy, prompts, completions).values
    final = policy.critic.final_values(TokenBatch.of(prompts, completions))
    for row in range(len(prompts)):
        prompt = prompts.ids[row, prompts.mask[row]]
        completion = completions.ids[row, completions.mask[row]]
        states = last_hidden_states(trunk, policy.kind, prompt, completion)
        expected = states @ policy.critic.value_head.weight[0] + 0.3
        torch.testing.assert_close(
            torch.cat([values[row, : len(completion)], final[row : row + 1]]),
            expected,
            atol=1e-4,
            rtol=1e-5,
        )


def last_hidden_states(model, kind, prompt, completion):
    """States `(T + 1, D)`: Transformers' last hidden states, for T5 as its output layer takes them."""
    if kind == "causal":
        ids = torch.cat([prompt, completion])[None]
        return model(input_ids=ids, output_hidden_states=True).hidden_states[-1][
            0, len(prompt) - 1 :
        ]
    start = torch.tensor([model.config.decoder_start_token_id])
    output = model(
        input_ids=prompt[None],
        decoder_input_ids=torch.cat([start, completion])[None],
        output_hidden_states=True,
    )
    states = output.decoder_hidden_states[-1][0]
    scaled = getattr(model.config, "scale_decoder_outputs", False)
    return states / math.sqrt(model.config.d_model) if scaled else states


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_equals_the_plain_loss_of_transformers(family):
    policy, prompts = tiny_policy(family), ragged_prompts(5)
    behavior = policy.make_behavior()
    completions = generate(policy, prompts, behavior)
    parameters = list(policy.model.parameters())
    loss = -score(policy, prompts, completions, behavior).logprobs.sum()
    mine = torch.autograd.grad(loss, parameters, allow_unused=True)
    total = 0.0
    for row in range(len(prompts)):
        prompt = prompts.ids[row, prompts.mask[row]]
        completion = completions.ids[row, completions.mask[row]]
        logits = plain_logits(policy, prompt, completion)[:, : behavior.vocabulary_size]
        total = total + nn.functional.cross_entropy(logits, completion, reduction="sum")
    theirs = torch.autograd.grad(total, parameters, allow_unused=True)
    for got, expected in zip(mine, theirs, strict=True):
        if expected is not None:
            torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-3)
