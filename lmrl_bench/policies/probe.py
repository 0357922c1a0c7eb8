"""Checks, when a model is loaded, that it is scored and decoded as its own plain forward says.

Padding, positions, caches and masks differ between architectures and releases of the library; a few
short forwards at the start are cheaper than a run that trains another policy than the one that
acts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lmrl_bench.errors import PolicyError
from lmrl_bench.policies.networks import Network
from lmrl_bench.policies.seq2seq import Seq2SeqNetwork

TOLERANCE = 1e-3
"""Largest difference in a log-probability, nats; float32 rounding stays far below it."""


@torch.no_grad()
def check_network(network: Network) -> None:
    """Compares what training and sampling read with the plain forward of each row alone.

    That is a padded batch, a batch in which prompts repeat, which are then read once, and cached decoding.

    Raises:
        PolicyError: They differ, or are not finite.
    """
    noise = torch.Generator().manual_seed(0)
    device = network.head.weight.device
    tokens = torch.randint(0, network.width, (2, 8), generator=noise).to(device)
    prompt_ids, response_ids = tokens[:, :5], tokens[:, 5:]
    prompt_mask = torch.ones_like(prompt_ids, dtype=torch.bool)
    prompt_mask[1, :2] = False
    plain = torch.stack(
        [
            _plain(network, prompt_ids[row, prompt_mask[row]], response_ids[row]).log_softmax(-1)
            for row in range(2)
        ]
    )
    scored = _scored(network, prompt_ids, prompt_mask, response_ids)
    twice = torch.tensor([0, 1, 1, 0], device=device)
    repeated = _scored(network, prompt_ids[twice], prompt_mask[twice], response_ids[twice])
    decoded = _decoded(network, prompt_ids, prompt_mask, response_ids)
    _require_equal(network, "a padded batch", scored, plain)
    _require_equal(network, "a batch of repeated prompts", repeated, plain[twice])
    _require_equal(network, "decoding with a cache", decoded, plain)


def _plain(network: Network, prompt: Tensor, response: Tensor) -> Tensor:
    """Returns the logits `(T + 1, V)` of the model's own forward on one unpadded row."""
    if network.kind == "causal":
        ids = torch.cat([prompt, response]).unsqueeze(0)
        logits: Tensor = network.model(input_ids=ids, use_cache=False).logits
        return logits[0, len(prompt) - 1 :].float()
    assert isinstance(network, Seq2SeqNetwork)
    start = network.start_tokens(1)
    inputs = torch.cat([start, response]).unsqueeze(0)
    logits = network.model(
        input_ids=prompt.unsqueeze(0), decoder_input_ids=inputs, use_cache=False
    ).logits
    return logits[0].float()


def _scored(
    network: Network, prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor
) -> Tensor:
    """Returns log-probabilities `(B, T + 1, V)` as training computes them."""
    states = network.states(prompt_ids, prompt_mask, response_ids)
    return network.logits(states.flatten(0, 1)).view(*states.shape[:2], -1).log_softmax(-1)


def _decoded(
    network: Network, prompt_ids: Tensor, prompt_mask: Tensor, response_ids: Tensor
) -> Tensor:
    """Returns log-probabilities `(B, T + 1, V)` of cached decoding, in which rows change places."""
    decoder = network.decoder(prompt_ids, prompt_mask, response_ids.shape[1])
    decoder.keep(torch.tensor([1, 0], device=prompt_ids.device))
    steps = [decoder.logits]
    for tokens in response_ids.flip(0).unbind(dim=1):
        decoder.advance(tokens)
        steps.append(decoder.logits)
    return torch.stack(steps, dim=1).flip(0).log_softmax(-1)


def _require_equal(network: Network, what: str, got: Tensor, expected: Tensor) -> None:
    difference = float((got - expected).abs().max())
    if not difference <= TOLERANCE:
        raise PolicyError(
            f"{type(network.model).__name__}: {what} gives other log-probabilities than the plain "
            f"forward (difference {difference:.2g} nats, allowed {TOLERANCE:g}); its probabilities "
            "while sampling and while training would differ. Choose another architecture or a "
            "checkpoint with finite weights"
        )
