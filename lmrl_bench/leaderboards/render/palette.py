"""Order and colors of entries, the same in every plot of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmrl_bench.leaderboards.render.svg import Axis, apart, group, shortened, words
from lmrl_bench.leaderboards.table import LeaderboardTable

COLORS = 8
REFERENCE = "reference"
OTHER = "other"
_LINE = 13


def order(leaderboard: LeaderboardTable) -> list[str]:
    """Returns the names of the entries, best first by the IQM; those without one follow in the leaderboard's order."""
    found = leaderboard.overview
    ranked = [entry_name for group in found.groups for entry_name in group] if found else []
    return [
        *ranked,
        *(entry_name for entry_name in leaderboard.entries if entry_name not in ranked),
    ]


def styles(leaderboard: LeaderboardTable) -> dict[str, str]:
    """Returns a class per entry: the gray of baselines and controls, or one of eight colors.

    Of more than eight entries the best have the colors, and the others are a thin gray.
    """
    controls = [entry.entry for entry in leaderboard.tasks[0].entries if entry.control]
    references = [*leaderboard.baselines.names(), *controls]
    others = [entry_name for entry_name in leaderboard.entries if entry_name not in references]
    if len(others) > COLORS:
        others = [entry_name for entry_name in order(leaderboard) if entry_name not in references]
    found = {entry_name: f"s{i}" if i < COLORS else OTHER for i, entry_name in enumerate(others)}
    return found | dict.fromkeys(references, REFERENCE)


def name_labels(
    leaderboard: LeaderboardTable,
    places: Mapping[str, tuple[float, float]],
    y: Axis,
    titles: Mapping[str, str],
) -> list[str]:
    """Returns the names of entries next to their marks, moved apart; gray entries have a tooltip only.

    Args:
        leaderboard: The leaderboard.
        places: The pixel next to which each name belongs.
        y: The scale, whose ends bound the names.
        titles: What is written where it is not the entry's name.
    """
    style = styles(leaderboard)
    shown = [entry_name for entry_name in places if style[entry_name] != OTHER]
    heights: Sequence[float] = apart(
        [places[entry_name][1] + 4 for entry_name in shown], _LINE, y.end + 4, y.start - 3
    )
    return [
        group(
            entry_name,
            style[entry_name],
            title,
            [words(places[entry_name][0], height, shortened(title, 14), "label")],
        )
        for entry_name, height in zip(shown, heights, strict=True)
        for title in [titles.get(entry_name, entry_name)]
    ]
