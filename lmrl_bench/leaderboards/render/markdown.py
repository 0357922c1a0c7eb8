"""The board as Markdown: the README of its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmrl_bench.leaderboards.estimates import BoardOverview, Estimate
from lmrl_bench.leaderboards.render.columns import (
    cell_text,
    columns,
    decimals,
    row_title,
    seeds_text,
    unmasked_primary,
    unmasked_title,
)
from lmrl_bench.leaderboards.render.headline import facts, lead
from lmrl_bench.leaderboards.render.intervals import estimate_text
from lmrl_bench.leaderboards.render.palette import titles
from lmrl_bench.leaderboards.render.verification import BADGE, badge
from lmrl_bench.leaderboards.render.words import (
    LEGEND,
    VERDICT_HEADS,
    check_command,
    decoding_note,
    fidelity_note,
    masked_note,
    rebuild_command,
    tuning_note,
    untrained_note,
    verdicts,
)
from lmrl_bench.leaderboards.table import BoardTable, Row, TaskTable

FILES = "[page](index.html) · [table.csv](table.csv) · [table_wide.csv](table_wide.csv) · " \
    "[table.tex](table.tex) · [board.json](board.json)"  # fmt: skip


def markdown(board: BoardTable) -> str:
    """Returns README.md."""
    parts = [
        f"<!-- Made by `{rebuild_command(board)}`; do not edit. -->",
        f"# {board.title}",
        board.description,
        FILES,
        " ".join(lead(board)),
        "\n".join(f"- {term}: {text}" for term, text in facts(board)),
        tuning_note(board),
        *_overview(board),
        untrained_note(board),
        decoding_note(board),
        *_findings(board),
        *(_whole(board, board.overview) if board.overview else []),
    ]
    for table in board.tasks:
        parts += _task(board, table)
    parts += ["## How to read this", "\n".join(f"- {line}" for line in LEGEND)]
    if board.unlisted:
        parts += [
            "Records in the results folder that this board does not ask for (not used): "
            + ", ".join(f"`{name}`" for name in board.unlisted)
        ]
    parts += [
        "## Rebuild",
        f"```\n{rebuild_command(board)}\n{check_command(board)}\n```",
        "The first line makes these files from the committed records; the second fails if they are "
        "stale.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _findings(board: BoardTable) -> list[str]:
    """What the authors of the board read from it."""
    points = "\n".join(f"- {' '.join(point.split())}" for point in board.findings)
    return ["## What it says", points] if points else []


def _overview(board: BoardTable) -> list[str]:
    """The primary metric of every task in one table; without their own masks in a line below."""
    heads = ["row"]
    for table in board.tasks:
        found = columns(table)
        heads.append(f"{table.task}<br>{found[0].title}" if found else table.task)
    lines = []
    for position, label in enumerate(board.labels):
        rows = [table.rows[position] for table in board.tasks]
        name = next((row_title(row) for row in rows if row.masked), label)
        lines.append([_escape(name), *map(_overview_cell, board.tasks, rows)])
        if any(row.masked for row in rows):
            cells = map(_unmasked_cell, board.tasks, rows)
            lines.append([_escape(unmasked_title(label)), *cells])
    return [_table(heads, lines), masked_note(row for table in board.tasks for row in table.rows)]


def _overview_cell(table: TaskTable, row: Row) -> str:
    found = columns(table)
    if not found:
        return "missing"
    return _marked(
        cell_text(found[0], row, decimals(found[0], table), count=True),
        found[0].measure in row.best,
    )


def _unmasked_cell(table: TaskTable, row: Row) -> str:
    column = unmasked_primary(table)
    if column is None:
        return "missing"
    return cell_text(column, row, decimals(column, table), count=True)


def _whole(board: BoardTable, found: BoardOverview) -> list[str]:
    """All tasks together: ranks, groups of ties, aggregates, and the matrix of improvements."""
    names = titles(board)
    rows = {row.row: row for row in found.rows}
    order = [label for group in found.groups for label in group]
    order += [row.row for row in found.rows if row.row not in order]
    lines = [
        [
            _escape(names.get(name, name)),
            f"{row.rank[0]}-{row.rank[1]}" if row.rank else "",
            str(row.group or ""),
            *map(_estimate, (row.iqm, row.mean, row.optimality_gap)),
            str(row.collapsed),
            str(row.missing),
        ]
        for name in order
        for row in [rows[name]]
    ]
    heads = ("row", "rank", "tie group", "IQM", "mean", "gap", "collapsed", "missing")
    return ["## All tasks together", _table(heads, lines), *_improvements(found, order, names)]


def _improvements(
    found: BoardOverview, order: Sequence[str], names: Mapping[str, str]
) -> list[str]:
    values = {(pair.first, pair.second): pair.probability.value for pair in found.improvements}
    values |= {(second, first): 1 - value for (first, second), value in values.items()}
    shown = [name for name in order if any(name in pair for pair in values)]
    if not shown:
        return []
    lines = [
        [
            _escape(names[first]),
            *(f"{values[first, second]:.2f}" if first != second else "" for second in shown),
        ]
        for first in shown
    ]
    return [
        "How probably a run of the row beats one of the column, on a task drawn at random:",
        _table(["row", *(_escape(names[name]) for name in shown)], lines),
    ]


def _estimate(found: Estimate | None) -> str:
    return "missing" if found is None else estimate_text(found)


def _task(board: BoardTable, table: TaskTable) -> list[str]:
    if table.info is None:
        return [f"## {table.task}", "No run of this task has completed yet."]
    shown = [(column, decimals(column, table)) for column in columns(table)]
    rows = []
    for row in table.rows:
        texts = [
            _marked(cell_text(c, row, places), c.measure is not None and c.measure in row.best)
            for c, places in shown
        ]
        rows.append([_escape(row_title(row)), *texts, seeds_text(row), badge(row)])
    parts = [
        f"## {table.task}",
        f"Task version {table.info.version}, reward `{_code(table.info.reward_signature)}`.",
        _table(["row", *(c.title for c, _ in shown), "seeds", BADGE], rows),
        masked_note(table.rows),
        fidelity_note(table.rows),
    ]
    if found := verdicts(table):
        parts += [
            f"Against the supervised policy (row `{board.reference.supervised}`):",
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
