"""Ranking: the verdict follows the metric's direction, and needs separated seeds."""

from __future__ import annotations

import pytest

from lmrl_bench.leaderboards.collect import summary
from lmrl_bench.leaderboards.ranking import _compare, best_entries, measured
from lmrl_bench.leaderboards.table import EntryResults, SplitSummary


def split(values):
    found = summary(values)
    return SplitSummary(
        metrics={"metric": found}, reward=found, kl_to_reference=found, mean_length=found,
        truncated_share=found,
    )  # fmt: skip


def entry(label, values, complete=True, unfiltered=None):
    splits = {"test": split(values)}
    if unfiltered is not None:
        splits["test-unfiltered"] = split(unfiltered)
    return EntryResults(
        entry=label, algorithm="ppo", evaluation_only=False, complete=complete, counts={}, runs=[],
        splits=splits, filtered=unfiltered is not None,
    )  # fmt: skip


HIGH, LOW, WIDE = [0.9, 0.91, 0.92], [0.5, 0.51, 0.52], [0.3, 0.7, 1.1]


@pytest.mark.parametrize(
    ("mine", "lower", "verdict"),
    [
        (HIGH, False, "better"),
        (HIGH, True, "worse"),
        (WIDE, False, "not separated"),
        (WIDE, True, "not separated"),
    ],
)
def test_the_verdict_follows_the_direction(mine, lower, verdict):
    assert _compare("metric", "x", summary(mine), summary(LOW), lower=lower).verdict == verdict
    opposite = {"better": "worse", "worse": "better"}.get(verdict, verdict)
    assert _compare("metric", "x", summary(LOW), summary(mine), lower=lower).verdict == opposite


def test_best_is_the_best_of_the_direction_and_whatever_ties_with_it():
    entries = [entry("high", HIGH), entry("low", LOW), entry("wide", WIDE)]
    assert best_entries(entries, "metric", lower=False) == {"high", "wide"}
    assert best_entries(entries, "metric", lower=True) == {"low", "wide"}
    entries[0] = entry("high", HIGH, complete=False)
    assert "high" not in best_entries(entries, "metric", lower=False)


def test_an_entry_with_a_token_filter_is_ranked_without_it():
    entries = [entry("filtered", HIGH, unfiltered=LOW), entry("plain", [0.7, 0.71, 0.72])]
    assert best_entries(entries, "metric", lower=False) == {"plain"}
    assert measured(entries[0], "metric").points == LOW
    acting = entries[0].through_filter()
    assert measured(acting, "metric").points == HIGH
    assert acting.best == acting.comparisons == []
    assert entries[1].through_filter() is None
