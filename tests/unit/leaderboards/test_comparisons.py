"""Corrected p-values, groups of ties and intervals of ranks, by known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lmrl_bench.leaderboards.comparisons import holm, rank_intervals, tie_groups, welch_p_value
from lmrl_bench.leaderboards.statistics import difference_interval

LEVEL = {"a": 1.0, "b": 0.8, "c": 0.6, "d": 0.1}


def beats(first, second):
    return LEVEL[first] - LEVEL[second] > 0.3


def test_holm_by_hand():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_does_not_depend_on_the_order(p_values, random):
    pairs = list(zip(p_values, holm(p_values), strict=True))
    random.shuffle(pairs)
    assert holm([p for p, _ in pairs]) == [adjusted for _, adjusted in pairs]
    assert all(adjusted >= p for p, adjusted in pairs)


def test_holm_keeps_the_rate_of_false_alarms():
    rng = np.random.default_rng(3)
    alarms = [
        min(holm([welch_p_value(*rng.normal(size=(2, 5))) for _ in range(6)])) < 0.05
        for _ in range(200)
    ]
    assert np.mean(alarms) < 0.1


def test_welch():
    first, second = [0.1, 0.4, 0.3], [0.6, 0.5, 0.9, 0.7]
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    p = welch_p_value(first, second)
    assert p == pytest.approx(expected)
    assert (p < 0.05) == (not difference_interval(first, second).contains(0.0))
    assert welch_p_value([0.0, 0.0], [0.0, 0.0]) == 1.0
    assert welch_p_value([0.0, 0.0], [0.5, 0.5]) == 0.0
    with pytest.raises(ValueError, match="at least two values"):
        welch_p_value([1.0], first)


def test_the_anchor_does_not_move():
    # a ~ b and b ~ c, but a beats c: a chain would put all three together
    assert tie_groups("abcd", beats) == [["a", "b"], ["c"], ["d"]]
    assert tie_groups([], beats) == []


def test_rank_intervals():
    assert rank_intervals("dcba", beats) == {"a": (1, 2), "b": (1, 3), "c": (2, 3), "d": (4, 4)}
