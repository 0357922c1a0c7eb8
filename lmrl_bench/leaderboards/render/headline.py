"""The result of a board in plain words: who leads, by how much, and how sure that is.

Markdown's emphasis marks are the only markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmrl_bench.leaderboards.estimates import BoardOverview, Estimate
from lmrl_bench.leaderboards.overview import RANKED_SEEDS
from lmrl_bench.leaderboards.render.columns import number, unmasked_title
from lmrl_bench.leaderboards.render.palette import titles
from lmrl_bench.leaderboards.table import BoardTable

PROVISIONAL = "provisional"
_REFERENCE_SCALE = "means of the zero-shot and the supervised row"


def lead(board: BoardTable) -> list[str]:
    """Returns the sentences at the top of the page."""
    found = board.overview
    if found is None:
        return [f"There is no comparison over all tasks: {board.no_overview}."]
    rows = {row.row: row for row in found.rows}
    names = titles(board)
    lines = []
    if found.groups:
        first = rows[found.groups[0][0]]
        group = joined([f"**{names[label]}**" for label in found.groups[0]])
        verb = "leads" if len(found.groups[0]) == 1 else "lead together, tied,"
        of_first = "its" if len(found.groups[0]) == 1 else f"{names[first.label]}'s"
        tasks = len(board.tasks)
        whole = "the board's one task" if tasks == 1 else f"all {tasks} tasks"
        assert first.iqm is not None  # a row in a group has no missing run
        lines.append(
            f"{group} {verb} over {whole}: {of_first} score is "
            f"**{_with_interval(first.iqm)}**, where {scale_words(found)}."
        )
        bare = rows.get(unmasked_title(first.label))
        if bare is not None and bare.iqm is not None:
            lines.append(
                f"That is with an action mask of its own; without it {first.label} scores "
                f"{_with_interval(bare.iqm)}."
            )
    if len(found.groups) > 1:
        second = rows[found.groups[1][0]]
        group = joined([names[label] for label in found.groups[1]])
        tied = ", which are tied" if len(found.groups[1]) > 1 else ""
        assert second.behind is not None
        lines.append(f"Next, {_with_interval(second.behind)} behind: {group}{tied}.")
    missing = [names[row.label] for row in found.rows if row.ranked and row.missing]
    if missing:
        lines.append(f"Without a rank, because runs are missing: {joined(missing)}.")
    collapsed = sum(row.collapsed for row in found.rows if row.ranked)
    if collapsed:
        runs = "1 run failed or diverged and counts" if collapsed == 1 else (
            f"{collapsed} runs failed or diverged and count"
        )  # fmt: skip
        lines.append(f"{runs} as the floor.")
    return lines


def facts(board: BoardTable) -> list[tuple[str, str]]:
    """Returns how sure the result is: seeds, smallest difference, what a tie means."""
    seeds = len(board.seeds)
    status = f"{seeds} per row."
    if seeds < RANKED_SEEDS:
        status += f" **{PROVISIONAL.capitalize()}:** a firm rank needs at least {RANKED_SEEDS}."
    found = [("Seeds", status)]
    if board.power:
        parts = [
            f"{_short(power.detectable)} {power.metric} ({power.task})" for power in board.power
        ]
        found.append(
            (
                "Smallest difference this board can detect",
                f"{joined(parts)}, between two rows, with 80 % power. Smaller ones may be there unseen.",
            )
        )
    if board.overview and board.overview.groups:
        found.append(
            (
                "Tied",
                "The 95 % interval of the difference to the first row of the group contains 0. That is "
                "no proof of equality.",
            )
        )
    return found


def scale_words(found: BoardOverview) -> str:
    """Returns what 0 and 1 are."""
    if all(scale.source == _REFERENCE_SCALE for scale in found.scales):
        return "0 is the zero-shot policy and 1 the supervised one"
    return "0 is the floor and 1 the ceiling of each task"


def joined(words: Sequence[str]) -> str:
    """Returns "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _with_interval(found: Estimate) -> str:
    low, high = number(found.low, 2), number(found.high, 2)
    return f"{number(found.value, 2)} (95 % interval {low} to {high})"


def _short(value: float) -> str:
    """Two significant digits and no exponent, for sizes that are no measurement themselves."""
    return f"{float(f'{value:.2g}'):,.10g}"
