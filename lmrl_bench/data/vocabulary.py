"""Meaning of token ids, derived once from the tokenizer and the checkpoint's configuration.

All questions whether an id is possible, ends a completion, or is text are answered here.

**Legal ids** are exactly the ids of the tokenizer, without gaps between them and without additional
outputs of a wider model. Control tokens (BOS, padding, turn markers, sentinels, reserved tokens)
are legal too: the policy's probabilities decide how likely they are, and masking them would change
the trained distribution. A drawn control token is not text: decoding drops and counts it. Only
control tokens that the checkpoint itself forbids (Marian's padding, in `bad_words_ids`) are
illegal.

**End tokens** are the tokenizer's EOS and every `eos_token_id` in the checkpoint's
generation_config.json (or in config.json, if the former has none), as in `generate` of
Transformers. The tokenizer's EOS ends training targets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from lmrl_bench.core.errors import PolicyError
from lmrl_bench.core.wording import reason_of


@dataclass(frozen=True)
class Vocabulary:
    """The token ids of one checkpoint.

    Attributes:
        ids: The tokenizer's ids, ascending; all but the forbidden ones are legal.
        eos_ids: Ids that end a completion; the first one ends training targets.
        pad_id: Padding id; may be an end token.
        control_ids: Ids that are not text.
        forbidden_ids: Ids that the checkpoint must not generate.
    """

    ids: tuple[int, ...]
    eos_ids: tuple[int, ...]
    pad_id: int
    control_ids: frozenset[int] = frozenset()
    forbidden_ids: frozenset[int] = frozenset()
    _masks: dict[tuple[int, torch.device], Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.eos_ids or not set(self.eos_ids) <= set(self.ids):
            raise ValueError(f"the end tokens {self.eos_ids} must be among the ids")

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, *settings: Any) -> Vocabulary:
        """Derives the vocabulary of a tokenizer.

        Args:
            tokenizer: The tokenizer.
            settings: Generation configuration and configuration of the model; the first one with
                end tokens counts. By default those next to the tokenizer's files, if any.

        Raises:
            PolicyError: The tokenizer has no EOS token.
        """
        if tokenizer.eos_token_id is None:
            raise PolicyError(
                f"the tokenizer '{tokenizer.name_or_path}' has no EOS token, so a completion could "
                "never end; set `eos_token` in its tokenizer_config.json"
            )
        own = int(tokenizer.eos_token_id)
        ids = tuple(sorted({int(number) for number in tokenizer.get_vocab().values()} | {own}))
        known = set(ids)
        settings = settings or tuple(stored_settings(tokenizer))
        named = end_tokens(settings)
        further = [number for number in dict.fromkeys(named) if number in known and number != own]
        pad_id = own if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        control = frozenset(control_tokens(tokenizer).values())
        forbidden = forbidden_tokens(settings) & control - {own, *further}
        return cls(ids, (own, *further), pad_id, control, forbidden)

    @classmethod
    def contiguous(cls, size: int, *, eos_id: int, pad_id: int = 0) -> Vocabulary:
        """Returns a vocabulary of the ids below `size`, with one end token."""
        return cls(tuple(range(size)), (eos_id,), pad_id)

    @property
    def eos_id(self) -> int:
        """End token of training targets."""
        return self.eos_ids[0]

    @property
    def width(self) -> int:
        """Largest id plus one: the minimum number of outputs of a model."""
        return self.ids[-1] + 1

    @property
    def described(self) -> str:
        """Description of the ids for messages."""
        ids = f"{self.ids[0]} to {self.width - 1}"
        return ids if len(self.ids) == self.width else f"{len(self.ids)} from {ids}, with gaps"

    @cached_property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """Legal ids except end tokens, ascending."""
        ends = self.forbidden_ids.union(self.eos_ids)
        return np.array([number for number in self.ids if number not in ends], dtype=np.int64)

    def known(self, width: int) -> NDArray[np.bool_]:
        """Returns `(width,)`, true for legal ids; read-only."""
        if width == self.width:
            return self._known
        known = np.zeros(width, dtype=np.bool_)
        known[: self.width] = self._known[:width]
        return known

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        known = np.zeros(self.width, dtype=np.bool_)
        known[list(self.ids)] = True
        known[list(self.forbidden_ids)] = False
        known.setflags(write=False)
        return known

    def illegal(self, width: int, device: torch.device) -> Tensor | None:
        """Returns `(width,)` bool, true for illegal ids; None if all are legal."""
        if width == len(self.ids) == self.width and not self.forbidden_ids:
            return None
        key = (width, device)
        if key not in self._masks:
            self._masks[key] = torch.from_numpy(~self.known(width)).to(device)
        return self._masks[key]

    def is_end(self, tokens: Tensor) -> Tensor:
        """Returns where `tokens` are end tokens, bool, same shape."""
        if len(self.eos_ids) == 1:
            return tokens == self.eos_id
        return torch.isin(tokens, torch.tensor(self.eos_ids, device=tokens.device))


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Returns the tokens that are not text, by spelling: all that the tokenizer marks as special.

    Special tokens of a single character (a "!" for padding, a line break as end) are excluded: they
    are text as well, because their character has no other id.
    """
    added = {
        token.content: int(number)
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    found = added | {str(token): int(number) for token, number in named}
    return {token: number for token, number in found.items() if len(token) > 1}


def stored_kind(tokenizer: PreTrainedTokenizerBase) -> Literal["causal", "seq2seq"] | None:
    """Returns the kind of the model in the tokenizer's folder; None without a configuration."""
    for one in stored_settings(tokenizer):
        if not isinstance(one, GenerationConfig):
            return "seq2seq" if one.is_encoder_decoder else "causal"
    return None


def stored_settings(tokenizer: PreTrainedTokenizerBase) -> Sequence[Any]:
    """Returns generation configuration and configuration from the tokenizer's folder, if present.

    Nothing is downloaded.

    Raises:
        PolicyError: A file is damaged.
    """
    place = str(tokenizer.name_or_path or "")
    found: list[Any] = []
    for reader, file in ((GenerationConfig, "generation_config.json"), (AutoConfig, "config.json")):
        if not place or (Path(place).is_absolute() and not Path(place).is_dir()):
            break
        try:
            found.append(reader.from_pretrained(place, local_files_only=True))
        except (OSError, ValueError):  # missing, or an architecture unknown to the library
            _require_json(Path(place) / file)
    return found


def _require_json(file: Path) -> None:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{file}: cannot be read as JSON ({reason_of(error)}); restore the file"
        ) from error


def forbidden_tokens(settings: Iterable[Any]) -> frozenset[int]:
    """Returns the single tokens forbidden by `bad_words_ids` and `suppress_tokens`."""
    found: list[Any] = []
    for name in ("bad_words_ids", "suppress_tokens"):
        lists = (getattr(one, name, None) for one in settings)
        found += next((words for words in lists if words), [])
    single = [word[0] if isinstance(word, list) and len(word) == 1 else word for word in found]
    return frozenset(word for word in single if type(word) is int)


def end_tokens(settings: Iterable[Any]) -> list[int]:
    """Returns the end tokens of the first configuration that has any."""
    for one in settings:
        named = getattr(one, "eos_token_id", None)
        if named is not None:
            return [int(number) for number in (named if isinstance(named, list) else [named])]
    return []
