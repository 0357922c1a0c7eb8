"""Records in, `LeaderboardTable` out.

Every number comes from a record; a missing record is missing, not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lmrl_bench.core.errors import RecordError
from lmrl_bench.core.parquet import unreadable
from lmrl_bench.core.paths import without_folders
from lmrl_bench.leaderboards.consistency import (
    check_entry,
    check_numbers,
    check_task,
    refuse_stale,
    stale,
)
from lmrl_bench.leaderboards.evidence import (
    Evidence,
    collect_curves,
    collect_samples,
    read_evidence,
)
from lmrl_bench.leaderboards.ranking import UNFILTERED, ranked
from lmrl_bench.leaderboards.spec import Cell, LeaderboardEntry, LeaderboardSpec, cells
from lmrl_bench.leaderboards.table import (
    STATUSES,
    EntryResults,
    LeaderboardTable,
    Run,
    SplitSummary,
    Summary,
    TaskTable,
    Verification,
    significant,
)
from lmrl_bench.leaderboards.verification import verification
from lmrl_bench.records.expected import ExpectedRun
from lmrl_bench.records.record import RunRecord, SplitResults
from lmrl_bench.records.store import (
    RECORD,
    SAMPLES,
    check_files,
    check_place,
    find_folders,
    read_record,
)
from lmrl_bench.stats.intervals import MINIMUM_SEEDS, mean_interval

Expectation = Callable[[Cell], ExpectedRun]
"""Says what a cell resolves to today; `lmrl_bench.planning.cells.of_leaderboard` makes one."""


DAMAGED = "damaged: "
"""Begins the error of a missing run whose files are there, but damaged."""


class _Place(NamedTuple):
    """A cell, the folder of its run, and the record there, if there is one."""

    cell: Cell
    folder: Path
    record: RunRecord | None


_MEASURES = ("reward", "kl_to_reference", "mean_length", "truncated_share")


def collect(
    leaderboard: LeaderboardSpec, results_root: Path, expected: Expectation
) -> LeaderboardTable:
    """Reads the records of a leaderboard and sums them up.

    Args:
        leaderboard: The leaderboard.
        results_root: The folder of all results; the leaderboard's runs lie in
            `<leaderboard>/<task>/<entry>/<seed>` below it.
        expected: What the record of each cell must say.

    Raises:
        RecordError: No results folder; a record that is misplaced, or not of the cell as it is
            today; mixed signatures or digests in one table.
    """
    grid = cells(leaderboard)
    folders = find_folders(results_root / leaderboard.name)
    damaged: dict[Path, str] = {}
    records = records_of(leaderboard.name, grid, results_root, expected, set(folders), damaged)
    for task in leaderboard.tasks:
        folders_of = [c.folder(results_root, leaderboard.name) for c in grid if c.task == task.task]
        check_task({f: found for f in folders_of if (found := records[f]) is not None})
    evidence = _evidence(records, leaderboard.seeds[0], damaged)
    of_tasks: dict[str, list[_Place]] = {task.task: [] for task in leaderboard.tasks}
    for cell, (folder, record) in zip(grid, records.items(), strict=True):
        of_tasks[cell.task].append(_Place(cell, folder, record))
    return LeaderboardTable(
        name=leaderboard.name,
        title=leaderboard.title,
        description=leaderboard.description,
        findings=leaderboard.findings,
        seeds=list(leaderboard.seeds),
        entries=[entry.entry for entry in leaderboard.entries],
        baselines=leaderboard.baselines,
        tuning=leaderboard.tuning,
        tasks=[
            _task_table(
                leaderboard,
                task.task,
                of_tasks[task.task],
                results_root,
                expected,
                damaged,
                evidence,
            )
            for task in leaderboard.tasks
        ],
        unlisted=[f.relative_to(results_root).as_posix() for f in folders if f not in records],
    )


def records_of(
    leaderboard: str,
    grid: Sequence[Cell],
    results_root: Path,
    expected: Expectation,
    folders: Collection[Path],
    damaged: dict[Path, str],
) -> dict[Path, RunRecord | None]:
    """Reads the record of every cell, in their order; None where there is none.

    Args:
        leaderboard: Name of the leaderboard.
        grid: Its cells.
        results_root: The folder of all results.
        expected: What the record of each cell must say.
        folders: What `find_folders` found, which follows no link.
        damaged: Takes the reason for each cell whose files are damaged, and which then has no record.

    Raises:
        RecordError: A record is misplaced, or not of the cell as it is today.
    """
    records: dict[Path, RunRecord | None] = {}
    problems: dict[Path, list[str]] = {}
    for cell in grid:
        folder = cell.folder(results_root, leaderboard)
        records[folder] = None
        if folder not in folders:
            if (folder / RECORD).exists():
                check_place(folder, results_root / leaderboard)
            continue
        try:
            record = read_record(folder)
            check_files(folder, record)
            for name, numbers in _numbers(record):
                check_numbers(f"{folder}{name}", numbers)
        except RecordError as error:
            damaged[folder] = str(error)
            continue
        records[folder] = record
        if reasons := stale(record, cell, expected(cell)):
            problems[folder] = reasons
    refuse_stale(problems, leaderboard)
    return records


def _evidence(
    records: dict[Path, RunRecord | None], seed: int, damaged: dict[Path, str]
) -> dict[Path, Evidence]:
    """Reads what leaderboards draw and show of completed runs; a run whose files cannot be read loses its record."""
    completed = {f: r for f, r in records.items() if r is not None and r.status == "completed"}
    shown = {f for f, r in completed.items() if r.seed == seed and r.samples is not None}
    unread = unreadable([folder / SAMPLES for folder in shown])
    found: dict[Path, Evidence] = {}
    for folder, record in completed.items():
        try:
            if reason := unread.get(folder / SAMPLES):
                raise RecordError(f"{folder / SAMPLES}: cannot be read ({reason}); restore it")
            found[folder] = read_evidence(folder, record, folder in shown)
        except RecordError as error:
            damaged[folder], records[folder] = str(error), None
    return found


def _numbers(record: RunRecord) -> Iterator[tuple[str, dict[str, float]]]:
    """Every number of a record that a leaderboard sums up, by where it stands in the record."""
    for split, results in record.results.items():
        metrics = {name: metric.value for name, metric in results.metrics.items()}
        yield f": {split}", metrics
        measures = {name: getattr(results, name) for name in _MEASURES}
        yield f": {split}", {name: value for name, value in measures.items() if value is not None}
    time = record.time
    yield "", {"wall_s": time.wall_s, "cpu_s": time.cpu_s, "tokens": record.budget.tokens}


def _task_table(
    leaderboard: LeaderboardSpec,
    task: str,
    places: Sequence[_Place],
    results_root: Path,
    expected: Expectation,
    damaged: Mapping[Path, str],
    evidence: Mapping[Path, Evidence],
) -> TaskTable:
    found = {place.folder: place.record for place in places if place.record is not None}
    of_entries: dict[str, list[_Place]] = {entry.entry: [] for entry in leaderboard.entries}
    for place in places:
        of_entries[place.cell.entry].append(place)
    completed = [record for record in found.values() if record.status == "completed"]
    info = None
    if completed:  # the scale is the task's own, whatever a record says
        scale = {"score_normalization": expected(places[0].cell).score_normalization}
        info = completed[0].task.model_copy(update=scale)
    entries = []
    for entry in leaderboard.entries:
        check_entry({p.folder: p.record for p in of_entries[entry.entry] if p.record is not None})
        seeds = [(place.cell, place.record) for place in of_entries[entry.entry]]
        result = _entry_results(entry.entry, entry.algorithm, seeds, leaderboard.name)
        result = result.model_copy(update=_control(entry, result, expected(seeds[0][0])))
        checked = _verification(results_root / leaderboard.name / task / entry.entry, result, seeds)
        runs = [
            run.model_copy(update={"error": damage(damaged[place.folder])})
            if place.folder in damaged
            else run
            for run, place in zip(result.runs, of_entries[entry.entry], strict=True)
        ]
        entries.append(result.model_copy(update={"verification": checked, "runs": runs}))
    lower = set(info.lower_is_better) if info else set()
    return TaskTable(
        task=task,
        info=info,
        entries=ranked(entries, info, lower, leaderboard.baselines),
        curves=collect_curves(found, evidence, info),
        samples=collect_samples(
            found, evidence, leaderboard.seeds[0], [e.entry for e in leaderboard.entries]
        ),
        samples_seed=leaderboard.seeds[0],
    )


def _entry_results(
    entry_name: str,
    algorithm: str,
    seeds: Sequence[tuple[Cell, RunRecord | None]],
    leaderboard: str,
) -> EntryResults:
    runs = [_run(cell, record, leaderboard) for cell, record in seeds]
    completed = [r for _, r in seeds if r is not None and r.status == "completed"]
    policy = next((r.policy for _, r in seeds if r is not None and r.policy), None)
    decodings = sorted({name for record in completed for name in record.results})
    traits = next((r.traits for _, r in seeds if r is not None), None)
    return EntryResults(
        entry=entry_name,
        algorithm=algorithm,
        policy=policy.model if policy else None,
        init=policy.init if policy else None,
        parameters=policy.parameters if policy else None,
        config_digest=next((r.config_digest for _, r in seeds if r is not None), None),
        evaluation_only=traits is not None and not traits.trains,
        complete=len(completed) == len(seeds),
        counts={status: sum(run.status == status for run in runs) for status in STATUSES},
        runs=runs,
        splits={name: _split([record.results[name] for record in completed]) for name in decodings},
        temperature=_temperature(completed),
        control=traits.control if traits is not None else None,
        filtered=UNFILTERED in decodings or (traits is not None and traits.filters_tokens),
        tokens=_optional(completed, lambda record: record.budget.tokens),
        wall_s=_optional(completed, lambda record: record.time.wall_s),
        cpu_s=_optional([r for r in completed if r.time.cpu_s > 0], lambda r: r.time.cpu_s),
    )


def _control(entry: LeaderboardEntry, found: EntryResults, expected: ExpectedRun) -> dict[str, Any]:
    """Returns why an entry is not ranked, and whether it is an oracle; own decodings are not ranked."""
    own = (entry.config.get("evaluation") or {}).get("temperature")
    decoding = "decoding" if own is not None else None
    return {"control": found.control or decoding, "oracle": expected.oracle}


def _temperature(completed: Sequence[RunRecord]) -> float | None:
    """The entry's own temperature of evaluations; all seeds have the same configuration."""
    for record in completed:
        value = (record.config.get("evaluation") or {}).get("temperature")
        return float(value) if value is not None else None
    return None


