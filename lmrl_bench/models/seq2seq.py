"""Encoder-decoder language models: the encoder reads the prompt, the decoder writes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.models.networks import Decoder, Network, distinct_prompts


class Seq2SeqNetwork(Network):
    """An encoder-decoder model.

    Its decoder starts with `decoder_start_token_id` from the configuration, followed by
    `forced_bos_token_id` if the checkpoint forces one (BART's BOS, mBART's language); the policy
    chooses the tokens after that.

    Raises:
        PolicyError: The configuration has no start token.
    """

    kind = "seq2seq"

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        start = getattr(model.config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(model.generation_config, "decoder_start_token_id", None)
        if start is None:
            raise PolicyError(
                f"the configuration of {type(model).__name__} has no decoder_start_token_id; "
                "set it in the model's config.json (T5: the pad token, BART: the EOS token)"
            )
        forced = model.generation_config.forced_bos_token_id
        if forced is None:
            forced = getattr(model.config, "forced_bos_token_id", None)
        self.start_ids = [int(start)] if forced is None else [int(start), int(forced)]
        super().__init__(model, pad_id)

    def encode(self, prompt_ids: Tensor, prompt_mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the encoder's output `(B, L, D)` and its mask `(B, L)` (None if full).

        Padding is moved to the right, because encoders with learned positions count from the first
        column.
        """
        ids, mask = _padded_right(prompt_ids, prompt_mask)
        attention = None if bool(mask.all()) else mask.long()
        encoder = self.model.get_encoder()
        output: Tensor = encoder(input_ids=ids, attention_mask=attention).last_hidden_state
        return output, attention

    def states(self, prompt_ids: Tensor, prompt_mask: Tensor, completion_ids: Tensor) -> Tensor:
        """See `Network.states`; repeated prompts are encoded once."""
        ids, mask, rows = distinct_prompts(prompt_ids, prompt_mask, self.pad_id)
        encoded, attention = self.encode(ids, mask)
        if len(ids) < len(prompt_ids):
            encoded = encoded[rows]
            attention = None if attention is None else attention[rows]
        start = self.start_tokens(len(completion_ids))
        states, _ = self.run(
            slice(0, 1),
            decoder_input_ids=torch.cat([start, completion_ids], dim=1),
            encoder_outputs=_encoder_output(encoded),
            attention_mask=attention,
        )
        return states[:, len(self.start_ids) - 1 :]

    def decoder(self, prompt_ids: Tensor, prompt_mask: Tensor, max_tokens: int) -> Seq2SeqDecoder:
        """See `Network.decoder`; the length is unlimited, as the cache grows."""
        del max_tokens
        return Seq2SeqDecoder(self, *self.encode(prompt_ids, prompt_mask))

    def start_tokens(self, rows: int) -> Tensor:
        """Returns the first tokens of the decoder, `(rows, S)`."""
        return torch.tensor(self.start_ids, device=self.head.weight.device).repeat(rows, 1)

    def _one_token(self) -> dict[str, Any]:
        token = self.start_tokens(1)[:, :1]
        return {"input_ids": token, "decoder_input_ids": token, "use_cache": False}


class Seq2SeqDecoder(Decoder):
    """Decodes with the self- and cross-attention cache of an encoder-decoder model."""

    def __init__(self, network: Seq2SeqNetwork, encoded: Tensor, attention: Tensor | None) -> None:
        self._network = network
        self._encoded = encoded
        self._attention = attention
        self._cache: Any = None
        self._read(network.start_tokens(len(encoded)))

    def advance(self, tokens: Tensor) -> None:
        """See `Decoder.advance`."""
        self._read(tokens.unsqueeze(1))

    def _read(self, ids: Tensor) -> None:
        states, self.logits, self._cache = self._network.run_cached(
            self._cache,
            decoder_input_ids=ids,
            encoder_outputs=_encoder_output(self._encoded),
            attention_mask=self._attention,
        )
        self.states = states[:, -1]

    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        self._cache.batch_select_indices(rows)
        self._encoded = self._encoded[rows]
        if self._attention is not None:
            self._attention = self._attention[rows]
        self.states, self.logits = self.states[rows], self.logits[rows]


def _encoder_output(states: Tensor) -> BaseModelOutput:
    """Wraps encoder states for the model; mixtures of experts also expect router logits."""
    output = BaseModelOutput(last_hidden_state=states)
    output.router_logits = None
    return output


def _padded_right(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Moves the padding of `(B, P)` to the right and drops columns with only padding."""
    longest = int(mask.sum(dim=1).max())
    order = (~mask).int().argsort(dim=1, stable=True)[:, :longest]
    return ids.gather(1, order), mask.gather(1, order)
