"""The two pretraining objectives: packed next-token prediction and span corruption.

Span corruption is T5's (Raffel et al. 2020, section 3.1.4): each corrupted span becomes one
sentinel in the input, and the target lists every sentinel followed by the tokens it hides. On a
pair "source <sep> target" it becomes translation language modelling (Conneau & Lample 2019): a span
hidden in one language can be read off the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntegerArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CorruptionSpec:
    """How much of a text is hidden: the share of its tokens, and the mean span in tokens."""

    density: float
    mean_span: float


@dataclass(frozen=True)
class Corrupted:
    """One example of span corruption, without the final end-of-sequence tokens."""

    inputs: list[int]
    targets: list[int]


def pack_documents(documents: Iterable[Sequence[int]], length: int, eos_id: int) -> IntegerArray:
    """Join documents, each ended by `eos_id`, into one stream and cut it into rows.

    Args:
        documents: Token ids of each document.
        length: Tokens in a row.
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
    """Hide random spans of a text.

    The number of hidden tokens and of spans is fixed by `spec` and the length; where the spans lie
    is random. Between two spans stands at least one visible token; unlike T5's own code, a span may
    open the text and need not close it.

    Args:
        tokens: Token ids of the text, at least two.
        spec: How much to hide.
        sentinel_ids: Ids of the sentinels in order; at most that many spans are hidden.
        rng: Source of randomness.

    Returns:
        Input and target; `recover` gives the text back from them.
    """
    n_tokens = len(tokens)
    n_hidden = int(np.clip(round(n_tokens * spec.density), 1, n_tokens - 1))
    n_spans = int(
        np.clip(
            round(n_hidden / spec.mean_span), 1, min(n_tokens - n_hidden + 1, len(sentinel_ids))
        )
    )
    hidden_lengths = _random_composition(n_hidden, n_spans, rng)
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
    """Put the hidden spans of an example back in place of their sentinels."""
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
    """Split `total` into `parts` positive integers, each composition equally likely."""
    cuts = np.sort(rng.choice(total - 1, size=parts - 1, replace=False)) + 1
    return [int(part) for part in np.diff(np.concatenate(([0], cuts, [total])))]
