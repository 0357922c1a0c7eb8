"""Length of the longest common subsequence, with the rows of the table as bits of integers.

Crochemore et al. 2001, "A fast and practical bit-vector algorithm for the longest common
subsequence problem".
"""

from __future__ import annotations

from collections.abc import Sequence

_BLOCK = 1024  # reference tokens per integer; longer ones would make each addition expensive


def common_subsequence(completion: Sequence[int], reference: Sequence[int]) -> int:
    """Returns the length of the longest common subsequence of two token sequences."""
    size = len(reference)
    if size > _BLOCK:
        carries = [0] * len(completion)
        blocks = (reference[start : start + _BLOCK] for start in range(0, size, _BLOCK))
        return sum(_added(completion, block, carries) for block in blocks)
    places = _places(reference)
    row = full = (1 << size) - 1
    for number in completion:
        if number in places:
            match = row & places[number]
            row = (row + match) | (row - match)  # carries above `full` do not affect lower bits
    return size - (row & full).bit_count()


def _added(completion: Sequence[int], reference: Sequence[int], carries: list[int]) -> int:
    """Returns a block's contribution; `carries` (a bit per step) link it to the next block."""
    places, size = _places(reference), len(reference)
    row = full = (1 << size) - 1
    for step, number in enumerate(completion):
        match = row & places.get(number, 0)
        total = row + match + carries[step]
        row = (total | (row - match)) & full
        carries[step] = total >> size
    return size - row.bit_count()


def _places(numbers: Sequence[int]) -> dict[int, int]:
    """Returns the positions of each number as a bit mask."""
    places: dict[int, int] = {}
    bit = 1
    for number in numbers:
        places[number] = places.get(number, 0) | bit
        bit += bit
    return places
