"""Base of causal and encoder-decoder networks: states, logits and cached decoding.

A *state* is the input of the output layer. A hook in front of that layer captures it while the
model runs its own forward, which preserves every architecture's scaling and normalization. Logits,
which are large, are then computed only for tokens that matter.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.speedups.kernels import use_fast_kernels

Kind = Literal["causal", "seq2seq"]


class Decoder(ABC):
    """Cached decoding of a batch: the distribution of the next token of each row.

    Attributes:
        states: States before the next tokens, `(B, D)`.
        logits: `(B, V)`, float32.
    """

    states: Tensor
    logits: Tensor

    @abstractmethod
    def advance(self, tokens: Tensor) -> None:
        """Appends one token per row, `(B,)`, with one forward pass."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Keeps the rows `(N,)` int64 in that order; rows may be repeated."""


class Network(ABC):
    """A language model as a function from prompt and completion to states and logits.

    Args:
        model: A Hugging Face model with a language-model head.
        pad_id: Padding id; any valid id, as it is never attended to.
    """

    kind: ClassVar[Kind]

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        use_fast_kernels(model)
        self.model = model
        self.pad_id = pad_id
        self._cache_name = _cache_name(model)
        self._plain_head = self._head_is_plain()

    @property
    def head(self) -> nn.Linear:
        """The output layer."""
        head = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        assert isinstance(head, nn.Linear)
        return head

    @property
    def width(self) -> int:
        """`V`, the number of logits."""
        return int(self.head.weight.shape[0])

    @property
    def state_size(self) -> int:
        """`D`, the size of a state."""
        return int(self.head.weight.shape[1])

    @abstractmethod
    def states(self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor) -> Tensor:
        """Returns the states `(B, T + 1, D)` before each completion token and after the last one.

        Args:
            prompt_ids: `(B, P)` int64, left-padded.
            prompt_mask: `(B, P)` bool; one run of true values per row, which ends at the right.
            completion_ids: `(B, T)`, right-padded. The padding needs no mask, because attention is
                causal.
        """

    @abstractmethod
    def decoder(self, prompt_ids: Tensor, prompt_mask: Tensor, max_tokens: int) -> Decoder:
        """Reads the prompts `(B, P)`; the decoder accepts up to `max_tokens` completion tokens."""

    @abstractmethod
    def _one_token(self) -> dict[str, Any]:
        """Returns the arguments of a minimal forward pass."""

    def logits(self, states: Tensor) -> Tensor:
        """Returns the logits `(N, V)`, float32, of states `(N, D)`."""
        if not self._plain_head:
            return self._model_head(states)
        logits: Tensor = self.head(states)
        bias = getattr(self.model, "final_logits_bias", None)  # BART, Marian, Pegasus
        logits = logits if bias is None else logits + bias
        return logits.float()

    def _model_head(self, states: Tensor) -> Tensor:
        """Like `logits`, through the model's own code, which may cap or scale the logits."""
        # The hook replaces the head's input by our states, so the rest of the forward is
        # minimal."""
        handle = self.head.register_forward_pre_hook(lambda _module, _args: (states.unsqueeze(0),))
        try:
            logits: Tensor = self.model(**self._one_token()).logits
        finally:
            handle.remove()
        return logits.squeeze(0).float()

    @torch.no_grad()
    def _head_is_plain(self) -> bool:
        """Returns whether logits are just the output layer and bias applied to states."""
        self._plain_head = True
        noise = torch.Generator().manual_seed(0)
        # Large enough to exceed a cap on the logits.
        states = 10 * torch.randn(4, self.state_size, generator=noise).to(self.head.weight)
        plain, own = self.logits(states), self._model_head(states)
        return bool(torch.allclose(plain, own, rtol=1e-4, atol=1e-4))

    def frozen_copy(self) -> Self:
        """Returns a deep copy without gradients, always in evaluation mode."""
        duplicate = copy.deepcopy(self)
        duplicate.model.requires_grad_(False).train(False)
        duplicate.model.zero_grad(set_to_none=True)
        return duplicate

    def run(self, columns: slice, **inputs: Any) -> tuple[Tensor, Any]:
        """Runs the model without a cache; its head computes only the given columns.

        Returns:
            All states `(B, L, D)`, and the model's output.
        """
        with _head_input(self.head, columns) as seen:
            output = self.model(**inputs, use_cache=False)
        return seen[0], output

    def run_cached(self, cache: Any, **inputs: Any) -> tuple[Tensor, Tensor, Any]:
        """Runs the model on new tokens, given the cache of the previous ones (None at first).

        Returns:
            All states `(B, L, D)`, the logits after the last token `(B, V)`, float32, and the
            cache.

        Raises:
            PolicyError: The model has no cache.
        """
        with _head_input(self.head, slice(-1, None)) as seen:
            output = self.model(**inputs, **{self._cache_name: cache}, use_cache=True)
        grown = getattr(output, self._cache_name, None)
        if grown is None:
            raise PolicyError(
                f"{type(self.model).__name__} has no key-value cache, so it cannot generate; "
                "choose a causal or an encoder-decoder language model"
            )
        return seen[0], output.logits[:, -1].float(), grown


def _cache_name(model: PreTrainedModel) -> str:
    """Returns the cache's argument name, which newer versions of Transformers change by model."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


@contextmanager
def _head_input(head: nn.Module, columns: slice) -> Iterator[list[Tensor]]:
    """Captures the input of the output layer, and passes only some columns on to it."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        seen.append(args[0])
        return (args[0][:, columns],)

    handle = head.register_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def distinct_prompts(ids: Tensor, mask: Tensor, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns distinct prompts `(U, P)`, their mask, and each row's index `(B,)` among them.

    Episodes of a group share a prompt, which is then computed once. Without repetition the input is
    returned unchanged.
    """
    keys, numbers = torch.unique(ids.masked_fill(~mask, -1), dim=0, return_inverse=True)
    if len(keys) == len(ids):
        return ids, mask, torch.arange(len(ids), device=ids.device)
    present = keys >= 0
    return keys.masked_fill(~present, pad_id), present, numbers
