"""Whether the records of a submission are whole runs of the leaderboard's cells: every problem, not the first."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lmrl_bench.config.loading import load_yaml
from lmrl_bench.core.digests import canonical_json
from lmrl_bench.core.errors import LmrlBenchError, RecordError
from lmrl_bench.core.parquet import unreadable
from lmrl_bench.leaderboards.collect import Expectation
from lmrl_bench.leaderboards.consistency import check_entry, check_task, stale
from lmrl_bench.leaderboards.spec import LEADERBOARD_FILE, Cell, LeaderboardSpec, cells
from lmrl_bench.records.curves import ValidationPoint
from lmrl_bench.records.fidelity import BOUNDS, MEANING
from lmrl_bench.records.record import RunRecord, ScoreNormalization
from lmrl_bench.records.store import (
    CONFIG,
    SAMPLES,
    check_files,
    check_place,
    read_curves,
    read_record,
)
from lmrl_bench.verification.copies import copies
from lmrl_bench.verification.tree import unpacked

RUN_AGAIN: Final = "run it again (lmrl-bench leaderboard run) or restore it"
TEST: Final = "test"
VALIDATION: Final = "validation"


@dataclass(frozen=True)
class Submission:
    """A submission: the records and checks that are handed in.

    Attributes:
        leaderboard: The leaderboard.
        folder: `<task>/<entry>/<seed>` below it. Named like the leaderboard, it holds the whole leaderboard; under
            any other name only further entries, and the other ones are the earlier ones.
        previous: The leaderboard's folder as it was before, or None.
    """

    leaderboard: LeaderboardSpec
    folder: Path
    previous: Path | None = None

    @property
    def whole(self) -> bool:
        """Whether the folder stands for the whole leaderboard."""
        named = os.path.abspath(self.folder)  # noqa: PTH100 - `resolve` would follow links
        return Path(named).name == self.leaderboard.name

    def cells(self) -> list[Cell]:
        """The cells whose records must be there: all seeds and tasks of every submitted entry."""
        here = {path.name for path in self.folder.glob("*/*")}
        return [cell for cell in cells(self.leaderboard) if self.whole or cell.entry in here]

    def place(self, cell: Cell) -> Path:
        """Returns the folder of a cell's record."""
        return self.folder / _below(cell)

    def earlier(self) -> list[tuple[Cell, Path]]:
        """The cells of entries that are not submitted again, with the folders of their old records."""
        if self.previous is None:
            return []
        asked = {_below(cell) for cell in self.cells()}
        others = [cell for cell in cells(self.leaderboard) if _below(cell) not in asked]
        return [(cell, self.previous / _below(cell)) for cell in others]


def misplaced(submission: Submission, runs: Sequence[Path]) -> list[str]:
    """Returns what the leaderboard does not ask for, and what it asks for and is not there."""
    leaderboard, root = submission.leaderboard, submission.folder
    wanted = {submission.place(cell) for cell in submission.cells()}
    extra = [_extra(leaderboard, run.relative_to(root)) for run in runs if run not in wanted]
    missing = [
        f"{path}: missing: a leaderboard takes all its seeds or none ({_seeds(leaderboard)}), and a failed run "
        f"counts as one; run it with: lmrl-bench leaderboard run {leaderboard.name}"
        for path in sorted(wanted)
        if not path.is_dir()
    ]
    return [f"{root / text}" for text in extra] + missing


