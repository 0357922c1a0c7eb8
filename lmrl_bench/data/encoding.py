"""Encodes text such that only templates can produce control tokens.

Tokenizers of Transformers turn "</s>" in any text into the end token, wherever the text comes from.
Here text is data unless a template wrote it: control tokens spelled in data are encoded as
characters.

Texts that spell no control token are encoded by the tokenizer itself. For all others there is a
copy of the tokenizer in which control tokens have secret random names. It has the same pipeline and
ids, but no data can contain a secret name; a template's control tokens get theirs before encoding.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lmrl_bench.core.errors import DataError
from lmrl_bench.data.vocabulary import control_tokens

Spans = Sequence[tuple[int, int]]
"""Spans of a text, `(start, stop)` in characters, ascending."""


class TextEncoder:
    """Encodes texts with a tokenizer.

    Args:
        tokenizer: The tokenizer.

    Attributes:
        control: Control tokens by spelling, including added tokens that the chat template uses,
            even if they are not marked as special.
        before, after: Ids that the tokenizer itself puts before and after a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.control = control_tokens(tokenizer) | _written_by_chats(tokenizer)
        self.before, self.after = _surroundings(tokenizer)
        self._ids = frozenset(self.control.values())
        spellings = sorted(self.control, key=len, reverse=True)
        self._spelling = re.compile("|".join(map(re.escape, spellings)) or r"(?!)")

    def encode(self, text: str, written: Spans = ()) -> list[int]:
        """Returns the ids of a text, without those that the tokenizer puts around texts.

        Args:
            text: The text.
            written: Spans written by a template; control tokens are recognized only there.

        Raises:
            DataError: The tokenizer cannot encode the text without a control token.
        """
        places = list(self._control_places(text, written))
        expected = self._counted([self.control[text[start:stop]] for start, stop in places])
        ids: list[int] = self._plain(text)
        # Fast path: the plain encoding has exactly the expected control tokens.
        unknown = self.tokenizer.unk_token
        if self._counted(ids) == expected and (unknown is None or unknown not in text):
            return ids
        ids = self._apart(text, places)
        found = self._counted(ids)
        if found != expected:
            strays = self.tokenizer.convert_ids_to_tokens(found)
            raise DataError(
                f"the text {text!r:.80} contains the control token {strays[0]}, which the tokenizer "
                f"'{self.tokenizer.name_or_path}' cannot encode as characters; change the text, or "
                "choose a policy with a fast tokenizer (tokenizer.json)"
            )
        return ids

    def spelled(self, text: str, written: Spans = ()) -> list[str]:
        """Returns the control tokens that the data in a text spell."""
        written_places = set(self._control_places(text, written))
        found = [
            match for match in self._spelling.finditer(text) if match.span() not in written_places
        ]
        return [match.group() for match in found]

    def mark(self, text: str, stand_in: str) -> tuple[str, list[str]]:
        """Replaces spelled control tokens by a placeholder; returns the text and the tokens."""
        return self._spelling.sub(stand_in, text), self._spelling.findall(text)

    def _counted(self, ids: Sequence[int]) -> list[int]:
        """Returns the control ids except the unknown token, which also stands for characters."""
        unknown = self.tokenizer.unk_token_id
        return [number for number in ids if number in self._ids and number != unknown]

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _control_places(self, text: str, written: Spans) -> Iterator[tuple[int, int]]:
        for start, stop in written:
            for match in self._spelling.finditer(text, start, stop):
                yield match.span()

    def _apart(self, text: str, places: Spans) -> list[int]:
        """Encodes a text in which exactly the given places are control tokens."""
        backend = self._secret_backend
        pieces: list[str] = []
        last = 0
        for start, stop in places:
            pieces += [text[last:start], text[start:stop]]
            last = stop
        pieces.append(text[last:])
        if backend is not None:
            named = [
                self._secret_names[piece] if number % 2 else piece
                for number, piece in enumerate(pieces)
            ]
            return list(backend.encode("".join(named), add_special_tokens=False).ids)
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            ids += [self.control[piece]] if number % 2 else self._split(piece)
        return ids

    def _split(self, text: str) -> list[int]:
        encoded = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        return list(encoded["input_ids"])

    @cached_property
    def _secret_names(self) -> dict[str, str]:
        return {token: f"\ue000{secrets.token_hex(8)}\ue001" for token in self.control}

    @cached_property
    def _secret_backend(self) -> Tokenizer | None:
        """The tokenizer with secret names; None if it is not based on the library `tokenizers`."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        state = json.loads(backend.to_str())
        state |= {"post_processor": None, "padding": None, "truncation": None}
        for added in state["added_tokens"]:
            if added["content"] in self._secret_names:
                added |= {"content": self._secret_names[added["content"]], "normalized": False}
        _rename(state["model"], self._secret_names)
        return Tokenizer.from_str(json.dumps(state))


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Renames tokens in the serialized model of a `tokenizers` tokenizer of any kind."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        merges = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
        ]
        model["merges"] = [
            merge for merge in merges if not {*merge, "".join(merge)}.intersection(names)
        ]


def _written_by_chats(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Returns added tokens in the chat template; some checkpoints do not mark them as special."""
    template = tokenizer.chat_template
    source = "\n".join(template.values()) if isinstance(template, dict) else template or ""
    return {
        token.content: int(number)
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip() and len(token.content) > 1 and token.content in source
    }


def _surroundings(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Returns the ids that the tokenizer puts before and after a text."""
    for text in ("a", "the", "0", *list(tokenizer.get_vocab())[:20]):
        plain = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        whole = list(tokenizer(text, verbose=False)["input_ids"])
        for start in range(len(whole) - len(plain) + 1):
            if plain and whole[start : start + len(plain)] == plain:
                return whole[:start], whole[start + len(plain) :]
    return [], []
