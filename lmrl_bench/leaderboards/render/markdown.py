"""The leaderboard as Markdown: the README of its folder."""

from __future__ import annotations

from collections.abc import Sequence

from lmrl_bench.leaderboards.estimates import Estimate, LeaderboardOverview
from lmrl_bench.leaderboards.ranking import entry_title, filtered_title
from lmrl_bench.leaderboards.render.columns import (
    cell_text,
    columns,
    decimals,
    entry_lines,
    seeds_text,
)
from lmrl_bench.leaderboards.render.headline import facts, lead
from lmrl_bench.leaderboards.render.intervals import estimate_text
from lmrl_bench.leaderboards.render.verification import BADGE, badge
from lmrl_bench.leaderboards.render.words import (
    LEGEND,
    VERDICT_HEADS,
    check_command,
    control_note,
    decoding_note,
    fidelity_note,
    filtered_note,
    rebuild_command,
    tuning_note,
    untrained_note,
    verdicts,
)
from lmrl_bench.leaderboards.table import EntryResults, LeaderboardTable, TaskTable

FILES = "[page](index.html) · [table.csv](table.csv) · [table_wide.csv](table_wide.csv) · " \
    "[table.tex](table.tex) · [leaderboard.json](leaderboard.json)"  # fmt: skip

_OVERVIEW = "![IQM of every entry over all tasks, with 95 % intervals; 0 is the floor, 1 the ceiling](overview.svg)"


def markdown(leaderboard: LeaderboardTable) -> str:
    """Returns README.md."""
    parts = [
        f"<!-- Made by `{rebuild_command(leaderboard)}`; do not edit. -->",
        f"# {leaderboard.title}",
        leaderboard.description,
        FILES,
        " ".join(lead(leaderboard)),
        _OVERVIEW if leaderboard.overview else "",
        "\n".join(f"- {term}: {text}" for term, text in facts(leaderboard)),
        tuning_note(leaderboard),
        *_overview(leaderboard),
        untrained_note(leaderboard),
        control_note(leaderboard),
        decoding_note(leaderboard),
        *_findings(leaderboard),
        *(_whole(leaderboard.overview) if leaderboard.overview else []),
    ]
    for table in leaderboard.tasks:
        parts += _task(leaderboard, table)
    parts += ["## How to read this", "\n".join(f"- {line}" for line in LEGEND)]
    if leaderboard.unlisted:
        parts += [
            "Records in the results folder that this leaderboard does not ask for (not used): "
            + ", ".join(f"`{name}`" for name in leaderboard.unlisted)
        ]
    parts += [
        "## Rebuild",
        f"```\n{rebuild_command(leaderboard)}\n{check_command(leaderboard)}\n```",
        "The first line makes these files from the committed records; the second fails if they are "
        "stale.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _findings(leaderboard: LeaderboardTable) -> list[str]:
    """Renders the findings of the leaderboard's authors."""
    points = "\n".join(f"- {' '.join(point.split())}" for point in leaderboard.findings)
    return ["## What it says", points] if points else []


def _overview(leaderboard: LeaderboardTable) -> list[str]:
    """The primary metric of every task in one table; through their own token filters in a line below."""
    heads = ["entry"]
    for table in leaderboard.tasks:
        found = columns(table)
        heads.append(f"{table.task}<br>{found[0].title}" if found else table.task)
    lines = []
    for position, entry_name in enumerate(leaderboard.entries):
        entries = [table.entries[position] for table in leaderboard.tasks]
        title = entry_title(*entries)
        lines.append([_escape(title), *map(_overview_cell, leaderboard.tasks, entries)])
        if any(entry.filtered for entry in entries):
            acting = [entry.through_filter() or entry for entry in entries]
            cells = map(_overview_cell, leaderboard.tasks, acting)
            lines.append([_escape(filtered_title(entry_name)), *cells])
    return [
        _table(heads, lines),
        filtered_note(entry for table in leaderboard.tasks for entry in table.entries),
    ]


def _overview_cell(table: TaskTable, entry: EntryResults) -> str:
    found = columns(table)
    if not found:
        return "missing"
    return _marked(
        cell_text(found[0], entry, decimals(found[0], table), count=True),
        found[0].measure in entry.best,
    )


def _whole(found: LeaderboardOverview) -> list[str]:
    """All tasks together: ranks, groups of ties, aggregates, and the matrix of improvements."""
    entries = {entry.name: entry for entry in found.entries}
    order = [entry_name for group in found.groups for entry_name in group]
    order += [entry.name for entry in found.entries if entry.name not in order]
    lines = [
        [
            _escape(entry.title),
            f"{entry.rank[0]}-{entry.rank[1]}" if entry.rank else "",
            str(entry.group or ""),
            *map(_estimate, (entry.iqm, entry.mean, entry.optimality_gap)),
            str(entry.collapsed),
            str(entry.missing),
        ]
        for name in order
        for entry in [entries[name]]
    ]
    heads = ("entry", "rank", "tie group", "IQM", "mean", "gap", "collapsed", "missing")
    return ["## All tasks together", _table(heads, lines), *_improvements(found, order)]


def _improvements(found: LeaderboardOverview, order: Sequence[str]) -> list[str]:
    values = {(pair.first, pair.second): pair.probability.value for pair in found.improvements}
    values |= {(second, first): 1 - value for (first, second), value in values.items()}
    shown = [name for name in order if any(name in pair for pair in values)]
    if not shown:
        return []
    lines = [
        [
            _escape(first),
            *(f"{values[first, second]:.2f}" if first != second else "" for second in shown),
        ]
        for first in shown
    ]
    return [
        "How probably a run of the entry beats one of the column, on a task drawn at random:",
        _table(["entry", *map(_escape, shown)], lines),
    ]


def _estimate(found: Estimate | None) -> str:
    return "missing" if found is None else estimate_text(found)


def _task(leaderboard: LeaderboardTable, table: TaskTable) -> list[str]:
    if table.info is None:
        return [f"## {table.task}", "No run of this task has completed yet."]
    shown = [(column, decimals(column, table)) for column in columns(table)]
    entries = []
    for title, entry in entry_lines(table.entries):
        texts = [
            _marked(cell_text(c, entry, places), c.measure is not None and c.measure in entry.best)
            for c, places in shown
        ]
        entries.append([_escape(title), *texts, seeds_text(entry), badge(entry)])
    parts = [
        f"## {table.task}",
        f"Task version {table.info.version}, reward `{_code(table.info.reward_signature)}`.",
        _table(["entry", *(c.title for c, _ in shown), "seeds", BADGE], entries),
        filtered_note(table.entries),
        fidelity_note(table.entries),
    ]
    if found := verdicts(table):
        parts += [
            f"Against the SFT policy (entry `{leaderboard.baselines.sft}`):",
            _table(VERDICT_HEADS, [cells for _, cells in found]),
        ]
    if table.curves:
        parts.append(
            f"![Validation reward by generated tokens, {table.task}](curves-{table.task}.svg)"
        )
    return parts


def _marked(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, [":--", *(["--:"] * (len(heads) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")
