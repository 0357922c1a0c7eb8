"""How many n-grams a response shares with its reference, for many pairs at once; the counts are exact.

The n-grams of all references of a chunk are a trie in one table: `table[state, symbol]` is the next state. A state is
named by the place of an n-gram that leads to it, so nothing is hashed or sorted, and no n-gram is made as a string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_TABLE = 2**18  # entries of a table that stays in the processor's cache
_SMALLEST_CHUNK = 512  # symbols; below, the calls cost more than a large table
_MEMORY = 2**16  # words
_END = 0  # closes a reference; no response has it
_UNKNOWN = 1  # is in no reference
_FIRST = 2


class Coded(NamedTuple):
    """`B` texts as numbers.

    Attributes:
        codes: `(N,)`, from 0: the symbols of all texts, one after the other.
        lengths: `(B,)`, symbols of each text.
    """

    codes: Integers
    lengths: Integers

    def part(self, start: int, stop: int) -> Coded:
        """Returns the texts `start` to `stop`."""
        first = int(self.lengths[:start].sum())
        lengths = self.lengths[start:stop]
        return Coded(self.codes[first : first + int(lengths.sum())], lengths)

    def rows(self) -> list[list[int]]:
        """Returns the texts one by one."""
        return [part.tolist() for part in np.split(self.codes, np.cumsum(self.lengths)[:-1])]


def characters(texts: Sequence[str]) -> Coded:
    """Returns texts as their characters."""
    encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, dtype="<u4").astype(np.int64)
    return Coded(codes, np.array([len(text) for text in texts], dtype=np.int64))


class Vocabulary:
    """Returns texts as the tokens of their words, with a bounded memory of words.

    Args:
        tokenize: Splits one word (a stretch without white space) into tokens.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        self._tokenize = tokenize
        self._codes: dict[str, int] = {}
        self._words = _Words(self._codes_of_word)

    def __call__(self, *sides: Sequence[str]) -> list[Coded]:
        """Codes the texts of all sides; codes are comparable within one call only."""
        if len(self._words) > _MEMORY:
            self._words.clear()
            self._codes.clear()
        return [self._coded(texts) for texts in sides]

    def _coded(self, texts: Sequence[str]) -> Coded:
        known = self._words.__getitem__
        rows = [list(chain.from_iterable(map(known, text.split()))) for text in texts]
        codes = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        return Coded(codes, np.array([len(row) for row in rows], dtype=np.int64))

    def _codes_of_word(self, word: str) -> tuple[int, ...]:
        codes = self._codes
        return tuple(codes.setdefault(token, len(codes)) for token in self._tokenize(word))


class _Words(dict[str, tuple[int, ...]]):
    """Remembers what a function says of a word."""

    def __init__(self, function: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, word: str) -> tuple[int, ...]:
        codes = self[word] = self._function(word)
        return codes


def shared_ngrams(responses: Coded, references: Coded, order: int) -> Integers:
    """Counts what each response shares with its reference, every n-gram at most as often as both have it.

    Args:
        responses: `B` texts.
        references: `B` texts.
        order: Longest n-gram.

    Returns:
        `(B, order)`, for n from 1.
    """
    ours, theirs, symbols = _renumbered(responses, references)
    parts = [
        _shared(ours.part(start, stop), theirs.part(start, stop), symbols, order)
        for start, stop in _chunks(references.lengths.tolist(), _TABLE // symbols)
    ]
    return np.concatenate(parts)


def ngram_totals(texts: Coded, order: int) -> Integers:
    """Returns how many n-grams each text has, `(B, order)`."""
    totals: Integers = np.maximum(texts.lengths[:, None] - np.arange(order), 0)
    return totals


def common_subsequence(response: Sequence[int], reference: Sequence[int]) -> int:
    """Returns the length of the longest common subsequence, with the rows of its table as bits of integers.

    Crochemore et al. 2001, "A fast and practical bit-vector algorithm for the longest common subsequence problem".
    """
    places: dict[int, int] = {}
    for place, token in enumerate(reference):
        places[token] = places.get(token, 0) | (1 << place)
    full = (1 << len(reference)) - 1
    row = full
    for token in response:
        match = row & places.get(token, 0)
        row = ((row + match) | (row - match)) & full
    return len(reference) - row.bit_count()


def _shared(responses: Coded, references: Coded, symbols: int, order: int) -> Integers:
    """Walks both sides through the references' trie, one symbol a level; `(B, order)`."""
    ours = _closed(responses, _UNKNOWN, order)
    theirs = _closed(references, _END, order)
    n_rows, size = len(references.lengths), len(theirs) - order
    firsts = np.cumsum(references.lengths + 1) - references.lengths - 1
    table = np.full(size * symbols, -1)
    there, here = np.arange(size), np.arange(len(ours) - order)
    their_state = np.repeat(np.arange(n_rows), references.lengths + 1)
    state = np.repeat(np.arange(n_rows), responses.lengths + 1)
    result = np.zeros((n_rows, order), dtype=np.int64)
    for level in range(order):
        base = level * size  # tells this level's entries from older ones
        key = their_state * symbols + theirs[level : level + size]
        table[key] = there + base
        their_state = table[key] - base
        state = table[state * symbols + ours[here + level]] - base
        found = np.flatnonzero(state >= 0)
        if not len(found):
            break
        here, state = here[found], state[found]
        counts = np.minimum(
            np.bincount(state, minlength=size), np.bincount(their_state, minlength=size)
        )
        result[:, level] = np.add.reduceat(counts, firsts)
    return result


def _renumbered(responses: Coded, references: Coded) -> tuple[Coded, Coded, int]:
    """Returns both sides with the references' symbols numbered from `_FIRST`, and the number behind the last."""
    largest = int(references.codes.max(initial=0))
    numbers = np.full(largest + 2, _UNKNOWN)
    numbers[references.codes] = _FIRST
    alphabet = np.flatnonzero(numbers == _FIRST)
    numbers[alphabet] = np.arange(_FIRST, _FIRST + len(alphabet))
    ours = numbers[np.minimum(responses.codes, largest + 1)]
    return (
        responses._replace(codes=ours),
        references._replace(codes=numbers[references.codes]),
        _FIRST + len(alphabet),
    )


def _closed(texts: Coded, end: int, order: int) -> Integers:
    """Puts `end` behind each text, and `order` times behind the last."""
    closed = np.full(len(texts.codes) + len(texts.lengths) + order, end)
    text = np.repeat(np.arange(len(texts.lengths)), texts.lengths)
    closed[np.arange(len(text)) + text] = texts.codes
    return closed


def _chunks(sizes: Sequence[int], largest: int) -> Iterator[tuple[int, int]]:
    """Yields the first row of each chunk and the one behind its last; a longer row stands alone."""
    start = total = 0
    for row, size in enumerate(sizes):
        if row > start and total + size > max(largest, _SMALLEST_CHUNK):
            yield start, row
            start, total = row, 0
        total += size
    yield start, len(sizes)
