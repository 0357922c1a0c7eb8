"""Encodes texts as integer sequences, for many pairs of completion and reference at once."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from math import isqrt
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
_Made = TypeVar("_Made")

# Cache sizes, in characters, separately for tokens, words and references; each entry adds _EACH.
_MEMORY = 2**23
_EACH = 100  # overhead of an entry: objects and hash table
_LONGEST_WORD, _LONGEST = 64, 1024  # longer words and references are not cached
_CELLS = 2**20  # entries of the table reference × token, 8 MiB; exceeded only by long texts

END = 0  # ends a text; in a completion it becomes UNKNOWN
UNKNOWN = 1  # occurs in no reference
FIRST = 2
_CLOSE = np.int64(END).tobytes()
_BREAK = ord("\n")


class Line(NamedTuple):
    """A batch of texts as one flat sequence.

    Attributes:
        numbers: Symbol numbers, with one end marker after each text, `(N + B,)`.
        lengths: Symbols per text, `(B,)`.
    """

    numbers: Integers
    lengths: Integers

    def rows(self) -> Integers:
        """Returns the index of the text that each number belongs to, `(N + B,)`."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths + 1)

    def part(self, start: int, stop: int) -> Line:
        """Returns the texts from `start` up to `stop`."""
        first = int(self.lengths[:start].sum()) + start
        part = self.lengths[start:stop]
        return Line(self.numbers[first : first + int(part.sum()) + len(part)], part)

    def texts(self) -> list[list[int]]:
        """Returns the numbers of each text."""
        numbers, ends = self.numbers.tolist(), np.cumsum(self.lengths + 1).tolist()
        return [numbers[start : end - 1] for start, end in zip([0, *ends], ends, strict=False)]


class Pairs(NamedTuple):
    """`B` completions and their references as integer sequences.

    Numbers identify symbols within a pair only; another pair may use the same number differently.

    Attributes:
        completions: `UNKNOWN` marks symbols that the reference lacks, and the end of each text.
        references: `END` marks the end of each text.
        symbols: Upper bound (exclusive) of all numbers.
    """

    completions: Line
    references: Line
    symbols: int

    @property
    def sides(self) -> tuple[Line, Line]:
        """Completions and references."""
        return self.completions, self.references

    def part(self, start: int, stop: int) -> Pairs:
        """Returns the pairs from `start` up to `stop`."""
        if start == 0 and stop >= len(self.references.lengths):
            return self
        completions, references = (side.part(start, stop) for side in self.sides)
        return Pairs(completions, references, self.symbols)


class _Reference(NamedTuple):
    """A reference as int64 bytes: its distinct tokens, and the sequence as indices into them."""

    tokens: bytes
    numbers: bytes


class Tokens:
    """Tokenizes texts word by word, with bounded caches of words and references.

    Args:
        tokenize: Splits a word (a run without white space) into tokens.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        self._tokenize = tokenize
        self._memory = _Memory(tokenize)

    def prepare(self, references: Iterable[str]) -> None:
        """Encodes references ahead of time; short ones are cached."""
        memory = self._begin()
        for reference in references:
            memory.references[reference]  # encodes it

    def _begin(self) -> _Memory:
        """Returns the cache, replacing it when full; threads holding the old one keep using it."""
        if self._memory.numbers.size > _MEMORY:
            self._memory = _Memory(self._tokenize)
        return self._memory

    def pairs(self, completions: Sequence[str], references: Sequence[str]) -> Pairs:
        """Encodes `B` completions and their `B` references; numbers are local to each pair."""
        memory = self._begin()
        words = memory.words.__getitem__
        ours = _line([b"".join(map(words, text.split())) for text in completions])
        theirs = list(map(memory.references.__getitem__, references))
        tokens = [reference.tokens for reference in theirs]
        n_tokens = sizes(tokens) // len(_CLOSE)
        symbols = FIRST + int(n_tokens.max())
        rows = max(isqrt(_CELLS // symbols), 1)
        numbers = [
            _numbered(ours.part(at, at + rows), tokens[at : at + rows], n_tokens[at : at + rows])
            for at in range(0, len(theirs), rows)
        ]
        line = Line(np.concatenate(numbers), ours.lengths)
        return Pairs(line, _line([reference.numbers for reference in theirs]), symbols)


class _Memory:
    """Token numbers and everything encoded with them.

    Holds no reference cycle, so that a replaced cache is freed at once, without the cyclic garbage
    collector.

    Attributes:
        numbers: Token to number.
        words: Word to the numbers of its tokens, as bytes.
        references: Reference to its encoding.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        numbers = self.numbers = _Numbers()
        words = self.words = _Remembered(
            lambda word: _bytes(map(numbers.__getitem__, tokenize(word))), _LONGEST_WORD
        )
        self.references = _Remembered(lambda text: _prepared(words, text), _LONGEST)


