"""Which entry is drawn first and in which color, the same in every plot of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmrl_bench.leaderboards.render.columns import entry_title
from lmrl_bench.leaderboards.render.svg import Axis, apart, group, shortened, words
from lmrl_bench.leaderboards.table import LeaderboardTable

COLORS = 8
REFERENCE = "reference"
OTHER = "other"
_LINE = 13


def order(leaderboard: LeaderboardTable) -> list[str]:
    """Returns the labels, best first by the IQM; entries without one follow in the leaderboard's order."""
    found = leaderboard.overview
    ranked = [label for group in found.groups for label in group] if found else []
    return [*ranked, *(label for label in leaderboard.entries if label not in ranked)]


def styles(leaderboard: LeaderboardTable) -> dict[str, str]:
    """Returns a class per entry: the baselines' gray, or one of eight colors.

    Of more than eight entries the best have the colors, and the others are a thin gray.
    """
    references = leaderboard.baselines.names()
    others = [label for label in leaderboard.entries if label not in references]
    if len(others) > COLORS:
        others = [label for label in order(leaderboard) if label not in references]
    found = {label: f"s{i}" if i < COLORS else OTHER for i, label in enumerate(others)}
    return found | dict.fromkeys(references, REFERENCE)


def titles(leaderboard: LeaderboardTable) -> dict[str, str]:
    """Returns the names of the entries, with a dagger where one is ranked through its own mask."""
    found = {label: label for label in leaderboard.entries}
    for table in leaderboard.tasks:
        found |= {entry.entry: entry_title(entry) for entry in table.entries if entry.filtered}
    return found


def name_labels(
    leaderboard: LeaderboardTable, places: Mapping[str, tuple[float, float]], y: Axis
) -> list[str]:
    """Returns the names of entries beside their marks, moved apart; gray entries have a tooltip only.

    Args:
        leaderboard: The leaderboard.
        places: The pixel beside which each name belongs.
        y: The scale, whose ends bound the names.
    """
    style, names = styles(leaderboard), titles(leaderboard)
    shown = [label for label in places if style[label] != OTHER]
    heights: Sequence[float] = apart(
        [places[label][1] + 4 for label in shown], _LINE, y.end + 4, y.start - 3
    )
    return [
        group(
            label,
            style[label],
            names[label],
            [words(places[label][0], height, shortened(names[label], 14), "label")],
        )
        for label, height in zip(shown, heights, strict=True)
    ]