def read_whole(
    submission: Submission, expected: Expectation, safe: Sequence[Path]
) -> tuple[dict[Path, RunRecord], list[str]]:
    """Reads and checks the record of every cell that is handed in.

    Args:
        submission: What is handed in.
        expected: What the record of each cell must say.
        safe: The folders that may be read.

    Returns:
        The records that could be read, by folder, and every problem with its folder and a remedy.
    """
    records: dict[Path, RunRecord] = {}
    problems: list[str] = []
    unread = unreadable([folder / SAMPLES for folder in safe if (folder / SAMPLES).is_file()])
    for cell in submission.cells():
        folder = submission.place(cell)
        if folder not in safe:
            continue
        if reason := unread.get(folder / SAMPLES):
            problems.append(f"{folder / SAMPLES}: cannot be read ({reason}); {RUN_AGAIN}")
            continue
        try:
            check_place(folder, submission.folder)
            record = read_record(folder)
            check_files(folder, record)
        except RecordError as error:
            problems.append(str(error))
            continue
        prompts = int(expected(cell).config["evaluation"]["test_samples"])
        if record.samples and (reason := unpacked(folder, record.samples.rows, prompts)):
            problems.append(f"{folder}: {reason}; {RUN_AGAIN}")
            continue  # not read any further
        records[folder] = record
        reasons = stale(record, cell, expected(cell)) + _reasons(folder, record)
        problems += [f"{folder}: {reason}; {RUN_AGAIN}" for reason in reasons]
    return records, problems


def mixed(
    leaderboard: LeaderboardSpec, records: Mapping[Path, RunRecord], greedy: Callable[[str], bool]
) -> list[str]:
    """Returns why the records cannot stand in one table, and which of them are one run twice.

    Args:
        leaderboard: The leaderboard.
        records: The records, by folder.
        greedy: Whether evaluations of a task decode greedily.
    """
    problems = []
    for task in [task.task for task in leaderboard.tasks]:
        found = {f: r for f, r in records.items() if r.task.name == task}
        problems += _raised(check_task, found)
        for entry in leaderboard.entries:
            own = {f: r for f, r in found.items() if r.entry == entry.entry}
            problems += _raised(check_entry, own)
        problems += copies(found, greedy(task))
    return problems


def _reasons(folder: Path, record: RunRecord) -> list[str]:
    """Returns the disagreements between the record and the files next to it, which may hold anything."""
    found: list[str] = []
    for check in _CHECKS:
        try:
            found += check(folder, record)
        except (LmrlBenchError, LookupError, TypeError, ValueError) as error:
            found.append(f"cannot be checked ({type(error).__name__}: {error})")
    return found


def to_look_at(
    records: Mapping[Path, RunRecord], scales: Mapping[str, ScoreNormalization | None]
) -> list[str]:
    """Returns notes for the reviewer that are not faults of a record.

    Args:
        records: The records, by folder.
        scales: The `score_normalization` of each task as it is today.
    """
    flags = []
    for folder, record in records.items():
        source = record.provenance
        if source.dirty:
            flags.append(f"{folder}: the code differed from its commit (dirty)")
        elif source.commit is None:
            flags.append(f"{folder}: the commit of the code is unknown")
        known = scales.get(record.task.name)
        if record.status == "completed" and record.task.score_normalization != known:
            flags.append(
                f"{folder}: has another score_normalization than the task; the task's counts"
            )
        flags += [
            f"{folder}: {name} is {getattr(record.fidelity, name):.4g}, which exceeds the fidelity bound of "
            f"{BOUNDS[name]:g}: {MEANING[name]}"
            for name in record.fidelity.flags
        ]
    return flags


def _extra(leaderboard: LeaderboardSpec, place: Path) -> str:
    task, entry, seed = place.parts
    tasks, entries = [t.task for t in leaderboard.tasks], [e.entry for e in leaderboard.entries]
    if task not in tasks:
        reason = f"the leaderboard has no task '{task}' (it has: {', '.join(tasks)}); remove it"
    elif entry not in entries:
        reason = (
            f"the leaderboard has no entry '{entry}'; add it to the entries of the leaderboard's {LEADERBOARD_FILE}, "
            "or remove it"
        )
    else:
        reason = f"'{seed}' is not a seed of the leaderboard ({_seeds(leaderboard)}); remove it"
    return f"{place}: {reason}"


def _seeds(leaderboard: LeaderboardSpec) -> str:
    return f"seeds {', '.join(map(str, leaderboard.seeds))}"


def _below(cell: Cell) -> Path:
    return Path(cell.task, cell.entry, str(cell.seed))


def _raised(
    check: Callable[[Mapping[Path, RunRecord]], None], records: Mapping[Path, RunRecord]
) -> list[str]:
    try:
        check(records)
    except RecordError as error:
        return [str(error)]
    return []