def damaged_cells(table: LeaderboardTable) -> list[str]:
    """Returns the cells left out because their files are damaged, each with reason and remedy."""
    runs = [run for task in table.tasks for entry in task.entries for run in entry.runs]
    return [
        left_out(run.folder, run.error, table.name)
        for run in runs
        if run.status == "missing" and run.error
    ]


def left_out(folder: str, error: str, leaderboard: str) -> str:
    """Returns the line for a cell whose files are damaged."""
    return (
        f"{folder}: {error}; it is left out; lmrl-bench leaderboard run {leaderboard} runs it again"
    )


def damage(reason: str) -> str:
    """Returns the error of a missing run whose files are there, but damaged."""
    return f"{DAMAGED}{_short(reason)}"


def _short(reason: str) -> str:
    """The reason without the user's folders and without a remedy for single runs."""
    return without_folders(reason).rpartition(";")[0] or without_folders(reason)


def _verification(
    entry_folder: Path, entry: EntryResults, seeds: Sequence[tuple[Cell, RunRecord | None]]
) -> Verification:
    records = [record for _, record in seeds if record is not None]
    if len(records) < len(seeds):
        return Verification()
    now = {run.seed: run.record_digest for run in entry.runs if run.record_digest is not None}
    return verification(entry_folder, records, now)


