"""The statistics of a leaderboard as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from lmrl_bench.core.wording import counted
from lmrl_bench.leaderboards.estimates import Estimate, LeaderboardOverview
from lmrl_bench.leaderboards.overview import significant_tests
from lmrl_bench.leaderboards.ranking import entry_title
from lmrl_bench.leaderboards.render.columns import places_of, summary_text
from lmrl_bench.leaderboards.spec import LeaderboardSpec
from lmrl_bench.leaderboards.table import EntryResults, LeaderboardTable


def definition_lines(spec: LeaderboardSpec) -> list[str]:
    """Returns what a leaderboard compares: tasks, entries, seeds."""
    entries = [
        entry.entry if entry.entry == entry.algorithm else f"{entry.entry} ({entry.algorithm})"
        for entry in spec.entries
    ]
    return [
        f"{spec.name}: {spec.title}",
        f"tasks    {', '.join(task.task for task in spec.tasks)}",
        f"entries  {', '.join(entries)}",
        f"seeds    {', '.join(map(str, spec.seeds))}",
    ]


def standings(table: LeaderboardTable) -> list[dict[str, str]]:
    """Returns entry × task: the primary metric as mean ± half of its interval, and what is missing."""
    found = []
    for entry_name in table.entries:
        tasks = [next(e for e in t.entries if e.entry == entry_name) for t in table.tasks]
        line = {"entry": entry_title(*tasks)}
        for task, entry in zip(table.tasks, tasks, strict=True):
            metric = task.info.primary_metric if task.info else ""
            line[f"{task.task} {metric}".strip()] = _standing(entry, metric)
        found.append(line)
    return found


def _standing(entry: EntryResults, metric: str) -> str:
    parts = []
    if (split := entry.tested) is not None:
        summary = split.metrics[metric]
        parts.append(summary_text(summary, places_of([summary])))
    parts += [f"seed {run.seed} {run.status}" for run in entry.runs if run.status != "completed"]
    return ", ".join(parts)


def overview_text(found: LeaderboardOverview) -> str:
    """Returns aligned tables and what they mean."""
    note = "; provisional: fewer than five seeds" if found.provisional else ""
    tests = [
        f"{test.task}: {test.first} - {test.second} = {test.difference:+.3f} (p {test.p_holm:.3g})"
        for test in significant_tests(found)
    ]
    pairs = [[pair.first, pair.second, _text(pair.probability)] for pair in found.improvements]
    parts = [
        f"{found.leaderboard}: {counted(found.seeds, 'seed')}{note}; scores: 0 is the floor, 1 the ceiling",
        _table(
            [["task", "metric", "floor", "ceiling", "from"]]
            + [
                [s.task, s.metric, f"{s.floor:.4g}", f"{s.ceiling:.4g}", s.source]
                for s in found.scales
            ]
        ),
        _table(
            [
                ["entry", "rank", "IQM", "mean", "optimality gap", "collapsed", "missing"],
                *_entries(found),
            ]
        ),
        "ties, best first (none is distinguished from the first of its group by the IQM):\n"
        + "\n".join(f"{n}. {', '.join(group)}" for n, group in enumerate(found.groups, start=1)),
        "probability of improvement:\n" + _table([["entry", "over", "probability"], *pairs]),
        f"Welch tests separated after Holm's correction, {len(tests)} of {len(found.tests)}:\n"
        + ("\n".join(tests) or "none"),
    ]
    return "\n\n".join(parts)


def _entries(found: LeaderboardOverview) -> list[list[str]]:
    return [
        [
            entry.title,
            f"{entry.rank[0]}-{entry.rank[1]}" if entry.rank else "",
            _text(entry.iqm),
            _text(entry.mean),
            _text(entry.optimality_gap),
            str(entry.collapsed),
            str(entry.missing),
        ]
        for entry in found.entries
    ]


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return "missing"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
