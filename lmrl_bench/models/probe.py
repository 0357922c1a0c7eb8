"""Checks that a loaded model scores and decodes like its own plain forward pass.

Padding, positions, caches and masks differ between architectures and releases of the library. A few
short forward passes at the start are cheaper than a run that trains a different policy than the one
that acts. Some models change their computation at a certain length (sliding windows, chunked
attention, rotary positions with a second set of frequencies): if a task reaches such a threshold,
rows on both sides of it are scored and decoded across it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmrl_bench.core.errors import LmrlBenchError, PolicyError
from lmrl_bench.models.border import first_line
from lmrl_bench.models.networks import Network
from lmrl_bench.models.seq2seq import Seq2SeqNetwork

TOLERANCE = 1e-3
"""Largest difference of a log-probability, in nats; float32 rounding stays far below it."""

_THRESHOLD = re.compile(
    r"window|chunk|block|radius|local|max_distance|position_embeddings|seq_len|capacity"
)
"""Names of settings with a length at which the computation changes."""


class Threshold(NamedTuple):
    """A length at which a model changes its computation, and the name of the setting."""

    name: str
    length: int


class _Lengths(NamedTuple):
    """Lengths of two prompts and of both completions; `decoded` if the rows are also decoded."""

    prompts: tuple[int, int]
    completion: int
    decoded: bool


@torch.no_grad()
def check_network(
    network: Network, max_prompt_tokens: int = 5, max_completion_tokens: int = 3
) -> None:
    """Compares the paths of training and sampling with the plain forward of each row alone.

    Tests a padded batch, a batch with repeated prompts (which are computed once), and cached
    decoding, with a few tokens each, within the limits of the task.

    Raises:
        PolicyError: The results differ, are not finite, or cannot be computed.
    """
    prompts = (min(5, max_prompt_tokens), min(3, max_prompt_tokens))
    _check(network, _Lengths(prompts, min(3, max_completion_tokens), decoded=True), "")


@torch.no_grad()
def check_lengths(network: Network, max_prompt_tokens: int, max_completion_tokens: int) -> None:
    """Repeats the comparison at the longest rows of a task, and around each threshold they pass.

    Raises:
        PolicyError: The results differ, or are not finite.
    """
    longest = _Lengths(
        (max_prompt_tokens, (max_prompt_tokens + 1) // 2), max_completion_tokens, decoded=False
    )
    reach = max_prompt_tokens + max_completion_tokens
    if network.kind == "seq2seq":
        reach = max(max_prompt_tokens, max_completion_tokens + 1)
    for name, length in thresholds(network.model.config.to_dict()):
        if length >= reach:
            continue
        where = f"past {name}: {length} tokens, "
        for rows in _around(network, length, max_prompt_tokens, max_completion_tokens):
            _check(network, rows, where)
    _check(network, longest, f"at {reach} tokens, the longest row of the task, ")


def thresholds(settings: Mapping[str, Any]) -> list[Threshold]:
    """Returns the thresholds in a configuration, at any depth, ascending, one per length."""
    found = {length: name for name, length in _named_lengths("", settings) if length > 1}
    return [Threshold(found[length], length) for length in sorted(found)]


def _named_lengths(name: str, value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _named_lengths(str(key), part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _named_lengths(name, part)
    elif isinstance(value, int) and not isinstance(value, bool) and _THRESHOLD.search(name):
        yield name, value


def _around(
    network: Network, length: int, max_prompt: int, max_completion: int
) -> Iterator[_Lengths]:
    """Yields rows that cross a threshold in the completion and, if possible, in the prompt."""
    if network.kind == "seq2seq":
        prompt = min(max_prompt, length + 2)
        yield _Lengths((prompt, (prompt + 1) // 2), min(max_completion, length + 2), decoded=True)
        return
    prompt = min(max_prompt, max(length - 1, 1))
    completion = min(max_completion, length + 3 - prompt)
    yield _Lengths((prompt, (prompt + 1) // 2), completion, decoded=True)
    if max_prompt > length:
        prompt = min(max_prompt, length + 2)
        yield _Lengths((prompt, (length + 1) // 2), min(max_completion, 2), decoded=True)


def _check(network: Network, rows: _Lengths, where: str) -> None:
    """Compares rows in a padded batch, repeated, and decoded, with the plain forward of each."""
    noise = torch.Generator().manual_seed(0)
    device = network.head.weight.device
    width = max(rows.prompts)
    tokens = torch.randint(0, network.width, (2, width + rows.completion), generator=noise).to(
        device
    )
    # The padding id may also be an ordinary token of a text, which some models mistake for
    # padding.
    tokens[0, width // 2] = tokens[0, width] = network.pad_id
    prompt_ids, completion_ids = tokens[:, :width], tokens[:, width:]
    columns = torch.arange(width, device=device)
    prompt_mask = columns >= width - torch.tensor(rows.prompts, device=device).unsqueeze(1)
    with _computed(network, f"{where}the plain forward"):
        rows_alone = [
            _plain(network, prompt_ids[row, prompt_mask[row]], completion_ids[row])
            for row in range(2)
        ]
    plain = torch.stack(rows_alone).log_softmax(-1)
    with _computed(network, f"{where}a padded batch, unlike the plain forward,"):
        scored = _scored(network, prompt_ids, prompt_mask, completion_ids)
    _require_equal(network, f"{where}a padded batch", scored, plain)
    if not rows.decoded:
        return
    twice = torch.tensor([0, 1, 1, 0], device=device)
    with _computed(network, f"{where}decoding with a cache, unlike the plain forward,"):
        repeated = _scored(network, prompt_ids[twice], prompt_mask[twice], completion_ids[twice])
        decoded = _decoded(network, prompt_ids, prompt_mask, completion_ids)
    _require_equal(network, f"{where}a batch of repeated prompts", repeated, plain[twice])
    _require_equal(network, f"{where}decoding with a cache", decoded, plain)


@contextmanager
def _computed(network: Network, what: str) -> Iterator[None]:
    """Turns any exception of the library during a computation into one message."""
    try:
        yield
    except LmrlBenchError:
        raise
    except Exception as error:  # the model's own code may raise anything
        raise PolicyError(
            f"{type(network.model).__name__}: {what} fails ({first_line(error)}); choose another "
            "architecture, or lower prompt.max_tokens and completion.max_tokens in task.yaml"
        ) from error


def _plain(network: Network, prompt: Tensor, completion: Tensor) -> Tensor:
    """Returns the logits `(T + 1, V)` of the model's own forward pass on one unpadded row."""
    if network.kind == "causal":
        ids = torch.cat([prompt, completion]).unsqueeze(0)
        logits: Tensor = network.model(input_ids=ids, use_cache=False).logits
        return logits[0, len(prompt) - 1 :].float()
    assert isinstance(network, Seq2SeqNetwork)
    start = network.start_tokens(1)[0]
    inputs = torch.cat([start, completion]).unsqueeze(0)
    logits = network.model(
        input_ids=prompt.unsqueeze(0), decoder_input_ids=inputs, use_cache=False
    ).logits
    return logits[0, len(start) - 1 :].float()


