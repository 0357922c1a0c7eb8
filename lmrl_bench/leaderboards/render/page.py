"""The leaderboard as one self-contained HTML page: no network, readable without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from lmrl_bench.core.wording import counted
from lmrl_bench.leaderboards.estimates import EntryOverview, LeaderboardOverview
from lmrl_bench.leaderboards.overview import PAIRED_ENTRIES, significant_tests
from lmrl_bench.leaderboards.ranking import entry_title, filtered_title
from lmrl_bench.leaderboards.render.columns import (
    NOTHING,
    Column,
    cell_text,
    columns,
    decimals,
    entry_lines,
    number,
    seeds_text,
)
from lmrl_bench.leaderboards.render.headline import PROVISIONAL, facts, lead, scale_words
from lmrl_bench.leaderboards.render.intervals import (
    estimate_text,
    inline_axis,
    inline_interval,
    interval_svg,
    overall_svg,
)
from lmrl_bench.leaderboards.render.palette import OTHER, order, styles
from lmrl_bench.leaderboards.render.profiles import drift_svg, profile_svg
from lmrl_bench.leaderboards.render.verification import badge, checked
from lmrl_bench.leaderboards.render.words import (
    LEGEND,
    VERDICT_HEADS,
    cells_words,
    check_command,
    control_note,
    decoding_note,
    fidelity_note,
    filtered_note,
    rebuild_command,
    table_caption,
    tuning_note,
    untrained_note,
    verdicts,
)
from lmrl_bench.leaderboards.table import (
    EntryResults,
    LeaderboardTable,
    Run,
    ShownSample,
    TaskTable,
)

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def page(leaderboard: LeaderboardTable, curves: Mapping[str, str]) -> str:
    """Returns index.html.

    Args:
        leaderboard: The leaderboard, with its statistics.
        curves: The learning curves as SVG, by task; tasks without curves are left out.
    """
    style = styles(leaderboard)
    return _environment().get_template("leaderboard.html.j2").render(
        leaderboard=leaderboard,
        lead=[_emphasized(line) for line in lead(leaderboard)],
        facts=[(term, _emphasized(text)) for term, text in facts(leaderboard)],
        provisional=PROVISIONAL if leaderboard.overview and leaderboard.overview.provisional else "",
        findings=[_emphasized(point) for point in leaderboard.findings],
        ranking=_ranking_lines(leaderboard),
        score_axis=Markup(inline_axis(leaderboard.overview)) if leaderboard.overview else "",
        whole=_whole(leaderboard, leaderboard.overview) if leaderboard.overview else None,
        sections=[_section(leaderboard, table, curves) for table in leaderboard.tasks],
        key=[(entry_name, style[entry_name]) for entry_name in leaderboard.entries],
        gray=sum(name == OTHER for name in style.values()),
        tuning=tuning_note(leaderboard),
        caption=" ".join(
            filter(None, (note(leaderboard) for note in (table_caption, untrained_note, control_note, decoding_note)))
        ),
        filtered=_emphasized(filtered_note(entry for table in leaderboard.tasks for entry in table.entries)),
        verdict_heads=VERDICT_HEADS,
        legend=[_emphasized(line) for line in LEGEND],
        command=rebuild_command(leaderboard),
        check=check_command(leaderboard),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["counted"] = counted
    return environment


def _ranking_lines(leaderboard: LeaderboardTable) -> list[dict[str, Any]]:
    """One line per entry, best first: rank, score, primary metrics; through its token filter in a line below."""
    style = styles(leaderboard)
    entries = (
        {entry.name: entry for entry in leaderboard.overview.entries}
        if leaderboard.overview
        else {}
    )
    firsts = [_first_column(table, columns(table)) for table in leaderboard.tasks]
    by_entry = {
        entry_name: [_of(table, entry_name) for table in leaderboard.tasks]
        for entry_name in leaderboard.entries
    }
    lines: list[dict[str, Any]] = []
    group = None
    for entry_name in order(leaderboard):
        of_tasks = by_entry[entry_name]
        found = entries.get(entry_name)
        first_of_group = found is not None and found.group not in (None, group)
        group = found.group if found else None
        line = _line(leaderboard, entry_name, entry_title(*of_tasks), found, style[entry_name])
        cells = map(_primary_cell, firsts, of_tasks)
        lines.append({**line, "cells": list(cells), "first": first_of_group and bool(lines)})
        if any(entry.filtered for entry in of_tasks):
            name = filtered_title(entry_name)
            line = _line(leaderboard, entry_name, name, entries.get(name), style[entry_name])
            acting = [entry.through_filter() or entry for entry in of_tasks]
            cells = map(_primary_cell, firsts, acting)
            lines.append({**line, "cells": list(cells), "first": False})
    return lines


def _line(
    leaderboard: LeaderboardTable,
    entry_name: str,
    title: str,
    found: EntryOverview | None,
    style: str,
) -> dict[str, Any]:
    runs = len(leaderboard.seeds) * len(leaderboard.tasks)
    line: dict[str, Any] = {
        "entry": entry_name,
        "title": title,
        "rank": "",
        "group": "",
        "iqm": None,
        "drawn": "",
        "style": style,
    }
    if found is None or leaderboard.overview is None:
        return line
    lost = [(found.collapsed, "collapsed"), (found.missing, "missing")]
    done = runs - found.collapsed - found.missing
    line |= {
        "group": found.group or "",
        "iqm": found.iqm,
        "score": estimate_text(found.iqm) if found.iqm else "missing",
        "drawn": Markup(
            inline_interval(leaderboard.overview, found, style)
        ),  # escaped where it is made
        "runs": ", ".join([f"{done}/{runs}", *(f"{n} {word}" for n, word in lost if n)]),
        "lost": bool(found.collapsed or found.missing),
    }
    if found.rank:
        low, high = found.rank
        line["rank"] = str(low) if low == high else f"{low}{NOTHING}{high}"
    return line


def _whole(leaderboard: LeaderboardTable, found: LeaderboardOverview) -> dict[str, Any]:
    """Everything over all tasks: plots, aggregates, and the two matrices of pairs."""
    best_first = order(leaderboard)
    ranked = {entry.name for entry in found.entries if entry.rank}
    shown = [entry_name for entry_name in best_first if entry_name in ranked][:PAIRED_ENTRIES]
    separated = significant_tests(found)
    wins: dict[tuple[str, str], int] = {}
    for test in separated:
        pair = (test.first, test.second) if test.difference > 0 else (test.second, test.first)
        wins[pair] = wins.get(pair, 0) + 1
    return {
        "found": found,
        "scale": scale_words(found),
        "intervals": Markup(overall_svg(leaderboard, found)),
        "profile": Markup(profile_svg(leaderboard, found)),
        "shown": shown,
        "matrix": _matrix(found),
        "wins": wins,
        "separated": len(separated),
        "estimates": [
            (entry, [estimate_text(e) if e else "missing" for e in (entry.iqm, entry.mean, entry.optimality_gap)],
             estimate_text(entry.behind) if entry.behind else "")
            for entry in sorted(found.entries, key=lambda entry: best_first.index(entry.entry))
        ],
    }  # fmt: skip


def _matrix(found: LeaderboardOverview) -> dict[tuple[str, str], dict[str, Any]]:
    """The probability of improvement of each entry over each column, with its interval."""
    cells = {}
    for pair in found.improvements:
        p = pair.probability
        for first, second, value, low, high in (
            (pair.first, pair.second, p.value, p.low, p.high),
            (pair.second, pair.first, 1 - p.value, 1 - p.high, 1 - p.low),
        ):
            cells[first, second] = {
                "text": f"{value:.2f}",
                "interval": f"{low:.2f} to {high:.2f}",
                "side": "better" if value > 0.5 else "worse" if value < 0.5 else "even",
                "weight": round(abs(value - 0.5) * 80),
                "sure": low > 0.5 or high < 0.5,
            }
    return cells


def _section(
    leaderboard: LeaderboardTable, table: TaskTable, curves: Mapping[str, str]
) -> dict[str, Any]:
    info = table.info
    shown = [(column, decimals(column, table)) for column in columns(table, everything=True)]
    measures = ["reward", *info.held_out_metrics] if info else []
    return {
        "table": table,
        "columns": [column for column, _ in shown],
        "entries": [
            {
                "entry": entry,
                "title": title,
                "cells": [
                    _cell(column, places, entry, column is shown[0][0]) for column, places in shown
                ],
                "seeds": seeds_text(entry),
                # The line through the filter is of the same runs.
                "sources": [] if title == filtered_title(entry.entry) else _sources(entry),
                "badge": badge(entry),
                "checked": checked(entry),
            }
            for title, entry in entry_lines(table.entries)
        ],
        "filtered": _emphasized(filtered_note(table.entries)),
        "marked": _emphasized(fidelity_note(table.entries)),
        "verdicts": verdicts(table),
        "caption": f"Test split: {cells_words(table.entries)}. Point at a cell for its single seeds.",
        "intervals": Markup(interval_svg(leaderboard, table)) if info else None,
        "curves": Markup(curves[table.task]) if table.task in curves else None,
        "drift": [Markup(svg) for m in measures if (svg := drift_svg(leaderboard, table, m))],
        "samples": [{"sample": sample, "best": _best(table, sample)} for sample in table.samples],
    }


def _best(table: TaskTable, sample: ShownSample) -> dict[str, float]:
    """The best reward, and the best value of each metric that the leaderboard ranks or holds out."""
    info = table.info
    found = {"reward": max(completion.reward for completion in sample.completions)}
    for name in [info.primary_metric, *info.held_out_metrics] if info else []:
        values = [
            completion.scores[name]
            for completion in sample.completions
            if name in completion.scores
        ]
        if values and info:
            direction = info.higher_is_better(name)
            if direction is not None:
                found[name] = (max if direction else min)(values)
    return found


def _sources(entry: EntryResults) -> list[dict[str, Any]]:
    """The runs of an entry by what made them: one command makes those of one source again."""

    def source(run: Run) -> tuple[Any, ...]:
        where = (run.platform, run.device, run.python, sorted(run.packages.items()))
        return (
            run.status == "missing",
            run.command,
            run.package_version,
            run.commit,
            run.dirty,
            *where,
        )

    found = []
    for _, group in groupby(sorted(entry.runs, key=lambda r: (str(source(r)), r.seed)), key=source):
        runs = list(group)
        folder = runs[0].folder.rpartition("/")[0]
        seeds = " ".join(str(run.seed) for run in runs)
        again = (
            f"for seed in {seeds}; do\n"
            f"  lmrl-bench run results/{folder}/$seed/config.yaml --out again/{folder}/$seed\n"
            "done"
        )
        if runs[0].commit:
            # The code alone: the records were committed after it.
            again = f"git checkout {runs[0].commit} -- lmrl_bench tasks\n{again}"
        found.append({"runs": runs, "first": runs[0], "again": again})
    return found


def _first_column(table: TaskTable, found: Sequence[Column]) -> tuple[Column, int] | None:
    return (found[0], decimals(found[0], table)) if found and table.info else None


def _of(table: TaskTable, entry_name: str) -> EntryResults:
    return next(entry for entry in table.entries if entry.entry == entry_name)


def _primary_cell(found: tuple[Column, int] | None, entry: EntryResults) -> dict[str, Any] | None:
    return None if found is None else _cell(*found, entry, False)


def _cell(column: Column, places: int, entry: EntryResults, count: bool) -> dict[str, Any]:
    summary = column.value(entry)
    points = summary.points if summary else []
    return {
        "text": cell_text(column, entry, places, count=count),
        "best": column.measure is not None and column.measure in entry.best,
        "value": sum(points) / len(points) if points else "",
        "points": ", ".join(number(point, places) for point in points),
    }


def _emphasized(line: str) -> Markup:
    """The legend's Markdown emphasis and code as HTML."""
    text = str(escape(line))
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", text))  # escaped above
