"""The board as data files: CSV long and wide, LaTeX, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence

from lmrl_bench.leaderboards.ranking import SPLIT, UNMASKED
from lmrl_bench.leaderboards.render.columns import (
    DAGGER,
    NOTHING,
    Column,
    cell_text,
    columns,
    row_title,
)
from lmrl_bench.leaderboards.render.words import masked_note
from lmrl_bench.leaderboards.table import BoardTable, Row, TaskTable

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
    content = board.model_dump(mode="json")
    if board.tuning is None:  # as in files that were made before boards could declare one
        del content["tuning"]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def csv_long(board: BoardTable) -> str:
    """Returns table.csv: one line per seed, decoding and measure; seeds without values have one."""
    lines: list[Sequence[object]] = [_LONG]
    for table in board.tasks:
        for row in table.rows:
            for run in row.runs:
                name, of_run = (
                    (board.name, table.task, row.label, row.algorithm),
                    (run.seed, run.status),
                )
                values = list(_values(row, run.seed)) if run.status == "completed" else []
                lines += [(*name, _masked(row, value[0]), *of_run, *value) for value in values] or [
                    (*name, "", *of_run, "", "", "")
                ]
    return _csv(lines)


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
    r"""Returns table.tex: one booktabs table per task (`\usepackage{booktabs}`)."""
    head = "% Made by lmrl-bench board build; needs \\usepackage{booktabs}.\n"
    return head + "\n".join(_latex_table(board, t) for t in board.tasks if t.info is not None)


def _masked(row: Row, decoding: str) -> str:
    """Whether responses were drawn through the row's own action mask; empty for costs."""
    if not decoding:
        return ""
    return "yes" if row.masked and decoding != UNMASKED else "no"


def _values(row: Row, seed: int) -> Iterator[tuple[str, str, float]]:
    """Yields decoding, measure and value of a completed seed."""
    position = [run.seed for run in row.runs if run.status == "completed"].index(seed)
    for name, split in row.splits.items():
        measures = {
            **{f"metric/{metric}": summary for metric, summary in split.metrics.items()},
            "reward": split.reward,
            "kl_to_reference": split.kl_to_reference,
            "mean_length": split.mean_length,
            "truncated_share": split.truncated_share,
        }
        for measure, summary in measures.items():
            yield name, measure, summary.points[position]
    for measure, cost in (("tokens", row.tokens), ("wall_s", row.wall_s), ("cpu_s", row.cpu_s)):
        if cost is not None and cost.n == row.counts["completed"]:
            yield "", measure, cost.points[position]


def _wide(column: Column | None, row: Row) -> tuple[object, object, object, object]:
    summary = column.value(row) if column else None
    if summary is None:
        return "", "", "", ""
    if summary.mean is None or summary.interval is None:
        return "", "", "", summary.n
    return summary.mean, *summary.interval, summary.n


def _csv(lines: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _latex_table(board: BoardTable, table: TaskTable) -> str:
    shown = [column for column in columns(table) if column.kind == "estimate"]
    heads = " & ".join(["Row", *(_tex(column.title) for column in shown)])
    body = [
        " & ".join([_tex(row_title(row)), *(_latex_cell(column, row, table) for column in shown)])
        for row in table.rows
    ]
    caption = (
        f"{board.title}, {table.task}: mean and 95 % Student-t interval over {len(board.seeds)} "
        "seeds; bold: the best and all rows that Welch's interval of the difference does not "
        f"separate from it. {masked_note(table.rows).replace('*', '')}"
    ).strip()
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(caption)}}}",
            rf"\label{{tab:{board.name}-{table.task}}}",
            rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *(rf"{line} \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(column: Column, row: Row, table: TaskTable) -> str:
    text = _tex(cell_text(column, row, table))
    return (
        rf"\textbf{{{text}}}" if column.measure is not None and column.measure in row.best else text
    )


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