def _scored(
    network: Network, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor
) -> Tensor:
    """Returns log-probabilities `(B, T + 1, V)` as computed in training."""
    states = network.states(prompt_ids, prompt_mask, completion_ids)
    return network.logits(states.flatten(0, 1)).view(*states.shape[:2], -1).log_softmax(-1)


def _decoded(
    network: Network, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor
) -> Tensor:
    """Returns log-probabilities `(B, T + 1, V)` of cached decoding, with reordered rows."""
    decoder = network.decoder(prompt_ids, prompt_mask, completion_ids.shape[1])
    decoder.keep(torch.tensor([1, 0], device=prompt_ids.device))
    steps = [decoder.logits]
    for tokens in completion_ids.flip(0).unbind(dim=1):
        decoder.advance(tokens)
        steps.append(decoder.logits)
    return torch.stack(steps, dim=1).flip(0).log_softmax(-1)


def _require_equal(network: Network, what: str, got: Tensor, expected: Tensor) -> None:
    # Some models return several streams of states from one forward.
    same_shape = got.shape == expected.shape
    difference = float((got - expected).abs().max()) if same_shape else float("inf")
    if not difference <= TOLERANCE:
        remedy = "Choose another architecture or a checkpoint with finite weights"
        if what.startswith(("past", "at")):
            remedy = f"Lower prompt.max_tokens and completion.max_tokens in task.yaml below that. {remedy}"
        raise PolicyError(
            f"{type(network.model).__name__}: {what} gives other log-probabilities than the plain "
            f"forward (difference {difference:.2g} nats, allowed {TOLERANCE:g}); its probabilities "
            f"in sampling and in training would differ. {remedy}"
        )
