"""Aggregates against rliable's numbers, by hand, and unmoved by order."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from lmrl_bench.stats.aggregates import (
    interquartile_mean,
    mean_score,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from lmrl_bench.stats.bootstrap import (
    FEWEST_REPLICATES,
    REPLICATES,
    affordable_replicates,
    improvement_interval,
    profile_intervals,
    resample,
    statistic_interval,
    stream,
    widened,
)

FIRST = np.array(
    [[0.55, 0.72, 0.6, 0.54], [0.42, 0.65, 0.44, 0.89], [0.96, 0.38, 0.79, 0.53],
     [0.57, 0.93, 0.07, 0.09], [0.02, 0.83, 0.78, 0.87]]
)  # fmt: skip
SECOND = np.array(
    [[0.55, 0.88, 0.51, 0.86], [0.13, 0.93, 0.16, 1.04], [0.57, 0.46, 0.29, 0.85],
     [0.5, 0.63, 0.02, 0.68], [0.67, 0.68, 1.04, 0.75]]
)  # fmt: skip
KEY = "0123456789abcdef" * 4


def plain(statistic, scores):
    """The statistic of scores, each taken once."""
    return float(statistic(scores))


def drawn_scores(entry):
    """Returns the drawn scores, written out: `(R, S, K)`."""
    return entry.scores[entry.drawn, np.arange(entry.scores.shape[1])]


def test_rliables_numbers():
    """Frozen from rliable 1.2.0 (aggregate_iqm, aggregate_mean, aggregate_optimality_gap,
    probability_of_improvement, run_score_deviation), numpy 2.4: `metrics.aggregate_iqm(FIRST)` and so on.
    """
    for scores, expected in ((FIRST, (0.617, 0.5815, 0.4185)), (SECOND, (0.639, 0.61, 0.394))):
        found = [plain(f, scores) for f in (interquartile_mean, mean_score, optimality_gap)]
        assert found == pytest.approx(expected, abs=1e-12)
    assert probability_of_improvement(FIRST, SECOND) == pytest.approx(0.485, abs=1e-12)
    assert probability_of_improvement(SECOND, FIRST) == pytest.approx(0.515, abs=1e-12)
    assert probability_of_improvement(FIRST, FIRST) == pytest.approx(0.5)
    profile = performance_profile(FIRST, [0.0, 0.25, 0.5, 0.75, 1.0])
    assert profile.tolist() == pytest.approx([1.0, 0.85, 0.7, 0.35, 0.0])


def test_the_interval_is_rliables_widened():
    """rliable 1.2.0 with arch 8.0.0 and np.random.seed(0): get_interval_estimates, 20,000 percentile replicates.

    Its IIDBootstrap must be stripped of the argument `random_state`, which arch no longer takes.
    """
    for statistic, low, high in (
        (interquartile_mean, 0.478, 0.742),
        (mean_score, 0.464, 0.6955),
    ):
        found = statistic_interval(resample(FIRST, stream(KEY, "first")), statistic)
        point, factor = plain(statistic, FIRST), np.sqrt(5 / 4)
        assert found.mean == pytest.approx(point, abs=1e-12)
        assert found.low == pytest.approx(point - factor * (point - low), abs=0.006)
        assert found.high == pytest.approx(point + factor * (high - point), abs=0.006)


def test_the_intervals_of_pairs_and_profiles_are_rliables_widened():
    """rliable 1.2.0, arch 7.2.0, numpy 2.4.6, pandas 2.3.3; np.random.seed(0) before each call:
    get_interval_estimates of probability_of_improvement(FIRST, SECOND), create_performance_profile(FIRST, …),
    20,000 replicates. The tolerance of the profile is less than one of its 20 runs.
    """
    factor = np.sqrt(5 / 4)
    first, second = resample(FIRST, stream(KEY, "first")), resample(SECOND, stream(KEY, "second"))
    found = improvement_interval(first, second)
    assert found.low == pytest.approx(0.485 - factor * (0.485 - 0.299875), abs=0.006)
    assert found.high == pytest.approx(0.485 + factor * (0.675 - 0.485), abs=0.006)
    points, lows, highs = (
        [1.0, 0.85, 0.7, 0.35, 0.0], [1.0, 0.7, 0.5, 0.15, 0.0], [1.0, 1.0, 0.9, 0.55, 0.0],
    )  # fmt: skip
    profile = profile_intervals(first, [0.0, 0.25, 0.5, 0.75, 1.0])
    for found, point, low, high in zip(profile, points, lows, highs, strict=True):
        assert found.mean == pytest.approx(point)
        assert found.low == pytest.approx(point - factor * (point - low), abs=0.045)
        assert found.high == pytest.approx(min(point + factor * (high - point), 1.0), abs=0.045)


@pytest.mark.parametrize("seeds", [1, 3, 5, 7])
def test_iqm_is_scipys_trimmed_mean(seeds):
    scores = np.random.default_rng(seeds).normal(size=(seeds, 3))
    expected = stats.trim_mean(scores, 0.25, axis=None)
    assert plain(interquartile_mean, scores) == pytest.approx(float(expected))


def test_three_scores_have_no_quartiles():
    assert plain(interquartile_mean, np.array([[0.0], [0.1], [0.8]])) == pytest.approx(0.3)


def test_by_hand():
    scores = np.array([[0.0, 1.5], [0.5, 1.0]])
    assert plain(optimality_gap, scores) == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert performance_profile(scores, [0.5]).tolist() == [0.5]  # above, not at
    assert probability_of_improvement(np.array([[1.0]]), np.array([[1.0], [0.0]])) == 0.75


def test_order_does_not_matter():
    def interval(scores):
        return statistic_interval(resample(scores, stream(KEY, "x"), 500), interquartile_mean)

    def improvement(first, second):
        return improvement_interval(
            resample(first, stream(KEY, "x"), 500), resample(second, stream(KEY, "y"), 500)
        )

    shuffled = np.random.default_rng(0).permuted(FIRST, axis=0)
    assert interval(shuffled) == pytest.approx(interval(FIRST), abs=1e-12)
    assert improvement(shuffled, SECOND[::-1]) == pytest.approx(improvement(FIRST, SECOND))
    assert stream(KEY, "x").random() != stream(KEY, "y").random()
    assert stream(KEY, "x").random() != stream("f" * 64, "x").random()


def test_tasks_keep_their_weight():
    """Every replicate draws each task's seeds from that task."""
    scores = np.array([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]])
    drawn = drawn_scores(resample(scores, stream(KEY, "x"), 200))
    assert drawn.shape == (200, 3, 2)
    assert set(drawn[..., 0].flat) == {0.0, 1.0, 2.0}
    assert set(drawn[..., 1].flat) == {10.0, 11.0, 12.0}


