"""The longest common subsequence of token numbers, with the rows of its table as bits of integers.

Crochemore et al. 2001, "A fast and practical bit-vector algorithm for the longest common subsequence problem".
"""

from __future__ import annotations

from collections.abc import Sequence

_BLOCK = 1024  # tokens whose places are bits of one integer: as many integers of as many bits


def common_subsequence(response: Sequence[int], reference: Sequence[int]) -> int:
    """Returns the length of the longest common subsequence."""
    size = len(reference)
    if size > _BLOCK:
        carries = [0] * len(response)
        blocks = (reference[start : start + _BLOCK] for start in range(0, size, _BLOCK))
        return sum(_added(response, block, carries) for block in blocks)
    places = _places(reference)
    row = full = (1 << size) - 1
    for number in response:
        if number in places:
            match = row & places[number]
            row = (row + match) | (row - match)  # what grows beyond `full` changes nothing below
    return size - (row & full).bit_count()


def _added(response: Sequence[int], reference: Sequence[int], carries: list[int]) -> int:
    """Returns what a block of a reference adds; `carries` are the bits carried into it, then out of it."""
    places, size = _places(reference), len(reference)
    row = full = (1 << size) - 1
    for step, number in enumerate(response):
        match = row & places.get(number, 0)
        total = row + match + carries[step]
        row = (total | (row - match)) & full
        carries[step] = total >> size
    return size - row.bit_count()


def _places(numbers: Sequence[int]) -> dict[int, int]:
    """Returns the places of each number, as bits."""
    places: dict[int, int] = {}
    bit = 1
    for number in numbers:
        places[number] = places.get(number, 0) | bit
        bit += bit
    return places
