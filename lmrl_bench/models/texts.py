"""Makes tokenizers read data as text, including text that spells a control token."""

from __future__ import annotations

import json
from typing import Any, Final

from tokenizers import Tokenizer, normalizers

from lmrl_bench.core.errors import LmrlBenchError

_UNREACHABLE: Final = -1e6
"""Score of a piece that the best segmentation never contains."""


def read_as_text(tokenizer: Any, what: str, kind: type[LmrlBenchError]) -> None:
    """Makes a tokenizer split the names of its control tokens like any other text, permanently.

    Args:
        tokenizer: A tokenizer of Transformers; modified in place.
        what: Its owner, for messages.
        kind: Exception type to raise.

    Raises:
        LmrlBenchError: The tokenizer still reads one of them as a control token.
    """
    tokenizer.split_special_tokens = True
    names = _control_tokens(tokenizer)
    for attempt in (_hide_pieces, _break_names):
        if not _spelled(tokenizer, names):
            return
        attempt(tokenizer, names)
    spelled = _spelled(tokenizer, names)
    if spelled:
        raise kind(
            f"{what}: its tokenizer reads the text '{spelled[0]}' as a control token, so data could inject it; "
            "choose another model"
        )


def _control_tokens(tokenizer: Any) -> dict[str, int]:
    """Returns names and ids of control tokens except the unknown one, which any text may become."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = dict.fromkeys([*tokenizer.all_special_tokens, *added])
    return {
        name: tokenizer.convert_tokens_to_ids(name)
        for name in names
        if name != tokenizer.unk_token and len(name) > 0
    }


def _spelled(tokenizer: Any, names: dict[str, int]) -> list[str]:
    """Returns the names that become their token when they occur in a text."""
    texts = [text for name in names for text in (name, f"a{name}b", f"a {name} b")]
    rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    found = [
        any(number in row for row in rows[3 * i : 3 * i + 3])
        for i, number in enumerate(names.values())
    ]
    return [name for name, hit in zip(names, found, strict=True) if hit]


def _hide_pieces(tokenizer: Any, names: dict[str, int]) -> None:
    """Lowers the scores of control tokens in a Unigram model, so that no text contains them."""
    settings = _settings(tokenizer)
    if settings is None or settings["model"].get("type") != "Unigram":
        return
    vocabulary = settings["model"]["vocab"]
    for number in names.values():
        if number < len(vocabulary):
            vocabulary[number][1] = _UNREACHABLE
    _replace(tokenizer, Tokenizer.from_str(json.dumps(settings)))


def _break_names(tokenizer: Any, names: dict[str, int]) -> None:
    """Inserts an invisible character into names that are words of the vocabulary.

    Applied before and after the tokenizer's own normalizer, which may turn "</S>" into "</s>".
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return
    broken = [
        normalizers.Replace(name, f"{name[0]}\u2060{name[1:]}")
        for name in sorted(_spelled(tokenizer, names), key=len, reverse=True)
        if len(name) > 1
    ]
    before = [backend.normalizer] if backend.normalizer is not None else []
    backend.normalizer = normalizers.Sequence([*broken, *before, *broken])


def _settings(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return json.loads(backend.to_str()) if isinstance(backend, Tokenizer) else None


def _replace(tokenizer: Any, backend: Tokenizer) -> None:
    tokenizer._tokenizer = backend
