"""Corrected p-values, groups of ties and intervals of ranks, by known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lmrl_bench.stats.comparisons import holm, rank_intervals, tie_groups, welch_p_values
from lmrl_bench.stats.intervals import difference_interval

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
    alarms = [min(holm(welch_p_values(*rng.normal(size=(2, 6, 5))))) < 0.05 for _ in range(200)]
    assert np.mean(alarms) < 0.1


def test_welch_is_scipys():
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(20, 3)), rng.normal(0.5, 3.0, size=(20, 4))
    expected = stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue
    found = welch_p_values(first, second)
    assert found == pytest.approx(expected)
    assert [p < 0.05 for p in found] == [
        not difference_interval(a, b).contains(0.0) for a, b in zip(first, second, strict=True)
    ]


def test_welch_without_spread():
    first = np.array([[0.0, 0.0], [0.0, 0.0], [0.1, 0.4]])
    second = np.array([[0.0, 0.0], [0.5, 0.5], [0.2, 0.2]])
    assert welch_p_values(first, second)[:2].tolist() == [1.0, 0.0]
    assert 0 < welch_p_values(first, second)[2] < 1
    with pytest.raises(ValueError, match="at least two values"):
        welch_p_values(first[:, :1], second)


def test_the_anchor_does_not_move():
    # a ~ b and b ~ c, but a beats c: a chain would put all three together
    assert tie_groups("abcd", beats) == [["a", "b"], ["c"], ["d"]]
    assert tie_groups([], beats) == []


def test_rank_intervals():
    assert rank_intervals("dcba", beats) == {"a": (1, 2), "b": (1, 3), "c": (2, 3), "d": (4, 4)}
