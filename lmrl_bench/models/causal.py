"""Causal (decoder-only) language models: the completion continues the prompt."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lmrl_bench.models.networks import Decoder, Network, distinct_prompts
from lmrl_bench.speedups.narrowing import is_narrowable, last_feed_forward, narrowed


class CausalNetwork(Network):
    """A causal language model.

    In decoding, positions are computed from the attention mask, so that left padding does not shift
    learned or rotary positions. In scoring there is no left padding.
    """

    kind = "causal"

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        for module in model.modules():
            if hasattr(module, "warn_if_padding_and_no_attention_mask"):
                # The check would run at every forward; padding is never attended to here.
                module.warn_if_padding_and_no_attention_mask = _nothing  # type: ignore[assignment]
        super().__init__(model, pad_id)
        self._feed_forward = last_feed_forward(model)
        if self._feed_forward is not None and not is_narrowable(self._feed_forward, self._few):
            self._feed_forward = None

    def states(self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor) -> Tensor:
        """See `Network.states`; repeated prompts are computed once."""
        ids, mask, rows = distinct_prompts(prompt_ids, prompt_mask, self.pad_id)
        if len(ids) < len(prompt_ids) and completion_ids.shape[1] > 0:
            decoder = CausalDecoder(self, ids, mask, completion_ids.shape[1])
            decoder.keep(rows)
            first = decoder.states.unsqueeze(1)
            return torch.cat([first, decoder.extend(completion_ids)], dim=1)
        # Each row is rotated to the left edge, so that positions start at 0 and the causal mask
        # hides the padding, which is now on the right of all tokens that matter.
        ids = torch.cat([prompt_ids, completion_ids], dim=1)
        columns = torch.arange(ids.shape[1], device=ids.device)
        padding = (~prompt_mask).sum(dim=1, keepdim=True)
        ids = ids.gather(1, (columns + padding) % len(columns))
        places = columns[prompt_ids.shape[1] - 1 :] - padding
        with self.wanted_from(int(places.min())):
            states, _ = self.run(slice(0, 1), input_ids=ids)
        return states[torch.arange(len(ids), device=ids.device).unsqueeze(1), places]

    def decoder(self, prompt_ids: Tensor, prompt_mask: Tensor, max_tokens: int) -> CausalDecoder:
        """See `Network.decoder`."""
        return CausalDecoder(self, prompt_ids, prompt_mask, max_tokens)

    def wanted_from(self, column: int) -> AbstractContextManager[None]:
        """Skips work in forwards whose results only affect the states before `column`.

        Does nothing if a later backward would recompute blocks (gradient checkpointing in training
        mode), because the recomputation happens outside this context.
        """
        if self.model.training and _recomputes(self.model):
            return nullcontext()
        return narrowed(self._feed_forward, column)

    def inputs(self, ids: Tensor, mask: Tensor | None) -> dict[str, Any]:
        """Returns the model's arguments for ids `(B, L)` at the end of the mask `(B, S)`.

        A mask of None means that there is no padding, which makes attention faster.
        """
        if mask is None:
            return {"input_ids": ids}
        inputs = {"input_ids": ids, "attention_mask": mask.long()}
        if self._takes_positions:
            positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
            inputs["position_ids"] = positions[:, mask.shape[1] - ids.shape[1] :]
        return inputs

    def _few(self, column: int) -> Tensor:
        """Returns the states of three tokens, computed with narrowing from a column on."""
        ids = torch.arange(3, device=self.head.weight.device).unsqueeze(0) % self.width
        with self.wanted_from(column):
            return self.run(slice(0, 1), input_ids=ids)[0]

    def _one_token(self) -> dict[str, Any]:
        ids = torch.full((1, 1), self.pad_id, device=self.head.weight.device)
        return {"input_ids": ids, "use_cache": False}


class CausalDecoder(Decoder):
    """Decodes with the key-value cache of a causal model."""

    def __init__(
        self, network: CausalNetwork, prompt_ids: Tensor, prompt_mask: Tensor, max_tokens: int
    ) -> None:
        self._network = network
        future = prompt_mask.new_ones(len(prompt_mask), max_tokens)
        self._mask = torch.cat([prompt_mask, future], dim=1)
        self._padded = not bool(prompt_mask.all())
        self._length = 0
        self._cache: Any = None
        with network.wanted_from(prompt_ids.shape[1] - 1):
            self.extend(prompt_ids)

    def advance(self, tokens: Tensor) -> None:
        """See `Decoder.advance`."""
        self.extend(tokens.unsqueeze(1))

    def extend(self, ids: Tensor) -> Tensor:
        """Appends tokens `(B, L)` and returns the states `(B, L, D)` after each of them."""
        self._length += ids.shape[1]
        mask = self._mask[:, : self._length] if self._padded else None
        inputs = self._network.inputs(ids, mask)
        states, self.logits, self._cache = self._network.run_cached(self._cache, **inputs)
        self.states = states[:, -1]
        return states

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        self._padded = not bool(self._mask.all())
        self.states, self.logits = self.states[rows], self.logits[rows]


def _recomputes(model: nn.Module) -> bool:
    return any(getattr(part, "gradient_checkpointing", False) for part in model.modules())


def _nothing(*_: object) -> None:
    """Replaces a warning about padding without a mask, which cannot be seen by any token here."""
