"""The board as one self-contained HTML page: no network, readable without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from lmrl_bench.leaderboards.render.columns import (
    Column,
    cell_text,
    columns,
    decimals,
    number,
    row_title,
    seeds_text,
    unmasked_primary,
    unmasked_title,
)
from lmrl_bench.leaderboards.render.plots import inline, intervals_svg
from lmrl_bench.leaderboards.render.words import (
    LEGEND,
    VERDICT_HEADS,
    fidelity_note,
    masked_note,
    rebuild_command,
    tuning_note,
    untrained_note,
    verdicts,
)
from lmrl_bench.leaderboards.table import BoardTable, Row, TaskTable

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def page(board: BoardTable, curves: Mapping[str, str]) -> str:
    """Returns index.html.

    Args:
        board: The board.
        curves: The learning curves as SVG, by task; tasks without curves are left out.
    """
    return _environment().get_template("board.html.j2").render(
        board=board,
        overview=_overview(board),
        sections=[_section(board, table, curves) for table in board.tasks],
        tuning=tuning_note(board),
        untrained=untrained_note(board),
        masked=_emphasised(masked_note(row for table in board.tasks for row in table.rows)),
        verdict_heads=VERDICT_HEADS,
        legend=[_emphasised(line) for line in LEGEND],
        command=rebuild_command(board),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _overview(board: BoardTable) -> list[dict[str, Any]]:
    """One line per row: its primary metric on every task; without its own mask in a line below."""
    lines = []
    for position, label in enumerate(board.labels):
        rows = [table.rows[position] for table in board.tasks]
        titles = [row_title(row) for row in rows if row.masked]
        firsts = [columns(table)[0] if table.info else None for table in board.tasks]
        lines.append(
            {"label": (titles or [label])[0], "cells": _overview_cells(board, rows, firsts)}
        )
        if titles:
            bare = [unmasked_primary(table) for table in board.tasks]
            cells = _overview_cells(board, rows, bare)
            lines.append({"label": unmasked_title(label), "cells": cells})
    return lines


def _overview_cells(
    board: BoardTable, rows: Sequence[Row], found: Sequence[Column | None]
) -> list[dict[str, Any] | None]:
    return [
        None if column is None else _cell(column, row, table, True)
        for table, row, column in zip(board.tasks, rows, found, strict=True)
    ]


def _section(board: BoardTable, table: TaskTable, curves: Mapping[str, str]) -> dict[str, Any]:
    shown = columns(table, everything=True)
    info = table.info
    return {
        "table": table,
        "columns": shown,
        "rows": [
            {
                "row": row,
                "title": row_title(row),
                "cells": [_cell(column, row, table, column is shown[0]) for column in shown],
                "seeds": seeds_text(row),
            }
            for row in table.rows
        ],
        "masked": _emphasised(masked_note(table.rows)),
        "marked": _emphasised(fidelity_note(table.rows)),
        "verdicts": verdicts(table),
        "intervals": _svg(intervals_svg(board, table), f"i-{table.task}") if info else None,
        "curves": _svg(curves[table.task], f"c-{table.task}") if table.task in curves else None,
        "samples": [
            {
                "sample": sample,
                "scores": list(dict.fromkeys(k for a in sample.answers for k in a.scores)),
            }
            for sample in table.samples
        ],
    }


def _cell(column: Column, row: Row, table: TaskTable, count: bool) -> dict[str, Any]:
    summary = column.value(row)
    points = summary.points if summary else []
    places = decimals(column, table)
    return {
        "text": cell_text(column, row, table, count=count),
        "best": column.measure is not None and column.measure in row.best,
        "value": sum(points) / len(points) if points else "",
        "points": ", ".join(number(point, places) for point in points),
    }


def _svg(svg: str, prefix: str) -> Markup:
    return Markup(inline(svg, prefix))  # made by matplotlib, which escapes texts


def _emphasised(line: str) -> Markup:
    """The legend's Markdown emphasis and code as HTML."""
    text = str(escape(line))
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", text))  # escaped above