@pytest.mark.parametrize("statistic", [mean_score, interquartile_mean, optimality_gap])
def test_a_replicate_of_a_statistic_is_the_statistic_of_a_replicate(statistic):
    """Counting how often a score was drawn is drawing it, whatever ties there are."""
    for scores in (FIRST, np.round(SECOND, 1), FIRST[:2], SECOND[:, :1]):
        entry = resample(scores, stream(KEY, "x"), 300)
        slow = [plain(statistic, drawn) for drawn in drawn_scores(entry)]
        assert entry.replicates(statistic) == pytest.approx(slow, abs=1e-12)


def test_a_replicate_of_the_improvement_is_the_statistic_of_a_replicate():
    first = resample(np.round(FIRST, 1), stream(KEY, "first"), 400)
    second = resample(np.round(SECOND, 1)[:4], stream(KEY, "second"), 400)
    slow = [
        probability_of_improvement(*pair)
        for pair in zip(drawn_scores(first), drawn_scores(second), strict=True)
    ]
    point = probability_of_improvement(first.scores, second.scores)
    assert improvement_interval(first, second) == pytest.approx(
        widened(point, np.array(slow), 4), abs=1e-12
    )
    sure = improvement_interval(
        resample(SECOND + 5, stream(KEY, "sure"), 100), resample(FIRST, stream(KEY, "x"), 100)
    )
    assert sure == (1.0, 1.0, 1.0)


PROGRAM = """
import numpy as np
from lmrl_bench.stats.aggregates import interquartile_mean, mean_score, optimality_gap
from lmrl_bench.stats.bootstrap import resample, statistic_interval, stream
for seed in range(20):
    scores = np.random.default_rng(seed).normal(size=(5, 4))
    scores -= scores.mean()
    entry = resample(scores, stream("0" * 16, "x"), 200)
    print([statistic_interval(entry, one) for one in (interquartile_mean, mean_score, optimality_gap)])
"""


def test_every_processor_computes_the_same_bits():
    """A mean that is nearly 0 would show what the library for products of matrices rounds on this one."""
    kinds = ({"OPENBLAS_CORETYPE": "Prescott"}, {"OPENBLAS_CORETYPE": "Haswell"}, {})
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **kind},
            capture_output=True, text=True, check=True,
        ).stdout
        for kind in kinds
    }  # fmt: skip
    assert len(found) == 1


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match="at least two seeds"):
        statistic_interval(resample(FIRST[:1], stream(KEY, "x"), 10), mean_score)


def test_a_replicate_of_the_profile_is_the_profile_of_a_replicate():
    entry = resample(FIRST, stream(KEY, "x"), 3_000)
    thresholds = [0.0, 0.25, 0.5, 0.75, 1.0]
    slow = np.array([performance_profile(drawn, thresholds) for drawn in drawn_scores(entry)])
    for place, found in enumerate(profile_intervals(entry, thresholds)):
        expected = widened(performance_profile(FIRST, thresholds)[place], slow[:, place], 5)
        assert found.mean == expected.mean
        assert found.low == pytest.approx(max(expected.low, 0.0), abs=1e-9)
        assert found.high == pytest.approx(min(expected.high, 1.0), abs=1e-9)


def test_large_leaderboards_draw_less_often():
    assert affordable_replicates(54) == affordable_replicates(1_000) == REPLICATES == 20_000
    assert affordable_replicates(2_000) == 10_000
    assert affordable_replicates(10_000) == affordable_replicates(10**6) == FEWEST_REPLICATES


@pytest.mark.parametrize("statistic", [mean_score, interquartile_mean])
@pytest.mark.parametrize(("seeds", "least", "most"), [(3, 0.88, 0.95), (5, 0.90, 0.965)])
def test_coverage(statistic, seeds, least, most):
    """Measured: 91 to 92 % at three seeds, 93 % at five; unwidened 82 to 86 and 89 to 92 %."""
    rng = np.random.default_rng(5)
    levels = np.linspace(0.2, 0.8, 6)
    covered = [
        statistic_interval(
            resample(levels + rng.normal(0, 0.1, size=(seeds, 6)), rng, 300), statistic
        ).contains(0.5)
        for _ in range(600)
    ]
    assert least < np.mean(covered) < most


def test_the_interval_of_the_improvement_covers():
    """Two entries of the same level, one half by symmetry, ten seeds on six tasks."""
    rng = np.random.default_rng(6)
    covered = []
    for _ in range(400):
        first, second = rng.normal(0, 0.1, size=(2, 10, 6))
        found = improvement_interval(resample(first, rng, 300), resample(second, rng, 300))
        covered.append(found.contains(0.5))
    assert 0.91 < np.mean(covered) < 0.985
