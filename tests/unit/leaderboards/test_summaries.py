"""An entry of a leaderboard sums up all of its seeds, and says when some are missing."""

from __future__ import annotations

import pytest
from fixtures.leaderboards import fake_content, fake_spec

from lmrl_bench.leaderboards.collect import _entry_results, _split
from lmrl_bench.leaderboards.ranking import best_entries
from lmrl_bench.leaderboards.spec import cells
from lmrl_bench.records.record import RunRecord

SPEC = fake_spec(seeds=[0, 1, 2, 3, 4])


def seeds_of(label, task="imdb-continuation", failed=()):
    """Returns the cells of an entry with their records; the seeds in `failed` diverged."""
    return [
        (cell, RunRecord.model_validate(fake_content(cell, status=status)))
        for cell in cells(SPEC)
        if (cell.task, cell.entry) == (task, label)
        for status in ["diverged" if cell.seed in failed else "completed"]
    ]


def test_every_column_is_a_summary_over_the_seeds():
    results = [record.results["test"] for _, record in seeds_of("ppo")]
    found = _split(results)
    for name in ("reward", "kl_to_reference", "mean_length", "truncated_share"):
        points = [getattr(one, name) for one in results]
        assert getattr(found, name).points == pytest.approx(points, rel=1e-9)
        assert getattr(found, name).mean == pytest.approx(sum(points) / 5, rel=1e-9)
    for name in ("sentiment", "rouge-l", "perplexity"):
        points = [one.metrics[name].value for one in results]
        assert found.metrics[name].points == pytest.approx(points, rel=1e-9)
    assert len(set(found.reward.points)) == 5


def test_a_row_with_a_failed_seed_is_not_complete_however_many_are_left():
    """Four of five seeds give a mean and an interval, but not a place: those that survived flatter the entry."""
    entries = [
        _entry_results("ppo", "ppo", seeds_of("ppo", failed=[4]), "fake"),
        _entry_results("a2c", "a2c", seeds_of("a2c"), "fake"),
    ]
    assert [entry.complete for entry in entries] == [False, True]
    reward = entries[0].splits["test"].reward
    assert reward.n == 4
    assert reward.mean > entries[1].splits["test"].reward.mean
    assert best_entries(entries, "reward", lower=False) == {"a2c"}
