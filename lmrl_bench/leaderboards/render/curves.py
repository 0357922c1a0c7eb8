"""Learning curves: validation reward by generated tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from lmrl_bench.leaderboards.ranking import DAGGER
from lmrl_bench.leaderboards.render.columns import number
from lmrl_bench.leaderboards.render.palette import OTHER, name_labels, styles
from lmrl_bench.leaderboards.render.svg import (
    WIDTH,
    Axis,
    area,
    document,
    frame,
    group,
    line,
    path,
    span,
    words,
)
from lmrl_bench.leaderboards.table import Curve, LeaderboardTable, TaskTable
from lmrl_bench.stats.aggregates import FloatArray
from lmrl_bench.stats.intervals import LEVEL, MINIMUM_SEEDS

_GRID = 25
_HEIGHT, _TOP, _BOTTOM, _LEFT, _NAMES = 250, 26, 40, 40, 96


@dataclass(frozen=True)
class _Drawn:
    """The drawing of an entry: lines over thousands of tokens, and a band around a single line."""

    entry: str
    tokens: list[list[float]]
    values: list[list[float]]
    band: tuple[list[float], list[float]] | None


def curves_svg(leaderboard: LeaderboardTable, table: TaskTable) -> str:
    """Returns the learning curves of a task: mean and 95 % t band over seeds, or the runs.

    Values between evaluations are interpolated on a common grid; below three seeds each run is
    drawn for itself. Dashed lines are the initial policies.
    """
    style = styles(leaderboard)
    # Training validates an entry as it acts.
    titles = {entry.entry: f"{entry.entry} {DAGGER}" for entry in table.entries if entry.filtered}
    drawn = [_drawn(curve) for curve in table.curves]
    drawn.sort(key=lambda one: style[one.entry] != OTHER)  # gray below color
    levels = _untrained(table)
    values = [v for one in drawn for side in (*one.values, *(one.band or ())) for v in side]
    near = [level for label, level in levels.items() if label != leaderboard.baselines.zero_shot]
    x = Axis(
        0.0, max(t for one in drawn for line_ in one.tokens for t in line_), _LEFT, WIDTH - _NAMES
    )
    y = Axis(*span([*values, *near]), _HEIGHT - _BOTTOM, _TOP)
    parts = [frame(x, y, "generated tokens (thousands)", "validation reward")]
    ends = {}
    for label, level in levels.items():
        inside = y.low <= level <= y.high
        marks = [
            line(x.start, y(level), x.end, y(level), "dashes")
            if inside
            else _outside(label, level, x, y)
        ]
        parts.append(group(label, style[label], f"{label}: {number(level, 3)}", marks))
        if inside:
            ends[label] = (x.end + 6, y(level))
    for one in drawn:
        title = titles.get(one.entry, one.entry)
        parts.append(group(one.entry, style[one.entry], title, _marks(one, x, y, style)))
        ends[one.entry] = (x.end + 6, y(one.values[0][-1]))
    parts += name_labels(leaderboard, ends, y, titles)
    label = f"Validation reward by generated tokens on {table.task}, mean and 95 % band over seeds"
    return document(WIDTH, _HEIGHT, label, parts)


def _drawn(curve: Curve) -> _Drawn:
    start = max(min(run.tokens) for run in curve.seeds)
    end = min(max(run.tokens) for run in curve.seeds)
    if len(curve.seeds) < MINIMUM_SEEDS or end <= start:
        tokens = [[t / 1000 for t in run.tokens] for run in curve.seeds]
        return _Drawn(curve.entry, tokens, [run.reward for run in curve.seeds], None)
    grid = np.linspace(start, end, _GRID)
    values = np.stack([np.interp(grid, run.tokens, run.reward) for run in curve.seeds])
    mean, half = values.mean(axis=0), _half_width(values)
    band = ((mean - half).tolist(), (mean + half).tolist())
    return _Drawn(curve.entry, [(grid / 1000).tolist()], [mean.tolist()], band)


def _half_width(values: FloatArray) -> FloatArray:
    """Half of the 95 % Student-t interval of each column of `(S, points)`; see `mean_interval`."""
    seeds = len(values)
    quantile = float(stats.t.ppf(0.5 + LEVEL / 2, seeds - 1))
    return np.asarray(quantile * values.std(axis=0, ddof=1) / np.sqrt(seeds))


def _marks(one: _Drawn, x: Axis, y: Axis, style: dict[str, str]) -> list[str]:
    marks = []
    if one.band is not None and style[one.entry] != OTHER:
        below, above = (
            [(x(t), y(v)) for t, v in zip(one.tokens[0], side, strict=True)] for side in one.band
        )
        marks.append(area([*below, *above[::-1]], "band"))
    for tokens, values in zip(one.tokens, one.values, strict=True):
        marks.append(path([(x(t), y(v)) for t, v in zip(tokens, values, strict=True)], "curve"))
    return marks


def _untrained(table: TaskTable) -> dict[str, float]:
    """The mean validation reward of the entries that train nothing, without controls."""
    return {
        entry.entry: sum(split.reward.points) / split.reward.n
        for entry in table.entries
        if entry.evaluation_only
        and entry.control is None
        and (split := entry.splits.get("validation"))
        and split.reward.points
    }


def _outside(label: str, level: float, x: Axis, y: Axis) -> str:
    """Names a level that the plot leaves out, at its lower or upper edge."""
    below = level < y.low
    height = y.start - 6 if below else y.end + 12
    return words(x.start + 6, height, f"{'▾' if below else '▴'} {label} {number(level, 3)}", "tick")
