"""Counting against `collections.Counter` and the table of the textbook, on random texts."""

import gc
import sys
import threading
import tracemalloc
import weakref
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.speedups import lines, ngrams
from lmrl_bench.speedups import subsequence as bits
from lmrl_bench.speedups.lines import Characters, Tokens
from lmrl_bench.speedups.ngrams import shared_ngrams
from lmrl_bench.speedups.subsequence import common_subsequence

EXAMPLES = settings(max_examples=80, deadline=None, derandomize=True)
letters = st.text(st.sampled_from("aab\0é日😀\ud800 "), max_size=30)
sentences = st.lists(st.sampled_from(["a", "b", "ab", "c", "日"]), max_size=20).map(" ".join)


def counted(completion, reference, order):
    def grams(symbols, n):
        return Counter(tuple(symbols[i : i + n]) for i in range(len(symbols) - n + 1))

    return [(grams(completion, n) & grams(reference, n)).total() for n in range(1, order + 1)]


def subsequence(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            longer = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if one == other else longer
    return table[-1, -1]


def subsequences(pairs):
    texts = zip(pairs.completions.texts(), pairs.references.texts(), strict=True)
    return [common_subsequence(*pair) for pair in texts]


@pytest.mark.parametrize("table", [2**19, 64])
@EXAMPLES
@given(rows=st.lists(st.tuples(letters, letters), min_size=1, max_size=6))
def test_characters(table, rows):
    with pytest.MonkeyPatch.context() as patch:  # with a small table every row is a chunk
        patch.setattr(ngrams, "_TABLE", table)
        patch.setattr(ngrams, "_SMALLEST_CHUNK", 2 if table == 64 else 512)
        pairs = Characters().pairs(*map(list, zip(*rows, strict=True)))
        found = shared_ngrams(pairs, 6)
    stripped = [["".join(text.split()) for text in row] for row in rows]
    assert found.tolist() == [counted(*row, 6) for row in stripped]
    assert pairs.completions.lengths.tolist() == [len(completion) for completion, _ in stripped]
    assert pairs.references.lengths.tolist() == [len(reference) for _, reference in stripped]


@pytest.mark.parametrize("symbols", [2, 3000])
def test_few_symbols_and_many(symbols, monkeypatch):
    """With many symbols, first states are in the table as well; none is counted without the table."""
    monkeypatch.delattr(ngrams, "_counted")
    rng = np.random.default_rng(0)
    sides = rng.integers(0x4E00, 0x4E00 + symbols, size=(2, 64, 20)).tolist()
    completions, references = (["".join(map(chr, text)) for text in side] for side in sides)
    found = shared_ngrams(Characters().pairs(completions, references), 6)
    expected = [counted(*pair, 6) for pair in zip(completions, references, strict=True)]
    assert found.tolist() == expected


@pytest.mark.parametrize(("table", "cells", "block"), [(2**23, 2**20, 1024), (60, 1, 3)])
@EXAMPLES
@given(rows=st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6))
def test_tokens_and_subsequences(table, cells, block, rows):
    tokens = Tokens(lambda word: list(word))  # several tokens to a word
    split = [("".join(a.split()), "".join(b.split())) for a, b in rows]
    with pytest.MonkeyPatch.context() as patch:  # what is done for long texts, on short ones
        patch.setattr(ngrams, "_LARGEST_TABLE", table)
        patch.setattr(lines, "_CELLS", cells)
        patch.setattr(bits, "_BLOCK", block)
        pairs = tokens.pairs(*map(list, zip(*rows, strict=True)))
        assert shared_ngrams(pairs, 4).tolist() == [counted(*row, 4) for row in split]
        assert subsequences(pairs) == [subsequence(*row) for row in split]
    assert pairs.completions.lengths.tolist() == [len(completion) for completion, _ in split]


def test_a_long_text_takes_memory_in_proportion_to_its_length():
    text = " ".join(map(str, range(40_000)))
    tokens = Tokens(lambda word: [word])
    tracemalloc.start()
    pairs = tokens.pairs(["5 7 39999"], [text])
    assert subsequences(pairs) == [3]
    assert shared_ngrams(pairs, 2).tolist() == [[3, 0]]
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 40e6  # the bits of all places are 100 MB, a table of all states and tokens 12 GB


def test_the_table_of_references_and_tokens_is_bounded(monkeypatch):
    monkeypatch.setattr(lines, "_SCRATCH", lines._Scratch())
    references = [" ".join(map(str, range(row, row + 400))) for row in range(300)]
    pairs = Tokens(lambda word: [word]).pairs(references, references)
    assert (shared_ngrams(pairs, 2) == [400, 399]).all()
    assert len(lines._SCRATCH.numbers) <= lines._CELLS + lines._LONGEST  # of all at once 36,000,000


def test_the_memory_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr(lines, "_MEMORY", 3 * (lines._EACH + 1))
    tokens = Tokens(lambda word: [word])
    for text in ("a b c d e a", "f a e", "g a"):  # a new memory numbers words again
        pairs = tokens.pairs([text], ["a b c d e"])
        assert shared_ngrams(pairs, 1).tolist() == [counted(text.split(), "abcde", 1)]
    assert len(tokens._memory.numbers) <= 6  # of the last call: what was remembered before is gone
    assert len(tokens._memory.words) <= 4
    tokens.pairs(["x" * (lines._LONGEST_WORD + 1)], ["a"])
    assert max(map(len, tokens._memory.words)) == 1


def test_a_full_memory_goes_at_once(monkeypatch):
    monkeypatch.setattr(lines, "_MEMORY", 0)
    tokens = Tokens(lambda word: [word])
    tokens.pairs(["a"], ["a"])
    before = weakref.ref(tokens._memory)
    gc.disable()
    try:
        tokens.prepare(["b"])
        assert before() is None
    finally:
        gc.enable()


def test_tokens_of_any_length_fill_the_memory(monkeypatch):
    monkeypatch.setattr(lines, "_MEMORY", 10_000)
    tokens = Tokens(lambda word: [word])
    for letter in "abcdef":
        tokens.pairs([4000 * letter], ["a"])
    assert sum(map(len, tokens._memory.numbers)) < 20_000


def test_threads_that_meet_new_words_count_alike():
    """Every thread meets the same new words, in another order; a number may not stand for two of them."""
    tokens, n_threads = Tokens(lambda word: [word]), 4
    texts = [" ".join(f"{place}-{row}" for place in range(50)) for row in range(200)]
    together, found = threading.Barrier(n_threads), []

    def count(shift):
        together.wait()
        for text in texts[shift:] + texts[:shift]:
            found.append(shared_ngrams(tokens.pairs([text], [text]), 2).tolist())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count, args=[n]) for n in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == [[[50, 49]]] * (n_threads * len(texts))
    numbers = tokens._memory.numbers
    assert len(numbers) == len(set(numbers.values())) == 50 * len(texts)


def test_an_interrupted_count_leaves_the_next_one_right(monkeypatch):
    tokens = Tokens(lambda word: [word])
    expected = shared_ngrams(tokens.pairs(["a b c"], ["a x y"]), 1).tolist()
    with monkeypatch.context() as patch:
        patch.setattr(lines.np, "cumsum", interrupt)
        with pytest.raises(KeyboardInterrupt):
            tokens.pairs(["a b"], ["b c"])
    assert shared_ngrams(tokens.pairs(["a b c"], ["a x y"]), 1).tolist() == expected == [[1]]


def interrupt(*_):
    raise KeyboardInterrupt
