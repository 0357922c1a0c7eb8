"""Intervals against scipy's own implementations, and their coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lmrl_bench.stats.intervals import (
    Interval,
    difference_interval,
    mean_interval,
    overlap,
    prediction_interval,
)

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)


def test_known_answer():
    # t(2, 0.975) = 4.302653, sd = 1, n = 3
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(4.302652729749462 / math.sqrt(3), rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(VALUES.filter(lambda v: np.std(v) > 1e-6))
def test_mean_interval_is_scipys(values):
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx(
        (expected.low, expected.high), rel=1e-9, abs=1e-9
    )


@settings(deadline=None, max_examples=60)
@given(VALUES.filter(lambda v: np.std(v) > 1e-6), VALUES.filter(lambda v: np.std(v) > 1e-6))
def test_difference_interval_is_scipys(first, second):
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    found = difference_interval(first, second)
    assert (found.low, found.high) == pytest.approx(
        (expected.low, expected.high), rel=1e-9, abs=1e-9
    )
    backwards = difference_interval(second, first)
    assert (-backwards.high, -backwards.low) == pytest.approx((found.low, found.high))


@settings(deadline=None, max_examples=60)
@given(VALUES, st.randoms())
def test_the_order_of_the_seeds_does_not_matter(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert mean_interval(shuffled) == pytest.approx(mean_interval(values), rel=1e-9, abs=1e-9)


def test_no_spread_gives_no_width():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert difference_interval([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert difference_interval([1.0, 1.0], [1.0, 1.0]).contains(0.0)


def test_too_few_values():
    with pytest.raises(ValueError, match="at least two values"):
        mean_interval([1.0])
    with pytest.raises(ValueError, match="at least two values"):
        difference_interval([1.0, 2.0], [1.0])


def test_overlap():
    assert overlap(Interval(1, 0, 2), Interval(3, 2, 4))
    assert not overlap(Interval(1, 0, 2), Interval(3, 2.1, 4))
    assert overlap(Interval(1, 0, 9), Interval(3, 2, 4))


@pytest.mark.parametrize("seeds", [3, 5])
def test_student_t_covers_what_it_promises(seeds):
    rng = np.random.default_rng(7)
    runs = rng.normal(0.6, 0.05, size=(3_000, seeds))
    covered = np.mean([mean_interval(list(entry)).contains(0.6) for entry in runs])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_welch_covers_with_unequal_variances():
    rng = np.random.default_rng(8)
    first, second = rng.normal(0.7, 0.1, size=(2_000, 5)), rng.normal(0.5, 0.02, size=(2_000, 5))
    covered = np.mean(
        [
            difference_interval(list(a), list(b)).contains(0.2)
            for a, b in zip(first, second, strict=True)
        ]
    )
    assert covered == pytest.approx(0.95, abs=0.02)


@settings(deadline=None, max_examples=60)
@given(VALUES.filter(lambda v: np.std(v) > 1e-6))
def test_prediction_interval_is_scipys_of_the_mean_made_wider(values):
    """sd · √(1 + 1/n) is the standard error of the mean times √(n + 1)."""
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    half = (high - low) / 2 * math.sqrt(len(values) + 1)
    found = prediction_interval(values)
    wanted = (found.mean - half, found.mean + half)
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [2, 4])
def test_prediction_interval_holds_the_next_run_as_often_as_it_says(n):
    rng = np.random.default_rng(7)
    drawn = rng.normal(size=(4000, n + 1))
    inside = [prediction_interval(entry[:n]).contains(entry[n]) for entry in drawn]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_a_prediction_needs_two_values():
    with pytest.raises(ValueError, match="at least two values"):
        prediction_interval([1.0])
