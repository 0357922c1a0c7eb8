"""Perplexity of completions under a frozen causal language model, a measure of fluency.

Every token of a completion is scored given the prompt and the tokens before it. torch is imported
when a metric is built, not with this module.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmrl_bench.core.errors import MetricError
from lmrl_bench.metrics.base import FloatArray, Metric, MetricResult, check_batch
from lmrl_bench.models.names import resolve_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lmrl_bench.data.sample import Sample


class _FrozenModel(NamedTuple):
    """A loaded model, its tokenizer, its fingerprint, and its context length in tokens."""

    network: Any
    tokenizer: Any
    identity: str
    positions: int


@dataclass(frozen=True)
class _Window:
    """Scored token ids with their context, and whether the context was truncated."""

    context: list[int]
    scored: list[int]
    truncated: bool

    def __len__(self) -> int:
        return len(self.context) + len(self.scored)


class Perplexity(Metric):
    """Perplexity of completions given their prompts; lower is better.

    The corpus value is `exp(sum of negative log-likelihoods / number of scored tokens)` over all
    completions, so long completions weigh more. The value of one sample is its mean negative
    log-likelihood in **nats per token** (log-perplexity), which is the better reward.

    Prompt and completion are tokenized separately and their ids concatenated. Only completion
    tokens are scored, without EOS (a text truncated at the length cap has none). For an empty
    completion only EOS is scored, so that every completion counts. A BOS token precedes the prompt
    if the tokenizer adds one, or if the prompt is empty. Prompts that do not fit in front of the
    completion are truncated on the left. A completion longer than the model's context is scored in
    windows of half its length, each given the preceding tokens that fit. `details` counts both.

    Args:
        model: A causal language model: a shipped policy, a download, a folder, or a hub id.
        revision: Commit of a hub id; required for one.
        batch_size: Texts per forward pass.

    Raises:
        DownloadError: The download is not installed.
        MetricError: The model is not causal, or a hub id has no revision.
        PolicyError: Unknown model.
    """

    name = "perplexity"
    bounds = (1.0, math.inf)
    higher_is_better = False
    needs: frozenset[str] = frozenset({"prompt"})

    def __init__(
        self, model: str = "nano-causal", revision: str | None = None, batch_size: int = 32
    ) -> None:
        source = resolve_model(model, revision)
        if not Path(source).is_dir() and revision is None:
            raise MetricError(
                f"metric 'perplexity': model '{model}' is a hub id; pin it with `revision`"
            )
        self._model = _load(source, revision)
        self._batch_size = batch_size

    @property
    def signature(self) -> str:
        """Model fingerprint, scored tokens and library version."""
        return (
            f"perplexity|model:{self._model.identity}|scored:completion (eos if empty)|given:prompt"
            f"|transformers:{version('transformers')}"
        )

    def score(self, completions: Sequence[str], samples: Sequence[Sample]) -> MetricResult:
        """Scores `B` completions.

        Raises:
            MetricError: Lengths differ, or `B` is 0.
        """
        check_batch(self.name, completions, samples)
        prompts = self._tokens([sample.prompt for sample in samples])
        rows = [
            self._windows(*texts) for texts in zip(prompts, self._tokens(completions), strict=True)
        ]
        sums = np.zeros(len(rows))
        owners = [row for row, windows in enumerate(rows) for _ in windows]
        np.add.at(sums, owners, self._negative_log_likelihoods([w for row in rows for w in row]))
        counts = np.array([sum(len(window.scored) for window in row) for row in rows])
        nats = float(sums.sum() / counts.sum())
        details = {
            "nats_per_token": nats,
            "tokens": float(counts.sum()),
            "empty_completions": float(sum(not completion for completion in completions)),
            "truncated_prompts": float(sum(row[0].truncated for row in rows)),
            "windowed_completions": float(sum(len(row) > 1 for row in rows)),
        }
        return MetricResult(math.exp(nats), sums / counts, details)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self._model.tokenizer(
            list(texts), add_special_tokens=False, verbose=False
        )["input_ids"]
        return ids

    def _windows(self, prompt: list[int], completion: list[int]) -> list[_Window]:
        """Returns one window, or several if the completion exceeds the model's context."""
        tokenizer, positions = self._model.tokenizer, self._model.positions
        scored = completion or [tokenizer.eos_token_id]
        opening = _opening(tokenizer) or ([] if prompt else [_start(tokenizer)])
        fits = len(scored) <= positions - max(len(opening), 1)
        stride = len(scored) if fits else positions // 2
        ids = prompt + scored
        windows = []
        for start in range(len(prompt), len(ids), stride):
            chunk = ids[start : start + stride]
            first = max(start - (positions - len(opening) - len(chunk)), 0)
            windows.append(_Window([*opening, *ids[first:start]], chunk, first > 0))
        return windows

    def _negative_log_likelihoods(self, windows: Sequence[_Window]) -> FloatArray:
        """Returns each window's negative log-likelihood in nats; batches by length."""
        sums = np.empty(len(windows), dtype=np.float64)
        order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            sums[chosen] = _sums(self._model.network, [windows[index] for index in chosen]).numpy()
        return sums


