"""How many n-grams a response shares with its reference, for many pairs at once, counted exactly.

The n-grams of the references are a trie in one table: `table[state, symbol]` is the next state. A state is named by
the place of an n-gram that leads to it, so nothing is hashed or sorted, and no n-gram is made as a string.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from lmrl_bench.speedups.lines import END, FIRST, Integers, Pairs

_TABLE = 2**19  # entries of the table: 4 MiB
_SMALLEST_CHUNK = 512  # symbols; below, the calls cost more than a large table
_LARGEST_TABLE = 2**23  # entries, 64 MiB; it grows with the square of a text's length


def shared_ngrams(pairs: Pairs, order: int) -> Integers:
    """Counts what each response shares with its reference, every n-gram at most as often as both have it.

    Args:
        pairs: `B` responses and references.
        order: Longest n-gram.

    Returns:
        `(B, order)`, for n from 1.
    """
    chunks = _chunks(pairs.references.lengths.tolist(), _TABLE // pairs.symbols)
    return np.concatenate([_shared(pairs.part(*rows), order) for rows in chunks])


def ngram_totals(n_symbols: Integers, order: int) -> Integers:
    """Returns how many n-grams texts of so many symbols `(B,)` have, `(B, order)`."""
    totals: Integers = np.maximum(n_symbols[:, None] - np.arange(order), 0)
    return totals


def _chunks(sizes: Sequence[int], largest: int) -> Iterator[tuple[int, int]]:
    """Yields the first row of each chunk and the one behind its last; a longer row stands alone."""
    largest = max(largest, _SMALLEST_CHUNK)
    start = total = 0
    for row, size in enumerate(sizes if sum(sizes) > largest else ()):
        if row > start and total + size > largest:
            yield start, row
            start, total = row, 0
        total += size
    yield start, len(sizes)


class _Trie(threading.local):
    """The table, kept from call to call and never cleared: what is below `base` is of an older level or call."""

    def __init__(self) -> None:
        self._entries = np.full(0, -1)
        self._base = 0

    def table(self, size: int) -> Integers:
        """Returns the table, at least so large."""
        if len(self._entries) < size:
            self._entries = np.full(size, -1)
        return self._entries

    def base(self, states: int) -> int:
        """Returns what is added to the states of a new level, of which there are so many at most."""
        base = self._base
        self._base += states
        return base


_TRIE = _Trie()


def _shared(pairs: Pairs, order: int) -> Integers:
    """As `shared_ngrams`, of a chunk; a text that is too long for the table is counted without it."""
    rows, places = len(pairs.references.lengths), len(pairs.references.numbers)
    if places * pairs.symbols > _LARGEST_TABLE:
        texts = zip(pairs.responses.texts(), pairs.references.texts(), strict=True)
        return np.array([_counted(*pair, order) for pair in texts])
    shared = np.zeros((rows, order), dtype=np.int64)
    keys = [side.rows() * pairs.symbols + side.numbers for side in pairs.sides]
    first = 0
    if rows * pairs.symbols <= 2 * places:  # few symbols: row and symbol are the first state
        both = _in_both(keys[0], keys[1], rows * pairs.symbols).reshape(rows, -1)
        shared[:, 0] = both[:, FIRST:].sum(axis=1)
        first = 1
    _walk(pairs, keys, first, shared)
    return shared


def _walk(pairs: Pairs, keys: Sequence[Integers], first: int, shared: Integers) -> None:
    """Walks both sides through the trie, one symbol a level; fills `(B, order)`.

    Args:
        pairs: The pairs.
        keys: Row and first symbol of every place of responses and references; they are changed.
        first: The level to begin at: 0, or 1 where the keys are states.
        shared: What both sides have.
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
    """Returns how often each number below `size` is in both, `(size,)`."""
    return np.minimum(np.bincount(ours, minlength=size), np.bincount(theirs, minlength=size))


def _counted(response: list[int], reference: list[int], order: int) -> list[int]:
    """As `_shared`, of one pair and without a table."""

    def ngrams(text: list[int], n: int) -> Counter[tuple[int, ...]]:
        return Counter(zip(*(text[start:] for start in range(n)), strict=False))

    return [(ngrams(response, n) & ngrams(reference, n)).total() for n in range(1, order + 1)]
