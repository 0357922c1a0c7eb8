"""Power of the two-sample t-test: the seeds that a difference needs, and `leaderboard power`.

Power is from the noncentral t (squared, F) distribution, with the standard deviation between seeds equal on both
sides. It plans an experiment; it says nothing about one that has been made.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy import optimize, stats

from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.leaderboards.estimates import TaskPower
from lmrl_bench.leaderboards.ranking import measured
from lmrl_bench.leaderboards.table import EntryResults, LeaderboardTable, TaskTable, significant
from lmrl_bench.stats.intervals import LEVEL

POWER = 0.8
MOST_SEEDS = 100_000
PLANS = (3, 5, 10, 20)


def power_of_test(effect: float, seeds: int, level: float = LEVEL) -> float:
    """Returns the probability that a two-sided t-test of two entries finds a difference.

    Args:
        effect: The true difference in standard deviations (Cohen's d).
        seeds: Per entry, at least two.
        level: 1 - α.
    """
    freedom = 2 * (seeds - 1)
    bound = float(stats.t.ppf(0.5 + level / 2, freedom))
    if effect == 0:
        return 1 - level
    # t² is a noncentral F; scipy's noncentral t gives no number for large shifts.
    return float(stats.ncf.sf(bound**2, 1, freedom, effect**2 * seeds / 2))


def detectable_difference(deviation: float, seeds: int, power: float = POWER) -> float:
    """Returns the smallest true difference that a test with these seeds per entry finds with this power.

    Raises:
        ValueError: Fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError("a test needs at least two seeds per entry")
    return deviation * _detectable_effect(seeds, power)


@cache
def _detectable_effect(seeds: int, power: float) -> float:
    """In standard deviations; the bracket grows from below."""
    most = 1 / 64
    while power_of_test(most, seeds) < power:
        most *= 2
    return float(optimize.brentq(lambda d: power_of_test(d, seeds) - power, most / 2, most))


def seeds_needed(difference: float, deviation: float, power: float = POWER) -> int:
    """Returns the number of seeds per entry at which a true difference is found so often.

    Raises:
        ConfigError: The difference is not positive, or needs more than `MOST_SEEDS`.
    """
    if not difference > 0:
        raise ConfigError(f"the difference must be positive, not {difference}")
    if deviation == 0:
        return 2
    effect = difference / deviation
    low, high = 1, 2  # a power of two that is enough, then bisection: power grows with the seeds
    while power_of_test(effect, high) < power:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            raise ConfigError(f"a difference of {difference:g} needs more than {MOST_SEEDS} seeds")
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of_test(effect, middle) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def leaderboard_power(table: LeaderboardTable, difference: float | None = None) -> list[TaskPower]:
    """Returns what each task's table can tell apart; tasks without an entry to judge by are left out.

    Args:
        table: The leaderboard.
        difference: In units of the primary metric: then also the seeds that it needs.

    Raises:
        ConfigError: As in `seeds_needed`.
        RecordError: Nowhere did an entry that trains complete two seeds.
    """
    tasks = (_task_power(task, len(table.seeds), difference) for task in table.tasks)
    found = [power for power in tasks if power is not None]
    if not found:
        raise RecordError(
            f"leaderboard '{table.name}': no entry that trains has two completed seeds, so the deviation "
            "between seeds is unknown; run more of the leaderboard first"
        )
    return found


def _task_power(table: TaskTable, seeds: int, difference: float | None) -> TaskPower | None:
    if table.info is None or seeds < 2:
        return None
    metric = table.info.primary_metric
    samples = [points for entry in table.entries if len(points := _points(entry, metric)) > 1]
    if not samples:
        return None
    squares = sum(float(np.var(points, ddof=1)) * (len(points) - 1) for points in samples)
    deviation = math.sqrt(squares / sum(len(points) - 1 for points in samples))
    return TaskPower(
        task=table.task,
        metric=metric,
        deviation=significant(deviation),
        entries=len(samples),
        seeds=seeds,
        detectable=significant(detectable_difference(deviation, seeds)),
        by_seeds={n: significant(detectable_difference(deviation, n)) for n in PLANS},
        needed=None if difference is None else seeds_needed(difference, deviation),
    )


def _points(entry: EntryResults, metric: str) -> list[float]:
    """The completed seeds of an entry that trains; what evaluates only has no training spread."""
    found = None if entry.evaluation_only else measured(entry, metric)
    return found.points if found else []