class _Numbers(dict[str, int]):
    """Numbers tokens in order of appearance.

    Attributes:
        size: Memory used, in the units of `_MEMORY`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next = count(END + 1)
        self.size = 0

    def __missing__(self, token: str) -> int:
        self.size += len(token) + _EACH
        # Threads may add the same token at once: setdefault keeps the first number for all of them.
        return self.setdefault(token, next(self._next))


class _Remembered(dict[str, _Made]):
    """Caches what is computed from a text; skips long texts, and starts over when full.

    Args:
        make: Computes the value.
        longest: Longest text that is cached, in characters.
    """

    def __init__(self, make: Callable[[str], _Made], longest: int) -> None:
        super().__init__()
        self._make, self._longest, self._size = make, longest, 0

    def __missing__(self, text: str) -> _Made:
        made = self._make(text)
        if len(text) <= self._longest:
            if self._size > _MEMORY:
                self.clear()
                self._size = 0
            self._size += len(text) + _EACH
            self[text] = made
        return made


def _prepared(words: Mapping[str, bytes], text: str) -> _Reference:
    content = b"".join(map(words.__getitem__, text.split()))
    tokens = np.frombuffer(content, dtype=np.int64).tolist()
    numbers = dict(zip(dict.fromkeys(tokens), count(FIRST)))
    return _Reference(_bytes(numbers), _bytes(map(numbers.__getitem__, tokens)))


def _bytes(numbers: Iterable[int]) -> bytes:
    return array("q", numbers).tobytes()


def _line(texts: Sequence[bytes]) -> Line:
    numbers = np.frombuffer(_CLOSE.join([*texts, b""]), dtype=np.int64)
    return Line(numbers, sizes(texts) // len(_CLOSE))


class _Scratch(threading.local):
    """Two lookup tables that are reused between calls; each call resets the entries it wrote."""

    def __init__(self) -> None:
        self.places = np.zeros(0, dtype=np.int64)
        self.numbers = np.zeros(0, dtype=np.int64)

    def grow(self, places: int, numbers: int) -> None:
        """Enlarges the tables to at least these sizes."""
        if len(self.places) < places:
            self.places = np.zeros(2 * places, dtype=np.int64)
        if len(self.numbers) < numbers:
            self.numbers = np.full(numbers, UNKNOWN)


_SCRATCH = _Scratch()


def _numbered(completions: Line, references: Sequence[bytes], each: Integers) -> Integers:
    """Renumbers the completions' tokens by their index in their reference.

    Concatenates the distinct tokens of all references (`each` counts them per reference). A first
    table maps a token to its position in that list, a second one maps (reference, position) to the
    number that the reference uses.
    """
    theirs = np.frombuffer(b"".join(references), dtype=np.int64)
    largest = max(int(completions.numbers.max()), int(theirs.max(initial=0)))
    width = len(theirs) + 1
    _SCRATCH.grow(largest + 1, width * len(references))
    place_of, number_of = _SCRATCH.places, _SCRATCH.numbers
    keys = np.zeros(0, dtype=np.int64)
    try:
        place_of[theirs] = np.arange(1, width)
        keys = place_of[theirs] + np.repeat(np.arange(len(each)) * width, each)
        first = np.cumsum(each) - each
        number_of[keys] = np.arange(FIRST, FIRST + len(theirs)) - np.repeat(first, each)
        numbers: Integers = number_of[place_of[completions.numbers] + completions.rows() * width]
        return numbers
    finally:
        # Resets only what was written: clearing the whole table would cost more than the lookup.
        place_of[theirs], number_of[keys] = 0, UNKNOWN


class Characters:
    """Encodes texts as characters without white space, with a bounded cache of references.

    Args:
        lowercase: Compare in lower case.
    """

    def __init__(self, lowercase: bool = False) -> None:
        self._lowercase = lowercase
        self._references = _Remembered(partial(_characters, lowercase), _LONGEST)

    def prepare(self, references: Iterable[str]) -> None:
        """Encodes references ahead of time; short ones are cached."""
        for reference in references:
            self._references[reference]  # encodes it

    def pairs(self, completions: Sequence[str], references: Sequence[str]) -> Pairs:
        """Encodes `B` completions and their `B` references; numbers are shared by all pairs."""
        ours = [_characters(self._lowercase, text) for text in completions]
        theirs = list(map(self._references.__getitem__, references))
        our_points, their_points = _code_points(ours), _code_points(theirs)
        unknown = int(their_points.max()) + 1
        numbers = np.full(unknown + 1, UNKNOWN)
        numbers[their_points] = FIRST
        numbers[_BREAK] = UNKNOWN
        alphabet = np.flatnonzero(numbers == FIRST)
        symbols = FIRST + len(alphabet)
        numbers[alphabet] = np.arange(FIRST, symbols)
        our_numbers = numbers.take(np.minimum(our_points, unknown))
        numbers[_BREAK] = END
        their_numbers = numbers.take(their_points)
        return Pairs(Line(our_numbers, sizes(ours)), Line(their_numbers, sizes(theirs)), symbols)


def _characters(lowercase: bool, text: str) -> str:
    text = text.lower() if lowercase else text
    return "".join(text.replace(" ", "").split())  # replace first: faster than split alone


def _code_points(texts: Sequence[str]) -> Integers:
    """Returns the code points of texts without white space, with `_BREAK` after each text."""
    encoded = chr(_BREAK).join([*texts, ""]).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(encoded, dtype="<u4").astype(np.int64)


def sizes(texts: Sequence[Sequence[object]]) -> Integers:
    """Returns the length of each text, `(B,)`."""
    return np.array(list(map(len, texts)), dtype=np.int64)
