"""The board as data files: CSV long and wide, LaTeX, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence

from lmrl_bench.leaderboards.estimates import BoardOverview
from lmrl_bench.leaderboards.ranking import SPLIT, UNMASKED
from lmrl_bench.leaderboards.render.columns import (
    DAGGER,
    NOTHING,
    Column,
    cell_text,
    columns,
    decimals,
    row_title,
)
from lmrl_bench.leaderboards.render.headline import scale_words
from lmrl_bench.leaderboards.render.intervals import estimate_text
from lmrl_bench.leaderboards.render.palette import titles
from lmrl_bench.leaderboards.render.words import masked_note
from lmrl_bench.leaderboards.table import BoardTable, Row, Summary, TaskTable

_LONG = (
    "board", "task", "row", "algorithm", "masked", "seed", "status", "decoding", "measure", "value",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", NOTHING: "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$", DAGGER: r"$\dagger$",
}  # fmt: skip


def json_text(board: BoardTable) -> str:
    """Returns board.json: the table object; intervals are [low, high]."""
    return board.model_dump_json(indent=1) + "\n"


def schema_text() -> str:
    """Returns board.schema.json: the JSON Schema (draft 2020-12) of board.json."""
    schema = BoardTable.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A board"}
    return json.dumps({**schema, **head}, indent=1, ensure_ascii=False) + "\n"


def csv_long(board: BoardTable) -> str:
    """Returns table.csv: one line per seed, decoding and measure; seeds without values have one."""
    lines = [_csv([_LONG])]
    for table in board.tasks:
        for row in table.rows:
            lines += _lines(row, _fields(board.name, table.task, row.label, row.algorithm))
    return "".join(lines)


def _lines(row: Row, name: str) -> Iterator[str]:
    """Yields the lines of a row; of a large board they are too many for a writer that looks at every letter."""
    measures = [
        (_masked(row, decoding), _fields(decoding, measure), summary.points)
        for decoding, measure, summary in _measures(row)
    ]
    position = 0
    for run in row.runs:
        if run.status != "completed":
            yield f"{name},,{run.seed},{run.status},,,\n"
            continue
        for masked, measure, points in measures:
            yield f"{name},{masked},{run.seed},{run.status},{measure},{points[position]!r}\n"
        position += 1


def csv_wide(board: BoardTable) -> str:
    """Returns table_wide.csv: one line per task and row; mean, low, high and n of every measure."""
    keys = list(dict.fromkeys(c.key for t in board.tasks for c in columns(t, everything=True)))
    parts = ("mean", "low", "high", "n")
    head = [
        "task",
        "row",
        "algorithm",
        "masked",
        "completed",
        "seeds",
        *(f"{k}:{p}" for k in keys for p in parts),
    ]
    lines: list[Sequence[object]] = [head]
    for table in board.tasks:
        by_key = {column.key: column for column in columns(table, everything=True)}
        for row in table.rows:
            done = (row.counts["completed"], len(row.runs))
            line = [table.task, row.label, row.algorithm, _masked(row, SPLIT), *done]
            lines.append([*line, *(v for key in keys for v in _wide(by_key.get(key), row))])
    return _csv(lines)


def latex(board: BoardTable) -> str:
    r"""Returns table.tex: a booktabs table of the whole and one per task (`\usepackage{booktabs}`)."""
    head = "% Made by lmrl-bench leaderboard build; needs \\usepackage{booktabs}.\n"
    tables = [_latex_table(board, table) for table in board.tasks if table.info is not None]
    if board.overview is not None:
        tables.insert(0, _latex_whole(board, board.overview))
    return head + "\n".join(tables)


def _masked(row: Row, decoding: str) -> str:
    """Whether responses were drawn through the row's own action mask; empty for costs."""
    if not decoding:
        return ""
    return "yes" if row.masked and decoding != UNMASKED else "no"


def _measures(row: Row) -> Iterator[tuple[str, str, Summary]]:
    """Yields decoding, measure and summary of what every completed seed has."""
    for name, split in row.splits.items():
        for metric, summary in split.metrics.items():
            yield name, f"metric/{metric}", summary
        yield name, "reward", split.reward
        yield name, "kl_to_reference", split.kl_to_reference
        yield name, "mean_length", split.mean_length
        yield name, "truncated_share", split.truncated_share
    for measure, cost in (("tokens", row.tokens), ("wall_s", row.wall_s), ("cpu_s", row.cpu_s)):
        if cost is not None and cost.n == row.counts["completed"]:
            yield "", measure, cost


def _wide(column: Column | None, row: Row) -> tuple[object, object, object, object]:
    summary = column.value(row) if column else None
    if summary is None:
        return "", "", "", ""
    if summary.mean is None or summary.interval is None:
        return "", "", "", summary.n
    return summary.mean, *summary.interval, summary.n


def _fields(*values: str) -> str:
    return _csv([values]).removesuffix("\n")


def _csv(lines: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _latex_table(board: BoardTable, table: TaskTable) -> str:
    shown = [(c, decimals(c, table)) for c in columns(table) if c.kind == "estimate"]
    body = [
        [_tex(row_title(row)), *(_latex_cell(column, row, places) for column, places in shown)]
        for row in table.rows
    ]
    caption = (
        f"{board.title}, {table.task}: mean and 95 % Student-t interval over {len(board.seeds)} "
        "seeds; bold: the best and all rows that Welch's interval of the difference does not "
        f"separate from it. {masked_note(table.rows).replace('*', '')}"
    ).strip()
    heads = ["Row", *(_tex(column.title) for column, _ in shown)]
    return _latex_float(caption, f"{board.name}-{table.task}", heads, body)


def _latex_whole(board: BoardTable, found: BoardOverview) -> str:
    """The aggregates over all tasks; bold is the leading group of ties."""
    names = titles(board)
    body = []
    for row in found.rows:
        texts = [
            _tex(estimate_text(e)) if e else "--" for e in (row.iqm, row.mean, row.optimality_gap)
        ]
        if row.group == 1:
            texts[0] = rf"\textbf{{{texts[0]}}}"
        rank = f"{row.rank[0]}--{row.rank[1]}" if row.rank else "--"
        body.append([_tex(names.get(row.row, row.row)), rank, *texts, str(row.collapsed)])
    caption = (
        f"{board.title}, all tasks: interquartile mean, mean and optimality gap of scores ("
        f"{scale_words(found)}) with 95 % intervals from a stratified bootstrap over "
        f"{found.seeds} seeds, widened for their number; bold: the leading group of ties."
    )
    heads = ["Row", "Rank", "IQM", "Mean", "Gap", "Collapsed"]
    return _latex_float(caption, f"{board.name}-all", heads, body)


def _latex_float(
    caption: str, label: str, heads: Sequence[str], body: Sequence[Sequence[str]]
) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(heads)} \\",
            r"\midrule",
            *(rf"{' & '.join(line)} \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(column: Column, row: Row, places: int) -> str:
    text = _tex(cell_text(column, row, places))
    return (
        rf"\textbf{{{text}}}" if column.measure is not None and column.measure in row.best else text
    )


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
