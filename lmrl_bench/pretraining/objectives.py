"""The two pretraining objectives: packed next-token prediction and span corruption.

Span corruption is T5's (Raffel et al. 2020, section 3.1.4): each corrupted span becomes one
sentinel in the input, and the target lists every sentinel followed by the tokens it hides. On a
pair "source <sep> target" it becomes translation language modeling (Conneau & Lample 2019): a span
hidden in one language can be inferred from the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntegerArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CorruptionSpec:
    """Amount of hidden text: the share of tokens, and the mean span length in tokens."""

    density: float
    mean_span: float


@dataclass(frozen=True)
class Corrupted:
    """One example of span corruption, without the final EOS tokens."""

    inputs: list[int]
    targets: list[int]


def pack_documents(documents: Iterable[Sequence[int]], length: int, eos_id: int) -> IntegerArray:
    """Concatenates documents, each ended by `eos_id`, and cuts the stream into rows.

    Args:
        documents: Token ids of each document.
        length: Tokens per row.
        eos_id: Token that ends a document.

    Returns:
        Array (N, length); the last, incomplete row is dropped.
    """
    stream: list[int] = []
    for document in documents:
        stream.extend(document)
        stream.append(eos_id)
    n_rows = len(stream) // length
    return np.asarray(stream[: n_rows * length], dtype=np.int64).reshape(n_rows, length)


def corrupt_spans(
    tokens: Sequence[int],
    spec: CorruptionSpec,
    sentinel_ids: Sequence[int],
    rng: np.random.Generator,
) -> Corrupted:
    """Hides random spans of a text.

    The numbers of hidden tokens and spans are fixed by `spec` and the length; their positions are
    random. At least one visible token separates two spans. Unlike in T5's own code, a span may open
    the text and need not close it.

    Args:
        tokens: Token ids of the text, at least two.
        spec: Amount of text to hide.
        sentinel_ids: Ids of the sentinels in order, which also limit the number of spans.
        rng: Source of randomness.

    Returns:
        Input and target; `recover` reconstructs the text.
    """
    n_tokens = len(tokens)
    n_hidden = int(np.clip(round(n_tokens * spec.density), 1, n_tokens - 1))
    n_spans = int(
        np.clip(
            round(n_hidden / spec.mean_span), 1, min(n_tokens - n_hidden + 1, len(sentinel_ids))
        )
    )
    hidden_lengths = _random_composition(n_hidden, n_spans, rng)
    # Two extra tokens, removed again below, allow an empty visible part at either end.
    visible_lengths = _random_composition(n_tokens - n_hidden + 2, n_spans + 1, rng)
    visible_lengths[0] -= 1
    visible_lengths[-1] -= 1
    inputs: list[int] = []
    targets: list[int] = []
    position = 0
    for visible, hidden, sentinel in zip(
        visible_lengths, hidden_lengths, sentinel_ids, strict=False
    ):
        inputs += [*tokens[position : position + visible], sentinel]
        position += visible
        targets += [sentinel, *tokens[position : position + hidden]]
        position += hidden
    return Corrupted([*inputs, *tokens[position:]], targets)


def recover(example: Corrupted, sentinel_ids: Sequence[int]) -> list[int]:
    """Replaces the sentinels of an example by their hidden spans."""
    sentinels = set(sentinel_ids)
    spans: dict[int, list[int]] = {}
    current: list[int] = []
    for token in example.targets:
        if token in sentinels:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [out for token in example.inputs for out in spans.get(token, [token])]


def _random_composition(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """Splits `total` into `parts` positive integers; all compositions are equally likely."""
    cuts = np.sort(rng.choice(total - 1, size=parts - 1, replace=False)) + 1
    return [int(part) for part in np.diff(np.concatenate(([0], cuts, [total])))]
