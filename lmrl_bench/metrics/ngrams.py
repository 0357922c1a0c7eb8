"""What a response shares with its reference, for many pairs at once: n-grams and subsequences, counted exactly.

The n-grams of the references are a trie in one table: `table[state, symbol]` is the next state. A state is named by
the place of an n-gram that leads to it, so nothing is hashed or sorted, and no n-gram is made as a string.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_TABLE = 2**19  # entries of the table: 4 MiB
_SMALLEST_CHUNK = 512  # symbols; below, the calls cost more than a large table
_WORDS, _REFERENCES = 2**16, 2**14  # how many are remembered
_LONGEST = 1024  # characters of a reference that is remembered: the memory grows with the square of its length
_LARGEST_TABLE = (
    2**23
)  # entries, 64 MiB; of a longer text the table would grow with the square of its length
_BLOCK = 1024  # tokens whose places are bits of one integer: as many integers of as many bits
_END = 0  # closes a reference; no response has it
_UNKNOWN = 1  # is in no reference
_FIRST = 2


class Reference(NamedTuple):
    """The tokens of a reference, prepared.

    Attributes:
        numbers: token to its number in this reference.
        ids: the tokens' numbers.
        places: of each block of `_BLOCK` tokens, number to the bits of the places where it stands; none of more than
            one block, which are made when they are needed, one after the other.
    """

    numbers: dict[str, int]
    ids: list[int]
    places: Sequence[dict[int, int]]


class Tokens:
    """Texts as tokens, word by word, with a bounded memory of words and of prepared references.

    Args:
        tokenize: Splits a word (a stretch without white space) into tokens.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        self._words = _Words(tokenize)
        self._remembered = lru_cache(maxsize=_REFERENCES)(self._reference)

    def __call__(self, text: str) -> list[str]:
        """Returns the tokens of a text."""
        return list(chain.from_iterable(map(self._words.__getitem__, text.split())))

    def reference(self, text: str) -> Reference:
        """Returns a reference, prepared; short ones are remembered."""
        return (self._remembered if len(text) <= _LONGEST else self._reference)(text)

    def _reference(self, text: str) -> Reference:
        tokens = self(text)
        numbers = dict(zip(dict.fromkeys(tokens), count(_FIRST)))
        ids = [numbers[token] for token in tokens]
        return Reference(numbers, ids, [_places(ids)] if len(ids) <= _BLOCK else [])


class _Words(dict[str, Sequence[str]]):
    """Word to its tokens."""

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        super().__init__()
        self._tokenize = tokenize

    def __missing__(self, word: str) -> Sequence[str]:
        if len(self) >= _WORDS:
            self.clear()
        tokens = self[word] = self._tokenize(word)
        return tokens


def shared_tokens(
    responses: Sequence[Sequence[str]], references: Sequence[Reference], order: int
) -> Integers:
    """Counts what each response shares with its reference, every n-gram at most as often as both have it.

    Args:
        responses: `B` texts as tokens.
        references: `B` prepared references.
        order: Longest n-gram.

    Returns:
        `(B, order)`, for n from 1.
    """
    ours: list[int] = []
    theirs: list[int] = []
    for tokens, reference in zip(responses, references, strict=True):
        number = reference.numbers.get
        ours += [number(token, _UNKNOWN) for token in tokens]
        theirs += reference.ids
    # Numbers are a reference's own: a state belongs to one row, so they need not differ between rows.
    symbols = _FIRST + max(len(reference.numbers) for reference in references)
    sides = (
        _Line(np.array(ours, dtype=np.int64), lengths(responses)),
        _Line(np.array(theirs, dtype=np.int64), lengths([row.ids for row in references])),
    )
    return _shared(*sides, symbols, order)


def shared_characters(responses: Sequence[str], references: Sequence[str], order: int) -> Integers:
    """As `shared_tokens`, of characters."""
    ours, theirs = _code_points(responses), _code_points(references)
    largest = int(theirs.max(initial=0))
    numbers = np.full(largest + 2, _UNKNOWN)
    numbers[theirs] = _FIRST
    alphabet = np.flatnonzero(numbers == _FIRST)
    numbers[alphabet] = np.arange(_FIRST, _FIRST + len(alphabet))
    sides = (
        _Line(numbers[np.minimum(ours, largest + 1)], lengths(responses)),
        _Line(numbers[theirs], lengths(references)),
    )
    return _shared(*sides, _FIRST + len(alphabet), order)


def common_subsequence(response: Sequence[str], reference: Reference) -> int:
    """Returns the length of the longest common subsequence, with the rows of its table as bits of integers.

    Crochemore et al. 2001, "A fast and practical bit-vector algorithm for the longest common subsequence problem".
    """
    numbers, ids = reference.numbers, reference.ids
    shared = [numbers[token] for token in response if token in numbers]
    if reference.places:
        return _added(shared, reference.places[0], len(ids))
    carries = [0] * len(shared)
    starts = range(0, len(ids), _BLOCK)
    parts = (ids[start : start + _BLOCK] for start in starts)
    return sum(_added_by_block(shared, _places(part), len(part), carries) for part in parts)


