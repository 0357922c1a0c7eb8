"""Which row is drawn first and in which colour, the same in every plot of a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmrl_bench.leaderboards.render.columns import row_title
from lmrl_bench.leaderboards.render.svg import Axis, apart, group, shortened, words
from lmrl_bench.leaderboards.table import BoardTable

COLOURS = 8
REFERENCE = "reference"
OTHER = "other"
_LINE = 13


def order(board: BoardTable) -> list[str]:
    """Returns the labels, best first by the IQM; rows without one follow in the board's order."""
    found = board.overview
    ranked = [label for group in found.groups for label in group] if found else []
    return [*ranked, *(label for label in board.labels if label not in ranked)]


def styles(board: BoardTable) -> dict[str, str]:
    """Returns a class per row: the reference rows' grey, or one of eight colours.

    Of more than eight rows the best have the colours, and the others are a thin grey.
    """
    references = board.reference.labels()
    others = [label for label in board.labels if label not in references]
    if len(others) > COLOURS:
        others = [label for label in order(board) if label not in references]
    found = {label: f"s{i}" if i < COLOURS else OTHER for i, label in enumerate(others)}
    return found | dict.fromkeys(references, REFERENCE)


def titles(board: BoardTable) -> dict[str, str]:
    """Returns the names of the rows, with a dagger where one is ranked through its own mask."""
    found = {label: label for label in board.labels}
    for table in board.tasks:
        found |= {row.label: row_title(row) for row in table.rows if row.masked}
    return found


def name_labels(board: BoardTable, places: Mapping[str, tuple[float, float]], y: Axis) -> list[str]:
    """Returns the names of rows beside their marks, moved apart; grey rows have a tooltip only.

    Args:
        board: The board.
        places: The pixel beside which each name belongs.
        y: The scale, whose ends bound the names.
    """
    style, names = styles(board), titles(board)
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
