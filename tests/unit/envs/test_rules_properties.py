"""The rules of an episode for any ids, caps and minimum lengths (pitfalls B1, B2, B6)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl_bench.data.vocabulary import Vocabulary
from lmrl_bench.envs.rules import EpisodeRules

CASES = st.tuples(
    st.integers(1, 6),  # cap
    st.integers(0, 3),  # minimum length
    st.sampled_from([0, 1]),  # EOS, which may be the padding's id
    st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=4),
)


def made(case):
    cap, minimum, eos, rows = case
    rules = EpisodeRules(Vocabulary.contiguous(6, eos_id=eos), cap, minimum)
    return rules, np.array(rows)[:, :cap]


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_whole_and_token_by_token_agree(case):
    rules, ids = made(case)
    ends = rules.ends_of(ids)
    for row, tokens in enumerate(ids):
        for position in range(rules.max_tokens):
            terminated, truncated = rules.ends_after(tokens[[position]], np.array([position]))
            if terminated[0] or truncated[0]:
                break
        assert ends.lengths[row] == position + 1
        assert (ends.terminated[row], ends.truncated[row]) == (terminated[0], truncated[0])
        assert ends.early_eos[row] == (terminated[0] and position < rules.min_tokens)


@settings(max_examples=150, deadline=None)
@given(CASES, st.integers(0, 5))
def test_an_episode_ends_once_and_nothing_stands_behind_its_end(case, garbage):
    rules, ids = made(case)
    ends = rules.ends_of(ids)
    assert (ends.terminated ^ ends.truncated).all()
    assert ends.mask[:, 0].all(), "an empty completion still has its EOS"
    assert (np.diff(ends.mask.astype(int), axis=1) <= 0).all()
    assert not (ids[ends.mask] == rules.vocabulary.eos_id).sum() > ends.terminated.sum()
    again = rules.ends_of(np.where(ends.mask, ids, garbage))
    for name in ("mask", "terminated", "truncated", "early_eos"):
        assert np.array_equal(getattr(again, name), getattr(ends, name)), name


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(6, 9))
def test_what_may_be_drawn_is_everything_known_but_an_early_eos(case, width):
    rules, _ = made(case)
    positions = np.arange(rules.max_tokens)
    legal = rules.legal_tokens(positions, width)
    for position in positions:
        for token in range(width):
            early = token == rules.vocabulary.eos_id and position < rules.min_tokens
            assert legal[position, token] == (token < rules.vocabulary.width and not early)
