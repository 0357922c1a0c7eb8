"""The report on a submission for its reviewer (`--report`): problems, and the new entries next to the old ones."""

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
    seeds_text,
)
from lmrl_bench.leaderboards.render.verification import BADGE, LEGEND_LINE, badge
from lmrl_bench.leaderboards.spec import Baselines
from lmrl_bench.leaderboards.table import EntryResults, LeaderboardTable, TaskTable
from lmrl_bench.stats.intervals import difference_interval

HIGH: Final = 1.5
"""A gain more than this many times the best earlier gain is flagged."""
RULE: Final = (
    f"*Unusually high*: Welch's 95 % interval separates the entry from the best earlier entry that trains, "
    f"and its gain over the SFT entry is more than {HIGH:g} times that entry's. It is a question to "
    "the submitter, not a verdict."
)


class Reviewed(NamedTuple):
    """The content of a report.

    Attributes:
        leaderboard: The leaderboard's name.
        records: How many records were handed in.
        problems: Why the submission is refused; empty if it is not.
        flags: What to look at.
        table: The leaderboard with the submission in it; None where it cannot be built.
        new: Labels of the entries that were not there before.
    """

    leaderboard: str
    records: int
    problems: Sequence[str]
    flags: Sequence[str]
    table: LeaderboardTable | None
    new: Collection[str]


def report(found: Reviewed) -> str:
    """Returns the report as Markdown."""
    parts = [f"# Submission to `{found.leaderboard}`", _verdict(found)]
    if found.problems:
        parts += ["## Problems", _listed(found.problems)]
    if found.flags:
        parts += ["## To look at", _listed(found.flags)]
    for table in found.table.tasks if found.table else []:
        parts += _task(table, found.new, found.table.baselines if found.table else None)
    if found.table:
        parts += [
            "Mean ± half of the 95 % Student-t interval over seeds; differences with Welch's 95 % "
            "interval.",
            RULE,
            LEGEND_LINE,
        ]
    return "\n\n".join(parts) + "\n"


def unusually_high(
    entry: EntryResults, table: TaskTable, earlier: EntryResults, reference: EntryResults
) -> bool:
    """Returns whether an entry is better than the best earlier one by more than is usual; see `RULE`."""
    if table.info is None:
        return False
    metric = table.info.primary_metric
    summaries = [measured(found, metric) for found in (entry, earlier, reference)]
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
    entries = f"{found.records} records, new entries: {', '.join(sorted(found.new)) or 'none'}"
    if found.problems:
        return f"**Refused**, number of problems: {len(found.problems)} ({entries})."
    return f"**Valid** ({entries}): schema, digests, seeds, budgets, answers and older records."


def _listed(lines: Sequence[str]) -> str:
    """As plain text: names in a submission may hold anything."""
    plain = [" ".join(line.split()).replace("`", "'") for line in lines]
    return "\n".join(["```text", *plain, "```"])


def _task(table: TaskTable, new: Collection[str], baselines: Baselines | None) -> Iterator[str]:
    yield f"## {table.task}"
    if table.info is None:
        yield "No run of this task has completed yet."
        return
    best = _best(table, new)
    anchors = baselines.names() if baselines else []
    order = [entry for entry in table.entries if entry.entry in new]
    order += [entry for entry in table.entries if entry not in order and entry is best]
    order += [entry for entry in table.entries if entry not in order and entry.entry in anchors]
    shown = [column for column in columns(table) if column.kind == "estimate"]
    heads = ["entry", "", *(column.title for column in shown), "seeds", BADGE]
    lines = [
        [entry.entry, _role(entry, new, best, anchors),
         *(cell_text(column, entry, decimals(column, table)) for column in shown), seeds_text(entry), badge(entry)]
        for entry in order
    ]  # fmt: skip
    yield _table(heads, lines)
    if best is not None:
        yield from _against(table, new, best, baselines, shown[0])


def _against(
    table: TaskTable,
    new: Collection[str],
    best: EntryResults,
    baselines: Baselines | None,
    primary: Column,
) -> Iterator[str]:
    """A line per new entry: its difference to the best earlier one, marked where it is unusual."""
    start = next((r for r in table.entries if baselines and r.entry == baselines.sft), None)
    theirs = primary.value(best)
    for entry in table.entries:
        mine = primary.value(entry)
        if entry.entry not in new or mine is None or theirs is None or min(mine.n, theirs.n) < 2:
            continue
        places = decimals(primary, table)
        found = difference_interval(mine.points, theirs.points)
        mean, low, high = (number(value, places) for value in found)
        verdict = "not separated" if found.contains(0.0) else "separated"
        marked = start is not None and unusually_high(entry, table, best, start)
        mark = " **Unusually high.**" if marked else ""
        yield f"`{entry.entry}` minus `{best.entry}`: {mean} [{low}, {high}], {verdict}.{mark}"


def _best(table: TaskTable, new: Collection[str]) -> EntryResults | None:
    """The earlier entry that trains with the best mean of the primary metric."""
    metric = table.info.primary_metric if table.info else ""
    lower = table.info is not None and metric in table.info.lower_is_better
    means = {
        entry.entry: found.mean
        for entry in table.entries
        if entry.entry not in new and not entry.evaluation_only and entry.complete and entry.control is None
        and (found := measured(entry, metric)) is not None and found.mean is not None
    }  # fmt: skip
    if not means:
        return None
    best = (min if lower else max)(means, key=lambda name: means[name])
    return next(entry for entry in table.entries if entry.entry == best)


def _role(
    entry: EntryResults, new: Collection[str], best: EntryResults | None, anchors: Sequence[str]
) -> str:
    names = [
        name
        for name, holds in (
            ("new", entry.entry in new),
            ("best so far", entry is best),
            ("reference", entry.entry in anchors),
        )
        if holds
    ]
    return ", ".join(names)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, [":--", ":--", *(["--:"] * (len(heads) - 2))], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