def _places(ids: Sequence[int]) -> dict[int, int]:
    places: dict[int, int] = {}
    for place, number in enumerate(ids):
        places[number] = places.get(number, 0) | (1 << place)
    return places


def _added(response: Sequence[int], places: dict[int, int], size: int) -> int:
    """As `_added_by_block`, of the only block."""
    full = (1 << size) - 1
    row = full
    for number in response:
        match = row & places[number]
        row = ((row + match) | (row - match)) & full
    return size - row.bit_count()


def _added_by_block(
    response: Sequence[int], places: dict[int, int], size: int, carries: list[int]
) -> int:
    """Returns what a block of a reference adds; `carries` are the bits carried into it, then out of it."""
    full = (1 << size) - 1
    row = full
    for step, number in enumerate(response):
        match = row & places.get(number, 0)
        total = row + match + carries[step]
        row = (total | (row - match)) & full
        carries[step] = total >> size
    return size - row.bit_count()


def lengths(texts: Sequence[Sequence[object]]) -> Integers:
    """Returns how many symbols each text has, `(B,)`."""
    return np.array([len(text) for text in texts], dtype=np.int64)


def ngram_totals(n_symbols: Integers, order: int) -> Integers:
    """Returns how many n-grams texts of so many symbols `(B,)` have, `(B, order)`."""
    totals: Integers = np.maximum(n_symbols[:, None] - np.arange(order), 0)
    return totals


class _Line(NamedTuple):
    """Texts in a line: the numbers of all their symbols `(N,)`, and how many each has `(B,)`."""

    numbers: Integers
    lengths: Integers

    def part(self, start: int, stop: int) -> _Line:
        """Returns the texts `start` to `stop`."""
        first = int(self.lengths[:start].sum())
        part = self.lengths[start:stop]
        return _Line(self.numbers[first : first + int(part.sum())], part)

    def texts(self) -> list[list[int]]:
        """Returns the numbers of each text."""
        return [part.tolist() for part in np.split(self.numbers, np.cumsum(self.lengths)[:-1])]

    def closed(self, end: int, order: int) -> Integers:
        """Returns the numbers with `end` behind each text, and `order` times more behind the last."""
        closed = np.full(len(self.numbers) + len(self.lengths) + order, end)
        text = np.repeat(np.arange(len(self.lengths)), self.lengths)
        closed[np.arange(len(text)) + text] = self.numbers
        return closed


def _shared(responses: _Line, references: _Line, symbols: int, order: int) -> Integers:
    parts = [
        _walk(responses.part(start, stop), references.part(start, stop), symbols, order)
        for start, stop in _chunks(references.lengths.tolist(), _TABLE // symbols)
    ]
    return np.concatenate(parts)


def _chunks(sizes: Sequence[int], largest: int) -> Iterator[tuple[int, int]]:
    """Yields the first row of each chunk and the one behind its last; a longer row stands alone."""
    start = total = 0
    for row, size in enumerate(sizes):
        if row > start and total + size > max(largest, _SMALLEST_CHUNK):
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


def _walk(responses: _Line, references: _Line, symbols: int, order: int) -> Integers:
    """Walks both sides through the references' trie, one symbol a level; `(B, order)`."""
    ours, theirs = responses.closed(_UNKNOWN, order), references.closed(_END, order)
    n_rows, size = len(references.lengths), len(theirs) - order
    if size * symbols > _LARGEST_TABLE:
        pairs = zip(responses.texts(), references.texts(), strict=True)
        return np.array([_counted(*pair, order) for pair in pairs])
    firsts = np.cumsum(references.lengths + 1) - references.lengths - 1
    table = _TRIE.table(size * symbols)
    there, here = np.arange(size), np.arange(len(ours) - order)
    their_state = np.repeat(np.arange(n_rows), references.lengths + 1)
    state = np.repeat(np.arange(n_rows), responses.lengths + 1)
    result = np.zeros((n_rows, order), dtype=np.int64)
    for level in range(order):
        base = _TRIE.base(size)
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


def _counted(response: list[int], reference: list[int], order: int) -> list[int]:
    """As `_walk`, of one pair and without a table."""

    def ngrams(text: list[int], n: int) -> Counter[tuple[int, ...]]:
        return Counter(zip(*(text[start:] for start in range(n)), strict=False))

    return [(ngrams(response, n) & ngrams(reference, n)).total() for n in range(1, order + 1)]


def _code_points(texts: Sequence[str]) -> Integers:
    encoded = "".join(texts).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(encoded, dtype="<u4").astype(np.int64)
