"""The leaderboard as data files: CSV long and wide, LaTeX, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence

from lmrl_bench.leaderboards.estimates import LeaderboardOverview
from lmrl_bench.leaderboards.ranking import DAGGER, UNFILTERED, filtered_title
from lmrl_bench.leaderboards.render.columns import (
    NOTHING,
    Column,
    cell_text,
    columns,
    decimals,
    entry_lines,
)
from lmrl_bench.leaderboards.render.headline import scale_words
from lmrl_bench.leaderboards.render.intervals import estimate_text
from lmrl_bench.leaderboards.render.words import filtered_note
from lmrl_bench.leaderboards.table import EntryResults, LeaderboardTable, Summary, TaskTable

_LONG = (
    "leaderboard", "task", "entry", "algorithm", "filtered", "seed", "status", "decoding", "measure", "value",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", NOTHING: "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$", DAGGER: r"$\dagger$",
}  # fmt: skip


def json_text(leaderboard: LeaderboardTable) -> str:
    """Returns leaderboard.json: the table object; intervals are [low, high]."""
    return leaderboard.model_dump_json(indent=1) + "\n"


def schema_text() -> str:
    """Returns leaderboard.schema.json: the JSON Schema (draft 2020-12) of leaderboard.json."""
    schema = LeaderboardTable.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A leaderboard"}
    return json.dumps({**schema, **head}, indent=1, ensure_ascii=False) + "\n"


def csv_long(leaderboard: LeaderboardTable) -> str:
    """Returns table.csv: one line per seed, decoding and measure; seeds without values have one."""
    lines = [_csv([_LONG])]
    for table in leaderboard.tasks:
        for entry in table.entries:
            lines += _lines(
                entry, _fields(leaderboard.name, table.task, entry.entry, entry.algorithm)
            )
    return "".join(lines)


def _lines(entry: EntryResults, name: str) -> Iterator[str]:
    """Yields the lines of an entry, faster than `csv.writer`: a large leaderboard has many."""
    measures = [
        (_filtered(entry, decoding), _fields(decoding, measure), summary.points)
        for decoding, measure, summary in _measures(entry)
    ]
    position = 0
    for run in entry.runs:
        if run.status != "completed":
            yield f"{name},,{run.seed},{run.status},,,\n"
            continue
        for filtered, measure, points in measures:
            yield f"{name},{filtered},{run.seed},{run.status},{measure},{points[position]!r}\n"
        position += 1


def csv_wide(leaderboard: LeaderboardTable) -> str:
    """Returns table_wide.csv: one line per task and entry; mean, low, high and n of every measure.

    An entry with a token filter of its own has a second line, `filtered`, with its numbers through it.
    """
    keys = list(
        dict.fromkeys(c.key for t in leaderboard.tasks for c in columns(t, everything=True))
    )
    parts = ("mean", "low", "high", "n")
    head = [
        "task",
        "entry",
        "algorithm",
        "filtered",
        "completed",
        "seeds",
        *(f"{k}:{p}" for k in keys for p in parts),
    ]
    lines: list[Sequence[object]] = [head]
    for table in leaderboard.tasks:
        by_key = {column.key: column for column in columns(table, everything=True)}
        for title, entry in entry_lines(table.entries):
            done = (entry.counts["completed"], len(entry.runs))
            filtered = "yes" if title == filtered_title(entry.entry) else "no"
            line = [table.task, entry.entry, entry.algorithm, filtered, *done]
            lines.append([*line, *(v for key in keys for v in _wide(by_key.get(key), entry))])
    return _csv(lines)


def latex(leaderboard: LeaderboardTable) -> str:
    r"""Returns table.tex: a booktabs table of the whole and one per task (`\usepackage{booktabs}`)."""
    head = "% Made by lmrl-bench leaderboard build; needs \\usepackage{booktabs}.\n"
    tables = [
        _latex_table(leaderboard, table) for table in leaderboard.tasks if table.info is not None
    ]
    if leaderboard.overview is not None:
        tables.insert(0, _latex_whole(leaderboard, leaderboard.overview))
    return head + "\n".join(tables)


def _filtered(entry: EntryResults, decoding: str) -> str:
    """Returns whether completions were drawn through the entry's own token filter; empty for costs."""
    if not decoding:
        return ""
    return "yes" if entry.filtered and decoding != UNFILTERED else "no"


def _measures(entry: EntryResults) -> Iterator[tuple[str, str, Summary]]:
    """Yields decoding, measure and summary of what every completed seed has."""
    for name, split in entry.splits.items():
        for metric, summary in split.metrics.items():
            yield name, f"metric/{metric}", summary
        yield name, "reward", split.reward
        if split.kl_to_reference is not None:
            yield name, "kl_to_reference", split.kl_to_reference
        yield name, "mean_length", split.mean_length
        yield name, "truncated_share", split.truncated_share
    for measure, cost in (
        ("tokens", entry.tokens),
        ("wall_s", entry.wall_s),
        ("cpu_s", entry.cpu_s),
    ):
        if cost is not None and cost.n == entry.counts["completed"]:
            yield "", measure, cost


def _wide(column: Column | None, entry: EntryResults) -> tuple[object, object, object, object]:
    summary = column.value(entry) if column else None
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


def _latex_table(leaderboard: LeaderboardTable, table: TaskTable) -> str:
    shown = [(c, decimals(c, table)) for c in columns(table) if c.kind == "estimate"]
    body = [
        [
            _tex(title),
            *(_latex_cell(column, entry, places) for column, places in shown),
        ]
        for title, entry in entry_lines(table.entries)
    ]
    caption = (
        f"{leaderboard.title}, {table.task}: mean and 95 % Student-t interval over {len(leaderboard.seeds)} "
        "seeds; bold: the best and all entries that Welch's interval of the difference does not "
        f"separate from it. {filtered_note(table.entries).replace('*', '')}"
    ).strip()
    heads = ["Entry", *(_tex(column.title) for column, _ in shown)]
    return _latex_float(caption, f"{leaderboard.name}-{table.task}", heads, body)


def _latex_whole(leaderboard: LeaderboardTable, found: LeaderboardOverview) -> str:
    """The aggregates over all tasks; bold is the leading group of ties."""
    body = []
    for entry in found.entries:
        texts = [
            _tex(estimate_text(e)) if e else "--"
            for e in (entry.iqm, entry.mean, entry.optimality_gap)
        ]
        if entry.group == 1:
            texts[0] = rf"\textbf{{{texts[0]}}}"
        rank = f"{entry.rank[0]}--{entry.rank[1]}" if entry.rank else "--"
        body.append([_tex(entry.title), rank, *texts, str(entry.collapsed)])
    caption = (
        f"{leaderboard.title}, all tasks: interquartile mean, mean and optimality gap of scores ("
        f"{scale_words(found)}) with 95 % intervals from a stratified bootstrap over "
        f"{found.seeds} seeds, widened for their number; bold: the leading group of ties."
    )
    heads = ["Entry", "Rank", "IQM", "Mean", "Gap", "Collapsed"]
    return _latex_float(caption, f"{leaderboard.name}-all", heads, body)


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


def _latex_cell(column: Column, entry: EntryResults, places: int) -> str:
    text = _tex(cell_text(column, entry, places))
    return (
        rf"\textbf{{{text}}}"
        if column.measure is not None and column.measure in entry.best
        else text
    )


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
