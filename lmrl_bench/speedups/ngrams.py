"""Counts the n-grams that completions share with their references, exactly, many pairs at once.

The n-grams of the references form a trie stored as a table: `table[state, symbol]` is the next
state. A state is numbered by a position where its n-gram occurs, so nothing is hashed or sorted and
no n-gram is built as a string.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from lmrl_bench.speedups.lines import END, FIRST, Integers, Pairs

_TABLE = 2**19  # entries of the table: 4 MiB
_SMALLEST_CHUNK = 512  # symbols; in smaller chunks the NumPy calls cost more than a large table
_LARGEST_TABLE = 2**23  # entries, 64 MiB; the size grows with the square of a text's length


def shared_ngrams(pairs: Pairs, order: int) -> Integers:
    """Counts the shared n-grams of each pair, clipped at the smaller of the two counts.

    Args:
        pairs: `B` completions and references.
        order: Longest n-gram.

    Returns:
        `(B, order)`, for n = 1, 2, ….
    """
    chunks = _chunks(pairs.references.lengths.tolist(), _TABLE // pairs.symbols)
    return np.concatenate([_shared(pairs.part(*rows), order) for rows in chunks])


def ngram_totals(n_symbols: Integers, order: int) -> Integers:
    """Returns the number of n-grams of texts with `n_symbols` `(B,)` symbols, `(B, order)`."""
    totals: Integers = np.maximum(n_symbols[:, None] - np.arange(order), 0)
    return totals


def _chunks(sizes: Sequence[int], largest: int) -> Iterator[tuple[int, int]]:
    """Yields start and stop of each chunk of texts; a text above the limit gets its own chunk."""
    largest = max(largest, _SMALLEST_CHUNK)
    start = total = 0
    for row, size in enumerate(sizes if sum(sizes) > largest else ()):
        if row > start and total + size > largest:
            yield start, row
            start, total = row, 0
        total += size
    yield start, len(sizes)


class _Trie(threading.local):
    """The transition table, reused and never cleared: values below `base` are stale."""

    def __init__(self) -> None:
        self._entries = np.full(0, -1)
        self._base = 0

    def table(self, size: int) -> Integers:
        """Returns the table, enlarged to at least `size` entries."""
        if len(self._entries) < size:
            self._entries = np.full(size, -1)
        return self._entries

    def base(self, states: int) -> int:
        """Returns the offset of a new level's states, of which there are at most `states`."""
        base = self._base
        self._base += states
        return base


_TRIE = _Trie()


def _shared(pairs: Pairs, order: int) -> Integers:
    """Like `shared_ngrams`, for one chunk; texts too long for the table are counted without it."""
    rows, places = len(pairs.references.lengths), len(pairs.references.numbers)
    if places * pairs.symbols > _LARGEST_TABLE:
        texts = zip(pairs.completions.texts(), pairs.references.texts(), strict=True)
        return np.array([_counted(*pair, order) for pair in texts])
    shared = np.zeros((rows, order), dtype=np.int64)
    keys = [side.rows() * pairs.symbols + side.numbers for side in pairs.sides]
    first = 0
    if rows * pairs.symbols <= 2 * places:  # small alphabet: (row, symbol) is the unigram's state
        both = _in_both(keys[0], keys[1], rows * pairs.symbols).reshape(rows, -1)
        shared[:, 0] = both[:, FIRST:].sum(axis=1)
        first = 1
    _walk(pairs, keys, first, shared)
    return shared


def _walk(pairs: Pairs, keys: Sequence[Integers], first: int, shared: Integers) -> None:
    """Walks both sides through the trie, one symbol per level, and fills `shared`.

    Args:
        pairs: The pairs.
        keys: Row and first symbol at each position of completions and references; modified.
        first: First level: 0, or 1 if the keys are states already.
        shared: Output, `(B, order)`.
    """
    ours, theirs = (np.append(side.numbers, [END] * shared.shape[1]) for side in pairs.sides)
    (key, their_key), lengths, symbols = keys, pairs.references.lengths, pairs.symbols
    size, starts = len(their_key), np.cumsum(lengths + 1) - lengths - 1
    table = _TRIE.table(max(size, first * len(lengths) * symbols) * symbols)
    there, here = np.arange(size), np.arange(len(key))
    for level in range(first, shared.shape[1]):
        base = _TRIE.base(size)
        if level > 0:
            their_key *= symbols
            their_key += theirs[level : level + size]
            here += 1
            key *= symbols
            key += ours.take(here)
        # Positions with the same n-gram overwrite each other; the last writer names the state.
        table[their_key] = there + base
        their_key = table.take(their_key)
        their_key -= base
        key = table.take(key)
        key -= base
        (found,) = (key >= 0).nonzero()
        if not len(found):
            return
        here, key = here.take(found), key.take(found)
        shared[:, level] = np.add.reduceat(_in_both(key, their_key, size), starts)


def _in_both(ours: Integers, theirs: Integers, size: int) -> Integers:
    """Returns the smaller count of each number below `size` in the two arrays, `(size,)`."""
    return np.minimum(np.bincount(ours, minlength=size), np.bincount(theirs, minlength=size))


def _counted(completion: list[int], reference: list[int], order: int) -> list[int]:
    """Like `_shared`, for one pair and without a table."""

    def ngrams(text: list[int], n: int) -> Counter[tuple[int, ...]]:
        return Counter(zip(*(text[start:] for start in range(n)), strict=False))

    return [(ngrams(completion, n) & ngrams(reference, n)).total() for n in range(1, order + 1)]
