"""Interval plots: one line per entry, best first; every seed, the mean and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmrl_bench.leaderboards.estimates import EntryOverview, Estimate, LeaderboardOverview
from lmrl_bench.leaderboards.ranking import measured
from lmrl_bench.leaderboards.render.columns import number, places_of, summary_text
from lmrl_bench.leaderboards.render.palette import order, styles
from lmrl_bench.leaderboards.render.svg import (
    WIDTH,
    Axis,
    document,
    dot,
    group,
    line,
    numbers,
    shortened,
    span,
    words,
)
from lmrl_bench.leaderboards.table import LeaderboardTable, TaskTable

_NAMES = 108
_STEP, _TOP = 22, 6
_INLINE = (170, 18)


@dataclass(frozen=True)
class _Line:
    """An entry's line: the value and interval may be missing, below three seeds."""

    name: str
    text: str
    value: float | None
    interval: tuple[float, float] | None
    points: Sequence[float]

    @property
    def numbers(self) -> list[float]:
        return [*self.points, *(self.interval or ())]


def interval_svg(leaderboard: LeaderboardTable, table: TaskTable) -> str:
    """Returns the primary metric of every entry: all seeds as points, mean and 95 % t interval.

    Raises:
        ValueError: No run of the task has completed.
    """
    if table.info is None:
        raise ValueError("nothing was measured")
    metric = table.info.primary_metric
    entries = {entry.entry: entry for entry in table.entries}
    found = {
        n: s for n in order(leaderboard) if (s := measured(entries[n], metric)) is not None and s.n
    }
    places = places_of(list(found.values()))
    lines = [
        _Line(label, summary_text(summary, places), summary.mean, summary.interval, summary.points)
        for label, summary in found.items()
    ]
    return _plot(
        leaderboard, lines, f"{metric} of every entry on {table.task}: seeds, means, intervals"
    )


def overall_svg(leaderboard: LeaderboardTable, found: LeaderboardOverview) -> str:
    """Returns the IQM of every entry over all tasks with its interval; 0 and 1 are marked."""
    by_name = {entry.name: entry for entry in found.entries}
    lines = [
        _Line(label, estimate_text(iqm), iqm.value, (iqm.low, iqm.high), ())
        for label in order(leaderboard)
        if (iqm := by_name[label].iqm) is not None
    ]
    return _plot(
        leaderboard, lines, "IQM of every entry over all tasks, with intervals", scores=True
    )


def inline_interval(found: LeaderboardOverview, entry: EntryOverview, style: str) -> str:
    """Returns the IQM and its interval for a table's cell; all entries of a leaderboard share the scale."""
    if entry.iqm is None:
        return ""
    width, height = _INLINE
    x, middle = _inline_scale(found), height / 2
    marks = [line(x(t), 0, x(t), height, "zero") for t in (0.0, 1.0)]
    marks.append(line(x(entry.iqm.low), middle, x(entry.iqm.high), middle, "interval"))
    marks.append(line(x(entry.iqm.value), middle - 6, x(entry.iqm.value), middle + 6, "mean"))
    label = f"interval from {number(entry.iqm.low, 2)} to {number(entry.iqm.high, 2)}"
    return document(width, height, label, [f'<g class="{style}">{"".join(marks)}</g>'])


def inline_axis(found: LeaderboardOverview) -> str:
    """Returns the ticks above the intervals of `inline_interval`."""
    x = _inline_scale(found)
    ticks = [0.0, 1.0, *(t for t in x.ticks(4) if t > 1 and t.is_integer())]
    marks = [words(x(t), 13, f"{t:g}", "tick", "middle") for t in ticks]
    return document(*_INLINE, "scale of the scores", marks)


def _inline_scale(found: LeaderboardOverview) -> Axis:
    shown = [one.iqm for one in found.entries if one.iqm is not None]
    low, high = span([0.0, 1.0, *(v for one in shown for v in (one.low, one.high))], 0.05)
    return Axis(low, high, 2, _INLINE[0] - 2)


def estimate_text(found: Estimate, places: int = 2) -> str:
    """Returns "1.77 [1.68, 1.89]"."""
    low, high = number(found.low, places), number(found.high, places)
    return f"{number(found.value, places)} [{low}, {high}]"


def _plot(
    leaderboard: LeaderboardTable, lines: Sequence[_Line], label: str, scores: bool = False
) -> str:
    """A zero-shot entry far from all others is named at the edge, so that the others can be told apart."""
    far = leaderboard.baselines.zero_shot
    near = [v for one in lines if one.name != far for v in one.numbers]
    low, high = span(near or [v for one in lines for v in one.numbers] or [0.0])
    if scores:  # the floor and the ceiling belong to the picture
        low, high = min(low, -0.05), max(high, 1.05)
    x = Axis(low, high, _NAMES + 8, WIDTH - 8)
    bottom = _TOP + _STEP * len(lines) + 4
    ticks = x.ticks(4)
    style = styles(leaderboard)
    parts = [
        line(x(t), _TOP, x(t), bottom, "zero" if scores and t in (0.0, 1.0) else "grid")
        for t in ticks
    ]
    texts = zip(ticks, numbers(ticks), strict=True)
    parts += [words(x(t), bottom + 16, text, "tick", "middle") for t, text in texts]
    for index, one in enumerate(lines):
        y = _TOP + _STEP * (index + 0.5)
        marks = [words(_NAMES, y + 4, shortened(one.name, 16), "label", "end")]
        marks += _marks(one, x, y)
        parts.append(group(one.name, style[one.name], f"{one.name}: {one.text}", marks))
    return document(WIDTH, bottom + 22, label, parts)


def _marks(one: _Line, x: Axis, y: float) -> list[str]:
    if max(one.numbers) < x.low or min(one.numbers) > x.high:
        text = one.text.split(" ")[0]
        if max(one.numbers) < x.low:
            return [words(x.start, y + 4, f"◂ {text}", "tick")]
        return [words(x.end, y + 4, f"{text} ▸", "tick", "end")]
    marks = []
    if one.interval is not None:
        low, high = (x(min(max(bound, x.low), x.high)) for bound in one.interval)
        marks.append(line(low, y, high, y, "interval"))
    marks += [dot(x(point), y, 3, "seed") for point in one.points]
    if one.value is not None:
        marks.append(line(x(one.value), y - 7, x(one.value), y + 7, "mean"))
    return marks
