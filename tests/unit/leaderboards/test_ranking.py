"""Ranking: the verdict follows the metric's direction, and needs separated seeds."""

from __future__ import annotations

import pytest

from lmrl_bench.leaderboards.collect import summary
from lmrl_bench.leaderboards.ranking import _compare, best_entries
from lmrl_bench.leaderboards.table import EntryResults, SplitSummary


def entry(label, values, complete=True):
    found = summary(values)
    split = SplitSummary(
        metrics={"metric": found}, reward=found, kl_to_reference=found, mean_length=found,
        truncated_share=found,
    )  # fmt: skip
    return EntryResults(
        entry=label, algorithm="ppo", evaluation_only=False, complete=complete, counts={}, runs=[],
        splits={"test": split},
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
