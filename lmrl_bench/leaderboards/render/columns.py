"""The columns of a task's table, shared by every format: name, explanation, values, decimals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lmrl_bench.leaderboards.ranking import entry_title, filtered_title
from lmrl_bench.leaderboards.table import EntryResults, Summary, TaskTable

NOTHING = "\N{EN DASH}"
GREEDY = "test-greedy"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Name in files ("test/reward").
        title: Name in tables.
        explanation: One sentence for the legend.
        value: The summary of an entry; None where it was not measured.
        measure: Name in `EntryResults.best`, for columns in which the best entries are marked.
        kind: "estimate" is printed with its interval, "cost" as the mean of the completed seeds.
    """

    key: str
    title: str
    explanation: str
    value: Callable[[EntryResults], Summary | None]
    measure: str | None = None
    kind: Literal["estimate", "cost"] = "estimate"


def columns(table: TaskTable, *, everything: bool = False) -> list[Column]:
    """Returns the columns of a task.

    Args:
        table: The task.
        everything: Also the metrics that are neither primary nor held out.
    """
    info = table.info
    if info is None:
        return []
    shown = [info.primary_metric, *info.held_out_metrics]
    found = [_metric(table, "test", info.primary_metric)]
    found += [_part("reward", "reward ↑", "mean reward on the test split", measure="reward")]
    found += [_metric(table, "test", name) for name in info.held_out_metrics]
    found.append(_metric(table, GREEDY, info.primary_metric))
    if everything:
        found += [_metric(table, "test", name) for name in table.metrics if name not in shown]
    found += [
        _part("kl_to_reference", "KL", "nats per episode to the initial policy: its drift"),
        _part("mean_length", "tokens per completion", "mean completion length in tokens"),
        _part("truncated_share", "cut", "share of completions that reached the length cap"),
        Column("tokens", "tokens", "completion tokens generated while training",
               lambda entry: entry.tokens, kind="cost"),
        Column("wall_s", "wall s", "seconds of wall time, training and evaluation",
               lambda entry: entry.wall_s, kind="cost"),
        Column("cpu_s", "CPU s", "seconds of processor time", lambda entry: entry.cpu_s, kind="cost"),
    ]  # fmt: skip
    return [column for column in found if any(column.value(entry) for entry in table.entries)]


def decimals(column: Column, table: TaskTable) -> int:
    """Returns how many decimals the column is printed with: about four digits in all."""
    if column.kind == "cost":
        return 0
    return places_of(
        [found for entry in table.entries if (found := column.value(entry)) is not None]
    )


def places_of(summaries: Sequence[Summary]) -> int:
    """Returns how many decimals leave these values about four digits."""
    largest = max((abs(point) for summary in summaries for point in summary.points), default=0.0)
    return 3 if largest < 10 else 2 if largest < 100 else 1


def cell_text(column: Column, entry: EntryResults, places: int, *, count: bool = False) -> str:
    """Returns "0.612 ± 0.021 (n=3)", the points below three seeds, or a dash for nothing.

    Args:
        column: The column.
        entry: The entry.
        places: Decimals of the column.
        count: Always add the number of seeds; else only where seeds are missing.
    """
    summary = column.value(entry)
    if summary is None or not summary.points:
        return NOTHING
    if column.kind == "cost":
        return f"{sum(summary.points) / summary.n:,.0f}"
    return summary_text(summary, places, count=count or not entry.complete)


def summary_text(summary: Summary, places: int, *, count: bool = True) -> str:
    """Returns "0.612 ± 0.021 (n=3)", or the points below three seeds."""
    if summary.mean is None:
        points = ", ".join(number(point, places) for point in summary.points)
        return f"{points} (n={summary.n})"
    text = f"{number(summary.mean, places)} ± {number(summary.half_width, places)}"
    return f"{text} (n={summary.n})" if count else text


def number(value: float, places: int) -> str:
    """Returns the number with fixed decimals; never "-0.000"."""
    text = f"{value:.{places}f}"
    return text[1:] if text[0] == "-" and float(text) == 0 else text


def seeds_text(entry: EntryResults) -> str:
    """Returns "3/3", or which seeds are missing and why: "1/3: seed 1 diverged, seed 2 missing"."""
    share = f"{entry.counts['completed']}/{len(entry.runs)}"
    others = [f"seed {run.seed} {run.status}" for run in entry.runs if run.status != "completed"]
    return f"{share}: {', '.join(others)}" if others else share


def entry_lines(entries: Iterable[EntryResults]) -> list[tuple[str, EntryResults]]:
    """Returns the lines of a table with their titles: each entry, and below it what it is through its own filter."""
    lines = []
    for entry in entries:
        lines.append((entry_title(entry), entry))
        if (acting := entry.through_filter()) is not None:
            lines.append((filtered_title(entry.entry), acting))
    return lines


def arrow(table: TaskTable, metric: str) -> str:
    """Returns the direction in which a metric is better; empty where neither is."""
    direction = table.info.higher_is_better(metric) if table.info else True
    return "" if direction is None else "↑" if direction else "↓"


def _metric(table: TaskTable, split: str, name: str) -> Column:
    decoding = ", greedy" if split == GREEDY else ""
    primary = table.info is not None and name == table.info.primary_metric
    held_out = table.info is not None and name in table.info.held_out_metrics
    role = "primary metric" if primary else "held-out metric" if held_out else "metric"
    how = "greedy decoding" if split == GREEDY else "the task's decoding"

    def value(entry: EntryResults) -> Summary | None:
        found = entry.tested
        if split == GREEDY:  # measured as the entry acts, so through its filter
            found = None if entry.filtered else entry.splits.get(GREEDY)
        return found.metrics.get(name) if found else None

    return Column(
        key=f"{split}/{name}",
        title=f"{name}{_unit(table, name)}{decoding} {arrow(table, name)}".rstrip(),
        explanation=f"{role} on the test split, {how}",
        value=value,
        measure=name if split == "test" and role != "metric" else None,
    )


def _unit(table: TaskTable, metric: str) -> str:
    """The length that a task measures is in words; the next column has it in tokens."""
    signature = table.info.metric_signatures.get(metric, "") if table.info else ""
    return ", words" if signature.startswith("length|") else ""


def _part(name: str, title: str, explanation: str, measure: str | None = None) -> Column:
    def value(entry: EntryResults) -> Summary | None:
        return getattr(entry.tested, name) if entry.tested else None

    return Column(f"test/{name}", title, explanation, value, measure)
