"""Texts as lines of numbers, for many pairs of response and reference at once."""

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

_MEMORY = (
    2**23
)  # characters that are remembered, of tokens, words and references each; every text counts 100 more
_EACH = 100
_LONGEST_WORD, _LONGEST = 64, 1024  # characters of a word and of a reference that are remembered
_CELLS = 2**20  # of the table of references and their tokens, 8 MiB; larger for long texts only

END = 0  # closes a text; in a response it is made UNKNOWN
UNKNOWN = 1  # is in no reference
FIRST = 2
_CLOSE = np.int64(END).tobytes()
_BREAK = ord("\n")


class Line(NamedTuple):
    """Texts in a line.

    Attributes:
        numbers: the numbers of their symbols, one more behind each text `(N + B,)`.
        lengths: how many symbols each text has `(B,)`.
    """

    numbers: Integers
    lengths: Integers

    def rows(self) -> Integers:
        """Returns the text that each number belongs to, `(N + B,)`."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths + 1)

    def part(self, start: int, stop: int) -> Line:
        """Returns the texts `start` to `stop`."""
        first = int(self.lengths[:start].sum()) + start
        part = self.lengths[start:stop]
        return Line(self.numbers[first : first + int(part.sum()) + len(part)], part)

    def texts(self) -> list[list[int]]:
        """Returns the numbers of each text."""
        numbers, ends = self.numbers.tolist(), np.cumsum(self.lengths + 1).tolist()
        return [numbers[start : end - 1] for start, end in zip([0, *ends], ends, strict=False)]


class Pairs(NamedTuple):
    """`B` responses and their references as lines of numbers.

    Within a pair a number is one symbol; in another pair it may be another one.

    Attributes:
        responses: with `UNKNOWN` for what the reference does not have, and behind each text.
        references: with `END` behind each text.
        symbols: larger than every number.
    """

    responses: Line
    references: Line
    symbols: int

    @property
    def sides(self) -> tuple[Line, Line]:
        """Returns responses and references."""
        return self.responses, self.references

    def part(self, start: int, stop: int) -> Pairs:
        """Returns the pairs `start` to `stop`."""
        if start == 0 and stop >= len(self.references.lengths):
            return self
        responses, references = (side.part(start, stop) for side in self.sides)
        return Pairs(responses, references, self.symbols)


class _Reference(NamedTuple):
    """A reference as the bytes of integers: the numbers of its different tokens, and which of them stands where."""

    tokens: bytes
    numbers: bytes


class Tokens:
    """Texts as tokens, word by word, with a bounded memory of words and of prepared references.

    Args:
        tokenize: Splits a word (a stretch without white space) into tokens.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        self._tokenize = tokenize
        self._memory = _Memory(tokenize)

    def prepare(self, references: Iterable[str]) -> None:
        """Prepares references; short ones are remembered."""
        memory = self._begin()
        for reference in references:
            memory.references[reference]  # makes it

    def _begin(self) -> _Memory:
        """Returns the memory, a new one if it is full; who has the old one goes on with it, threads too."""
        if self._memory.numbers.size > _MEMORY:
            self._memory = _Memory(self._tokenize)
        return self._memory

    def pairs(self, responses: Sequence[str], references: Sequence[str]) -> Pairs:
        """Returns `B` responses and their `B` references; a number is the same token in a pair, not in all of them."""
        memory = self._begin()
        words = memory.words.__getitem__
        ours = _line([b"".join(map(words, text.split())) for text in responses])
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
    """The numbers of tokens, and what was made with them.

    Nothing in it refers back to it, so that an old one goes at once and does not wait for the search for cycles.

    Attributes:
        numbers: token to number.
        words: word to the numbers of its tokens, as bytes.
        references: reference, prepared.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[str]]) -> None:
        numbers = self.numbers = _Numbers()
        words = self.words = _Remembered(
            lambda word: _bytes(map(numbers.__getitem__, tokenize(word))), _LONGEST_WORD
        )
        self.references = _Remembered(lambda text: _prepared(words, text), _LONGEST)


class _Numbers(dict[str, int]):
    """Tokens, numbered as they come.

    Attributes:
        size: its size, as `_MEMORY` counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next = count(END + 1)
        self.size = 0

    def __missing__(self, token: str) -> int:
        self.size += len(token) + _EACH
        # Threads may ask at once for one that is new: all get the first's number, and the others are left out.
        return self.setdefault(token, next(self._next))


class _Remembered(dict[str, _Made]):
    """What was made of texts; long ones are made each time, and the memory begins anew when it is full.

    Args:
        make: What makes it.
        longest: Characters of a text that is remembered.
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
    """Two tables, kept from call to call; what a call writes it takes back."""

    def __init__(self) -> None:
        self.places = np.zeros(0, dtype=np.int64)
        self.numbers = np.zeros(0, dtype=np.int64)

    def grow(self, places: int, numbers: int) -> None:
        """Makes the tables so large, at least."""
        if len(self.places) < places:
            self.places = np.zeros(2 * places, dtype=np.int64)
        if len(self.numbers) < numbers:
            self.numbers = np.full(numbers, UNKNOWN)


_SCRATCH = _Scratch()


def _numbered(responses: Line, references: Sequence[bytes], each: Integers) -> Integers:
    """Returns the responses' tokens by their numbers in their references.

    The references' different tokens, `each` of them, are all put in a row. First each token is given a place in it,
    then each pair of a reference and such a place the number that the reference has for the token.
    """
    theirs = np.frombuffer(b"".join(references), dtype=np.int64)
    largest = max(int(responses.numbers.max()), int(theirs.max(initial=0)))
    width = len(theirs) + 1
    _SCRATCH.grow(largest + 1, width * len(references))
    place_of, number_of = _SCRATCH.places, _SCRATCH.numbers
    keys = np.zeros(0, dtype=np.int64)
    try:
        place_of[theirs] = np.arange(1, width)
        keys = place_of[theirs] + np.repeat(np.arange(len(each)) * width, each)
        first = np.cumsum(each) - each
        number_of[keys] = np.arange(FIRST, FIRST + len(theirs)) - np.repeat(first, each)
        numbers: Integers = number_of[place_of[responses.numbers] + responses.rows() * width]
        return numbers
    finally:
        place_of[theirs], number_of[keys] = 0, UNKNOWN


class Characters:
    """Texts as characters without white space, with a bounded memory of prepared references.

    Args:
        lowercase: Compare in lower case.
    """

    def __init__(self, lowercase: bool = False) -> None:
        self._lowercase = lowercase
        self._references = _Remembered(partial(_characters, lowercase), _LONGEST)

    def prepare(self, references: Iterable[str]) -> None:
        """Prepares references; short ones are remembered."""
        for reference in references:
            self._references[reference]  # makes it

    def pairs(self, responses: Sequence[str], references: Sequence[str]) -> Pairs:
        """Returns `B` responses and their `B` references; of all pairs a number is the same character."""
        ours = [_characters(self._lowercase, text) for text in responses]
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
    return "".join(text.replace(" ", "").split())  # faster than split alone


def _code_points(texts: Sequence[str]) -> Integers:
    """Returns the code points of texts without white space, `_BREAK` behind each."""
    encoded = chr(_BREAK).join([*texts, ""]).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(encoded, dtype="<u4").astype(np.int64)


def sizes(texts: Sequence[Sequence[object]]) -> Integers:
    """Returns the length of each text, `(B,)`."""
    return np.array(list(map(len, texts)), dtype=np.int64)
