"""The leaderboard over all tasks as a performance profile, and reward against drift, where hacking shows."""

from __future__ import annotations

from collections.abc import Sequence

from lmrl_bench.leaderboards.estimates import LeaderboardOverview
from lmrl_bench.leaderboards.ranking import measured
from lmrl_bench.leaderboards.render.columns import arrow
from lmrl_bench.leaderboards.render.palette import (
    OTHER,
    REFERENCE,
    name_labels,
    order,
    styles,
)
from lmrl_bench.leaderboards.render.svg import (
    WIDTH,
    Axis,
    area,
    document,
    dot,
    frame,
    group,
    path,
    span,
)
from lmrl_bench.leaderboards.table import LeaderboardTable, TaskTable

_HEIGHT, _TOP, _BOTTOM, _LEFT, _NAMES = 250, 26, 40, 44, 84


def profile_svg(leaderboard: LeaderboardTable, found: LeaderboardOverview) -> str:
    """Returns the share of each entry's runs above a score, by the score, with its 95 % band."""
    style, best_first = styles(leaderboard), order(leaderboard)
    x = Axis(0.0, found.thresholds[-1], _LEFT, WIDTH - 12)
    y = Axis(0.0, 1.0, _HEIGHT - _BOTTOM, _TOP)
    parts = [frame(x, y, "score τ", "share of runs with a score above τ")]
    entries = [entry for entry in found.entries if entry.ranked and entry.profile]
    for entry in sorted(entries, key=lambda entry: -best_first.index(entry.entry)):
        low, high, middle = (
            _steps([x(t) for t in found.thresholds], [y(getattr(p, side)) for p in entry.profile])
            for side in ("low", "high", "value")
        )
        marks = [path(middle, "curve")]
        if style[entry.entry] not in (OTHER, REFERENCE):
            marks.insert(0, area([*low, *high[::-1]], "band"))
        parts.append(group(entry.entry, style[entry.entry], entry.entry, marks))
    return document(WIDTH, _HEIGHT, "Performance profiles: share of runs above each score", parts)


def _steps(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """The corners of a line that keeps each height until the next threshold."""
    return [(x, y) for n, y in enumerate(ys) for x in xs[n : n + 2]]


def drift_svg(leaderboard: LeaderboardTable, table: TaskTable, measure: str) -> str | None:
    """Returns a measure of the test split against the KL to the initial policy; None if no entry has it.

    Small marks are seeds, the large one is their mean. The zero-shot entry is left out: it has no
    drift, and far from the others it would squeeze them. So are controls, which do not drift.

    Args:
        leaderboard: The leaderboard.
        table: The task.
        measure: "reward" or a metric.
    """
    style = styles(leaderboard)
    found = {}
    for entry in table.entries:
        summary = measured(entry, measure)
        if not summary or not summary.n or entry.entry == leaderboard.baselines.zero_shot:
            continue
        if entry.control:  # its KL is not that of its answers
            continue
        if entry.tested and entry.tested.kl_to_reference:
            found[entry.entry] = (entry.tested.kl_to_reference.points, summary.points)
    if not found:
        return None
    x = Axis(*span([0.0, *(v for kl, _ in found.values() for v in kl)]), _LEFT, WIDTH - _NAMES)
    y = Axis(
        *span([v for _, values in found.values() for v in values], 0.1), _HEIGHT - _BOTTOM, _TOP
    )
    title = f"{measure} {'↑' if measure == 'reward' else arrow(table, measure)}"
    parts = [frame(x, y, "KL to the initial policy (nats per episode)", title)]
    places = {}
    for entry_name, (kl, values) in found.items():
        middle = (x(sum(kl) / len(kl)), y(sum(values) / len(values)))
        marks = [dot(x(a), y(b), 2.5, "seed") for a, b in zip(kl, values, strict=True)]
        parts.append(
            group(
                entry_name,
                style[entry_name],
                entry_name,
                [*marks, dot(*middle, 5, "middle")],
            )
        )
        places[entry_name] = (middle[0] + 9, middle[1])
    parts += name_labels(leaderboard, places, y, {})
    return document(WIDTH, _HEIGHT, f"{measure} against KL on {table.task}", parts)
