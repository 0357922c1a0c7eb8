"""The result of a leaderboard in plain words: who leads, by how much, and how sure that is.

Markdown's emphasis marks are the only markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmrl_bench.leaderboards.estimates import Estimate, LeaderboardOverview
from lmrl_bench.leaderboards.overview import RANKED_SEEDS
from lmrl_bench.leaderboards.ranking import filtered_title
from lmrl_bench.leaderboards.render.columns import number
from lmrl_bench.leaderboards.table import LeaderboardTable

PROVISIONAL = "provisional"
_REFERENCE_SCALE = "means of the zero-shot and the SFT entry"


def lead(leaderboard: LeaderboardTable) -> list[str]:
    """Returns the sentences at the top of the page."""
    found = leaderboard.overview
    if found is None:
        return [f"There is no comparison over all tasks: {leaderboard.no_overview}."]
    entries = {entry.name: entry for entry in found.entries}
    lines = []
    if found.groups:
        first = entries[found.groups[0][0]]
        group = joined([f"**{entry_name}**" for entry_name in found.groups[0]])
        verb = "leads" if len(found.groups[0]) == 1 else "lead together, tied,"
        of_first = "its" if len(found.groups[0]) == 1 else f"{first.entry}'s"
        tasks = len(leaderboard.tasks)
        whole = "the leaderboard's one task" if tasks == 1 else f"all {tasks} tasks"
        assert first.iqm is not None  # an entry in a group has no missing run
        lines.append(
            f"{group} {verb} over {whole}: {of_first} score is "
            f"**{_with_interval(first.iqm)}**, where {scale_words(found)}."
        )
        acting = entries.get(filtered_title(first.entry))
        if acting is not None and acting.iqm is not None:
            lines.append(
                f"That is without its token filter; through it {first.entry} scores "
                f"{_with_interval(acting.iqm)}."
            )
        above = _above(leaderboard, first.iqm)
        if above:
            lines.append(f"Controls, which have no rank, score higher: {joined(above)}.")
    if len(found.groups) > 1:
        second = entries[found.groups[1][0]]
        group = joined(found.groups[1])
        tied = ", which are tied" if len(found.groups[1]) > 1 else ""
        assert second.behind is not None
        lines.append(f"Next, {_with_interval(second.behind)} behind: {group}{tied}.")
    missing = [entry.entry for entry in found.entries if entry.ranked and entry.missing]
    if missing:
        lines.append(f"Without a rank, because runs are missing: {joined(missing)}.")
    collapsed = sum(entry.collapsed for entry in found.entries if entry.ranked)
    if collapsed:
        runs = "1 run failed or diverged and counts" if collapsed == 1 else (
            f"{collapsed} runs failed or diverged and count"
        )  # fmt: skip
        lines.append(f"{runs} as the floor.")
    return lines


def _above(leaderboard: LeaderboardTable, first: Estimate) -> list[str]:
    """The controls with a higher score than the first entry, the best first."""
    assert leaderboard.overview is not None
    controls = {entry.entry for entry in leaderboard.tasks[0].entries if entry.control}
    oracles = {e.entry for table in leaderboard.tasks for e in table.entries if e.oracle}
    found = [
        (
            -entry.iqm.value,
            f"{entry.name} {number(entry.iqm.value, 2)}{' (oracle)' * (entry.entry in oracles)}",
        )
        for entry in leaderboard.overview.entries
        if entry.entry in controls and entry.iqm is not None and entry.iqm.value > first.value
    ]
    return [text for _, text in sorted(found)]


def facts(leaderboard: LeaderboardTable) -> list[tuple[str, str]]:
    """Returns how sure the result is: seeds, smallest difference, what a tie means."""
    seeds = len(leaderboard.seeds)
    status = f"{seeds} per entry."
    if seeds < RANKED_SEEDS:
        status += f" **{PROVISIONAL.capitalize()}:** a firm rank needs at least {RANKED_SEEDS}."
    found = [("Seeds", status)]
    if leaderboard.power:
        parts = [
            f"{_short(power.detectable)} {power.metric} ({power.task})"
            for power in leaderboard.power
        ]
        found.append(
            (
                "Smallest difference this leaderboard can detect",
                f"{joined(parts)}, between two entries, with 80 % power. Smaller ones may be there unseen.",
            )
        )
    if leaderboard.overview and leaderboard.overview.groups:
        found.append(
            (
                "Tied",
                "The 95 % interval of the difference to the first entry of the group contains 0. That is "
                "no proof of equality.",
            )
        )
    return found


def scale_words(found: LeaderboardOverview) -> str:
    """Returns what 0 and 1 are."""
    if all(scale.source == _REFERENCE_SCALE for scale in found.scales):
        return "0 is the zero-shot policy and 1 the SFT policy"
    return "0 is the floor and 1 the ceiling of each task"


def joined(words: Sequence[str]) -> str:
    """Returns "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _with_interval(found: Estimate) -> str:
    low, high = number(found.low, 2), number(found.high, 2)
    return f"{number(found.value, 2)} (95 % interval {low} to {high})"


def _short(value: float) -> str:
    """Two significant digits and no exponent, for sizes that are not measurements themselves."""
    return f"{float(f'{value:.2g}'):,.10g}"