def _identity(_folder: Path, record: RunRecord) -> Iterator[str]:
    model = str((record.config.get("policy") or {}).get("model") or "default").rpartition("/")[2]
    wanted = f"{record.task.name}/{record.entry}/{model}/s{record.seed}-{record.config_digest[:8]}"
    if record.id != wanted:
        yield f"id is {record.id}, where {wanted} belongs"


def _ending(_folder: Path, record: RunRecord) -> Iterator[str]:
    if record.status == "interrupted":
        yield "the run was interrupted and can go on (call lmrl-bench leaderboard run again)"
    elif record.status != "completed" and record.error is None:
        yield f"the run {record.status}, but the record names no error"
    elif record.status == "completed":
        missing = [name for name in ("curves", "samples") if getattr(record, name) is None]
        missing += [f"results.{name}" for name in (VALIDATION, TEST) if name not in record.results]
        if missing:
            yield f"a completed run has {', '.join(missing)}, this record has none"


def _configuration(folder: Path, record: RunRecord) -> Iterator[str]:
    """`config.yaml` says the same; a run that failed before it began has none."""
    path = folder / CONFIG
    if not path.exists():
        if record.status == "completed":
            yield f"{CONFIG} is missing"
        return
    wanted = {**record.config, "entry": record.entry, "seed": record.seed}
    if canonical_json(load_yaml(path).data) != canonical_json(wanted):
        yield f"{CONFIG} says something else than the record's config"


def _budget(folder: Path, record: RunRecord) -> Iterator[str]:
    """The iteration that reaches the budget is the last one, and the record counts what was done."""
    budget, planned = record.budget, record.config["budget"]["tokens"]
    if budget.planned_tokens != planned:
        yield f"budget.planned_tokens is {budget.planned_tokens}, the configuration's {planned}"
    if record.status != "completed" or record.curves is None:
        return
    lines = _lines(folder, "train")
    spent = [0, *(int(line["tokens"]) for line in lines)]
    last = {**lines[-1], "iterations": lines[-1]["iteration"]} if lines else {}
    for name in ("tokens", "episodes", "iterations", "optimizer_steps"):
        claimed, done = getattr(budget, name), last.get(name, 0)
        if claimed != done:
            yield f"budget.{name} is {claimed}, but curves.jsonl ends at {done}"
    if record.traits.spends_tokens and spent[-1] < planned:
        yield f"training ended before the budget: {spent[-1]} of {planned} tokens"
    over = [tokens for tokens in spent[:-1] if tokens >= planned]
    if over:
        yield f"training went on after the budget: {over[0]} of {planned} tokens, then more"


def _validation(folder: Path, record: RunRecord) -> Iterator[str]:
    """The validation results are those of the last evaluation, which was at the end of training."""
    found = record.results.get(VALIDATION)
    if record.status != "completed" or record.curves is None or found is None:
        return
    lines = _lines(folder, VALIDATION)
    if not lines:
        yield "curves.jsonl holds no evaluation on the validation split"
        return
    last = ValidationPoint.model_validate(lines[-1]).model_dump()
    ended = (record.budget.iterations, record.budget.tokens)
    if (last["iteration"], last["tokens"]) != ended:
        yield (
            f"the last evaluation is at iteration {last['iteration']} ({last['tokens']} tokens), "
            f"training ended at {ended[0]} ({ended[1]})"
        )
    names = ("reward", "kl_to_reference", "mean_length", "truncated_share")
    claims = {name: getattr(found, name) for name in names}
    claims |= {f"metric/{name}": metric.value for name, metric in found.metrics.items()}
    if f"metric/{record.task.primary_metric}" not in claims:
        yield f"results.{VALIDATION} lacks {record.task.primary_metric}"
    for name, claimed in claims.items():
        drawn = last.get(name, math.nan)
        if claimed != drawn:
            yield f"results.{VALIDATION}: {name} is {_shown(claimed)}, but curves.jsonl ends with {_shown(drawn)}"


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:.9g}"


def _lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_curves(folder) if line.get("kind") == kind]


_CHECKS: Final = (_identity, _ending, _configuration, _budget, _validation)