def _sums(network: Any, windows: Sequence[_Window]) -> Tensor:
    """Returns negative log-likelihoods, `(B,)`; right padding is invisible to causal attention."""
    import torch
    import torch.nn.functional as F

    shape = len(windows), max(len(window) for window in windows)
    ids = torch.zeros(shape, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    scored = torch.zeros(shape, dtype=torch.bool)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.tensor([*window.context, *window.scored])
        mask[row, : len(window)] = 1
        scored[row, len(window.context) : len(window)] = True
    chosen = scored[:, 1:]
    with torch.inference_mode():
        with _head_sees(network.get_output_embeddings(), chosen):
            logits = network(input_ids=ids, attention_mask=mask).logits[0]
        targets = ids[:, 1:][chosen]
        losses = torch.zeros(chosen.shape, dtype=torch.float64)
        losses[chosen] = F.cross_entropy(logits.float(), targets, reduction="none").double()
        return losses.sum(dim=1)


@contextmanager
def _head_sees(head: nn.Module, chosen: Tensor) -> Iterator[None]:
    """Passes only the hidden states that predict chosen tokens `(B, L - 1)` to the output layer.

    Logits of prompt and padding would cost more than the rest of a small model.
    """

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][:, :-1][chosen].unsqueeze(0),)

    # A pre-hook on the output layer works for any architecture; the states arrive as one flat row.
    handle = head.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@functools.lru_cache(maxsize=2)
def _load(source: str, revision: str | None) -> _FrozenModel:
    """Loads a model in single precision, once per process."""
    from torch import nn

    from lmrl_bench.models.checkpoint import CAUSAL, load_checkpoint, read_config
    from lmrl_bench.models.limits import position_limits
    from lmrl_bench.models.texts import read_as_text
    from lmrl_bench.speedups.kernels import use_fast_kernels

    config = read_config(source, CAUSAL, revision)
    if config.is_encoder_decoder:
        raise MetricError(
            f"metric 'perplexity': model '{source}' is an encoder-decoder ({config.model_type}); "
            "give a causal language model"
        )
    loaded = load_checkpoint(source, CAUSAL, revision)
    network: Any = loaded.model
    tokenizer: Any = loaded.tokenizer
    if tokenizer.eos_token_id is None:
        raise MetricError(f"metric 'perplexity': the tokenizer of '{source}' has no EOS token")
    if not isinstance(network.get_output_embeddings(), nn.Linear):
        raise MetricError(
            f"metric 'perplexity': {type(network).__name__} has no linear output layer; "
            "choose another model"
        )
    read_as_text(tokenizer, f"metric 'perplexity': model '{source}'", MetricError)
    use_fast_kernels(network)
    positions = position_limits(network).prompt or tokenizer.model_max_length
    return _FrozenModel(
        network.eval().requires_grad_(False), tokenizer, loaded.identity, int(positions)
    )


def _opening(tokenizer: Any) -> list[int]:
    """Returns the BOS token if the tokenizer adds it to texts itself, as Llama's does."""
    ids = tokenizer("a")["input_ids"]
    opens = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
    return [tokenizer.bos_token_id] if opens else []


def _start(tokenizer: Any) -> int:
    """Returns the token that replaces an empty prompt: scoring needs a preceding token."""
    start = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if start is None else start)
