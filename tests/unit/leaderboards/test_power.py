"""Power against textbook tables and simulation; `leaderboard power` on a fake leaderboard."""

import numpy as np
import pytest
from fixtures.leaderboards import fake_expected, fake_spec, write_leaderboard
from scipy import stats

from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.leaderboards.collect import collect
from lmrl_bench.leaderboards.power import (
    detectable_difference,
    leaderboard_power,
    power_of_test,
    seeds_needed,
)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)])
def test_the_textbook(effect, seeds):
    """Cohen 1988, two-sided α = 0.05, power 0.8; R: power.t.test(delta=effect, power=0.8)."""
    assert seeds_needed(effect, 1.0) == seeds
    assert seeds_needed(3 * effect, 3.0) == seeds
    assert power_of_test(effect, seeds) >= 0.8 > power_of_test(effect, seeds - 1)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_detectable_difference_is_found_as_often_as_it_says(seeds):
    difference = detectable_difference(0.5, seeds)
    rng = np.random.default_rng(seeds)
    first, second = rng.normal(0, 0.5, size=(2, 4_000, seeds))
    found = stats.ttest_ind(first + difference, second, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.025)
    assert seeds_needed(difference * 1.0001, 0.5) == seeds


def test_large_shifts_have_a_power():
    """scipy's noncentral t gives no number here. A normal test of 50 seeds finds (1.96 + 0.842)√(2/50) = 0.560."""
    assert power_of_test(2.0, 50) == pytest.approx(1.0)
    assert power_of_test(50.0, 2) == pytest.approx(1.0)
    assert detectable_difference(1.0, 50) == pytest.approx(0.566, abs=0.005)


def test_limits():
    assert power_of_test(0.0, 5) == pytest.approx(0.05)
    assert seeds_needed(0.1, 0.0) == 2
    for difference in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="must be positive"):
            seeds_needed(difference, 1.0)
    with pytest.raises(ConfigError, match="more than 100000 seeds"):
        seeds_needed(1e-4, 1.0)
    with pytest.raises(ValueError, match="at least two seeds"):
        detectable_difference(1.0, 1)


def test_a_leaderboard(tmp_path):
    spec = fake_spec()
    write_leaderboard(tmp_path, spec, {("docs-en-de", "a2c", 1): "failed"})
    table = collect(spec, tmp_path, fake_expected)
    found = leaderboard_power(table, difference=0.02)
    assert [power.task for power in found] == ["imdb-continuation", "docs-en-de"]
    entries = [r for r in table.tasks[0].entries if not r.evaluation_only]
    points = np.array([r.splits["test"].metrics["sentiment"].points for r in entries])
    deviation = np.sqrt(points.var(axis=1, ddof=1).mean())
    assert found[0].entries == 3
    assert found[0].deviation == pytest.approx(deviation)
    assert found[0].detectable == found[0].by_seeds[3]
    assert found[0].needed == seeds_needed(0.02, float(deviation))
    line = found[0].line()
    assert line["at_3_seeds"] > line["at_5_seeds"] > line["at_20_seeds"]


def test_a_leaderboard_without_spread_to_judge_by(tmp_path):
    spec = fake_spec(seeds=[0])
    write_leaderboard(tmp_path, spec, {})
    with pytest.raises(RecordError, match="no entry that trains has two completed seeds"):
        leaderboard_power(collect(spec, tmp_path, fake_expected))