def _run(cell: Cell, record: RunRecord | None, leaderboard: str) -> Run:
    folder = f"{leaderboard}/{cell.task}/{cell.entry}/{cell.seed}"
    if record is None:
        return Run(seed=cell.seed, status="missing", folder=folder)
    error, source = record.error, record.provenance
    return Run(
        seed=cell.seed,
        status=record.status,
        folder=folder,
        error=f"{error.type}: {error.message}" if error else None,
        record_digest=record.digest(),
        command=source.command,
        package_version=source.package_version,
        commit=source.commit,
        dirty=source.dirty,
        platform=source.platform,
        python=source.python,
        device=source.device,
        packages=source.packages,
        events=record.events,
        flags=record.fidelity.flags,
    )


def _split(results: Sequence[SplitResults]) -> SplitSummary:
    # All seeds of an entry are of one algorithm: all have a KL, or none.
    kl = [r.kl_to_reference for r in results if r.kl_to_reference is not None]
    return SplitSummary(
        metrics={
            name: summary([r.metrics[name].value for r in results]) for name in results[0].metrics
        },
        reward=summary([r.reward for r in results]),
        kl_to_reference=summary(kl) if kl else None,
        mean_length=summary([r.mean_length for r in results]),
        truncated_share=summary([r.truncated_share for r in results]),
    )


def _optional(records: Sequence[RunRecord], value: Callable[[RunRecord], float]) -> Summary | None:
    return summary([value(record) for record in records]) if records else None


def summary(values: Sequence[float]) -> Summary:
    """Returns points, mean and interval; below three seeds the points only.

    Numbers are kept to ten significant digits, so that every platform writes the same file.
    """
    points = [significant(value) for value in values]
    if len(points) < MINIMUM_SEEDS:
        return Summary(points=points, n=len(points), mean=None, interval=None)
    mean, low, high = (significant(value) for value in mean_interval(values))
    return Summary(points=points, n=len(points), mean=mean, interval=(low, high))
