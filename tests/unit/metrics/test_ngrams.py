"""Counting against `collections.Counter` and the table of the textbook, on random texts."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.metrics import ngrams
from lmrl_bench.metrics.ngrams import Tokens, common_subsequence, shared_characters, shared_tokens

EXAMPLES = settings(max_examples=80, deadline=None, derandomize=True)
letters = st.text(st.sampled_from("aab\0é日😀\ud800 "), max_size=30)
sentences = st.lists(st.sampled_from(["a", "b", "ab", "c", "日"]), max_size=20).map(" ".join)


def counted(response, reference, order):
    def grams(symbols, n):
        return Counter(tuple(symbols[i : i + n]) for i in range(len(symbols) - n + 1))

    return [(grams(response, n) & grams(reference, n)).total() for n in range(1, order + 1)]


def subsequence(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            longer = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if one == other else longer
    return table[-1, -1]


@pytest.mark.parametrize("table", [2**19, 64])
@EXAMPLES
@given(rows=st.lists(st.tuples(letters, letters), min_size=1, max_size=6))
def test_characters(table, rows):
    with pytest.MonkeyPatch.context() as patch:  # with a small table every row is a chunk
        patch.setattr(ngrams, "_TABLE", table)
        patch.setattr(ngrams, "_SMALLEST_CHUNK", 2 if table == 64 else 512)
        found = shared_characters(*map(list, zip(*rows, strict=True)), 6)
    assert found.tolist() == [counted(*row, 6) for row in rows]


@pytest.mark.parametrize(("table", "block"), [(2**23, 1024), (60, 3)])
@EXAMPLES
@given(rows=st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6))
def test_tokens_and_subsequences(table, block, rows):
    tokens = Tokens(lambda word: list(word))  # several tokens to a word
    split = [("".join(a.split()), "".join(b.split())) for a, b in rows]
    with pytest.MonkeyPatch.context() as patch:  # what is done for long texts, on short ones
        patch.setattr(ngrams, "_LARGEST_TABLE", table)
        patch.setattr(ngrams, "_BLOCK", block)
        ours = [tokens(response) for response, _ in rows]
        theirs = [tokens.reference(reference) for _, reference in rows]
        assert shared_tokens(ours, theirs, 4).tolist() == [counted(*row, 4) for row in split]
        found = [common_subsequence(*row) for row in zip(ours, theirs, strict=True)]
    assert found == [subsequence(*row) for row in split]


def test_a_long_text_takes_memory_in_proportion_to_its_length():
    text = " ".join(map(str, range(40_000)))
    tokens = Tokens(lambda word: [word])
    tracemalloc.start()
    reference, response = tokens.reference(text), tokens("5 7 39999")
    assert common_subsequence(response, reference) == 3
    assert shared_tokens([response], [reference], 2).tolist() == [[3, 0]]
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 40e6  # the bits of all places are 100 MB, a table of all states and tokens 12 GB


def test_the_memory_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr(ngrams, "_WORDS", 3)
    tokens = Tokens(lambda word: [word])
    assert tokens("a b c d e a") == ["a", "b", "c", "d", "e", "a"]
    assert len(tokens._words) <= 3
