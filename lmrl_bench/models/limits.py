"""Maximum number of tokens of a model, under the various names in configurations."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from torch import nn

_ANY: Final = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_seq_length",
    "max_sequence_length", "seq_length", "n_ctx",
)  # fmt: skip
_PROMPT: Final = ("max_encoder_position_embeddings", "max_source_positions")
_COMPLETION: Final = ("max_decoder_position_embeddings", "max_target_positions")
_UNBOUNDED: Final = {
    "t5": "relative positions", "mt5": "relative positions", "umt5": "relative positions",
    "longt5": "relative positions", "switch_transformers": "relative positions",
    "bloom": "ALiBi, computed for every length",
}  # fmt: skip
"""Architectures without a limit, although their configurations have such a field."""


class Limits(NamedTuple):
    """Maximum numbers of tokens; None without a limit.

    Attributes:
        prompt: Of the encoder, or of a causal model in total.
        completion: Of the decoder, or of a causal model in total.
    """

    prompt: int | None
    completion: int | None


def position_limits(model: Any) -> Limits:
    """Returns the maximum number of tokens that a model can read."""
    config = model.config
    prompt = _limit(getattr(config, "encoder", config), _PROMPT)
    completion = _limit(getattr(config, "decoder", config), _COMPLETION)
    rows = _table_rows(model)
    if rows is not None:
        prompt = rows if prompt is None else min(prompt, rows)
        completion = rows if completion is None else min(completion, rows)
    return Limits(_whole_windows(config, prompt), completion)


def _limit(config: Any, own: tuple[str, ...]) -> int | None:
    """Returns the limit in a configuration; fields specific to one side take precedence."""
    text = _text_config(config)
    if text.model_type in _UNBOUNDED:
        return None
    for names in (own, _ANY):
        found = [getattr(text, name, None) for name in names]
        numbers = [value for value in found if isinstance(value, int) and value > 0]
        if numbers:
            return min(numbers)
    return None


def _text_config(config: Any) -> Any:
    """Returns the text part of a composite configuration."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _table_rows(model: nn.Module) -> int | None:
    """Returns the positions of the smallest table that reserves padding rows, as RoBERTa's does."""
    rows = [
        part.num_embeddings - part.padding_idx - 1
        for name, part in model.named_modules()
        if isinstance(part, nn.Embedding)
        and part.padding_idx is not None
        and name.rpartition(".")[2] in ("position_embeddings", "embed_positions")
        and "Sinusoidal" not in type(part).__name__
    ]
    return min(rows, default=None)


def _whole_windows(config: Any, limit: int | None) -> int | None:
    """Rounds down to whole windows, to which local attention pads a text."""
    windows = getattr(config, "attention_window", None)
    if limit is None or not windows:
        return limit
    widest = max(windows) if isinstance(windows, list) else int(windows)
    return limit // widest * widest
