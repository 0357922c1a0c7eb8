"""The report on a submission for its reviewer (`--report`): problems, and the new rows next to the old ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from lmrl_bench.leaderboards.ranking import measured
from lmrl_bench.leaderboards.render.columns import (
    Column,
    cell_text,
    columns,
    decimals,
    number,
    row_title,
    seeds_text,
)
from lmrl_bench.leaderboards.render.verification import BADGE, LEGEND_LINE, badge
from lmrl_bench.leaderboards.spec import ReferenceRows
from lmrl_bench.leaderboards.table import BoardTable, Row, TaskTable
from lmrl_bench.stats.intervals import difference_interval

HIGH: Final = 1.5
"""A gain more than this many times the best earlier gain is flagged."""
RULE: Final = (
    f"*Unusually high*: Welch's 95 % interval separates the row from the best earlier row that trains, "
    f"and its gain over the supervised row is more than {HIGH:g} times that row's. It is a question to "
    "the submitter, not a verdict."
)


class Reviewed(NamedTuple):
    """The content of a report.

    Attributes:
        board: The board's name.
        records: How many records were handed in.
        problems: Why the submission is refused; empty if it is not.
        flags: What to look at.
        table: The board with the submission in it; None where it cannot be built.
        new: Labels of the rows that were not there before.
    """

    board: str
    records: int
    problems: Sequence[str]
    flags: Sequence[str]
    table: BoardTable | None
    new: Collection[str]


def report(found: Reviewed) -> str:
    """Returns the report as Markdown."""
    parts = [f"# Submission to `{found.board}`", _verdict(found)]
    if found.problems:
        parts += ["## Problems", _listed(found.problems)]
    if found.flags:
        parts += ["## To look at", _listed(found.flags)]
    for table in found.table.tasks if found.table else []:
        parts += _task(table, found.new, found.table.reference if found.table else None)
    if found.table:
        parts += [
            "Mean ± half of the 95 % Student-t interval over seeds; differences with Welch's 95 % "
            "interval.",
            RULE,
            LEGEND_LINE,
        ]
    return "\n\n".join(parts) + "\n"


def unusually_high(row: Row, table: TaskTable, earlier: Row, reference: Row) -> bool:
    """Returns whether a row is better than the best earlier one by more than is usual; see `RULE`."""
    if table.info is None:
        return False
    metric = table.info.primary_metric
    summaries = [measured(found, metric) for found in (row, earlier, reference)]
    points = [summary.points for summary in summaries if summary is not None]
    if len(points) < 3 or min(map(len, points)) < 2:
        return False
    sign = -1 if metric in table.info.lower_is_better else 1
    mine, best, start = (sign * sum(values) / len(values) for values in points)
    separated = sign * difference_interval(points[0], points[1]).mean > 0 and not (
        difference_interval(points[0], points[1]).contains(0.0)
    )
    return separated and mine - start > HIGH * max(best - start, 0.0)


def _verdict(found: Reviewed) -> str:
    rows = f"{found.records} records, new rows: {', '.join(sorted(found.new)) or 'none'}"
    if found.problems:
        return f"**Refused**, number of problems: {len(found.problems)} ({rows})."
    return f"**Valid** ({rows}): schema, digests, seeds, budgets, answers and older records."


def _listed(lines: Sequence[str]) -> str:
    """As plain text: names in a submission may hold anything."""
    plain = [" ".join(line.split()).replace("`", "'") for line in lines]
    return "\n".join(["```text", *plain, "```"])


def _task(table: TaskTable, new: Collection[str], reference: ReferenceRows | None) -> Iterator[str]:
    yield f"## {table.task}"
    if table.info is None:
        yield "No run of this task has completed yet."
        return
    best = _best(table, new)
    anchors = reference.labels() if reference else []
    order = [row for row in table.rows if row.label in new]
    order += [row for row in table.rows if row not in order and row is best]
    order += [row for row in table.rows if row not in order and row.label in anchors]
    shown = [column for column in columns(table) if column.kind == "estimate"]
    heads = ["row", "", *(column.title for column in shown), "seeds", BADGE]
    lines = [
        [row_title(row), _role(row, new, best, anchors),
         *(cell_text(column, row, decimals(column, table)) for column in shown), seeds_text(row), badge(row)]
        for row in order
    ]  # fmt: skip
    yield _table(heads, lines)
    if best is not None:
        yield from _against(table, new, best, reference, shown[0])


def _against(
    table: TaskTable,
    new: Collection[str],
    best: Row,
    reference: ReferenceRows | None,
    primary: Column,
) -> Iterator[str]:
    """A line per new row: its difference to the best earlier one, marked where it is unusual."""
    start = next((r for r in table.rows if reference and r.label == reference.supervised), None)
    theirs = primary.value(best)
    for row in table.rows:
        mine = primary.value(row)
        if row.label not in new or mine is None or theirs is None or min(mine.n, theirs.n) < 2:
            continue
        places = decimals(primary, table)
        found = difference_interval(mine.points, theirs.points)
        mean, low, high = (number(value, places) for value in found)
        verdict = "not separated" if found.contains(0.0) else "separated"
        marked = start is not None and unusually_high(row, table, best, start)
        mark = " **Unusually high.**" if marked else ""
        yield f"`{row.label}` minus `{best.label}`: {mean} [{low}, {high}], {verdict}.{mark}"


def _best(table: TaskTable, new: Collection[str]) -> Row | None:
    """The earlier row that trains with the best mean of the primary metric."""
    metric = table.info.primary_metric if table.info else ""
    lower = table.info is not None and metric in table.info.lower_is_better
    means = {
        row.label: found.mean
        for row in table.rows
        if row.label not in new and not row.evaluation_only and row.complete
        and (found := measured(row, metric)) is not None and found.mean is not None
    }  # fmt: skip
    if not means:
        return None
    label = (min if lower else max)(means, key=lambda name: means[name])
    return next(row for row in table.rows if row.label == label)


def _role(row: Row, new: Collection[str], best: Row | None, anchors: Sequence[str]) -> str:
    names = [
        name
        for name, holds in (
            ("new", row.label in new),
            ("best so far", row is best),
            ("reference", row.label in anchors),
        )
        if holds
    ]
    return ", ".join(names)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, [":--", ":--", *(["--:"] * (len(heads) - 2))], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
