"""Everything that `results validate` looks at, and the report of it."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.leaderboards.collect import Expectation, collect, damaged_cells
from lmrl_bench.leaderboards.spec import LeaderboardSpec
from lmrl_bench.leaderboards.table import LeaderboardTable
from lmrl_bench.planning.cells import of_leaderboard
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.store import RECORD, read_record
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task
from lmrl_bench.verification import bounds
from lmrl_bench.verification.bounds import texts
from lmrl_bench.verification.completions import answers, disagreement, means
from lmrl_bench.verification.history import compare
from lmrl_bench.verification.report import Reviewed
from lmrl_bench.verification.submission import (
    Submission,
    misplaced,
    mixed,
    read_whole,
    to_look_at,
)
from lmrl_bench.verification.tree import NOT_COMMITTED, look


def validate(leaderboard: LeaderboardSpec, folder: Path, against: Path | None) -> Reviewed:
    """Checks results that are to be added to a leaderboard; see leaderboards/README.md for what is checked.

    Args:
        leaderboard: The leaderboard, with the new entries.
        folder: `<task>/<entry>/<seed>` below it; the whole leaderboard if its name is the leaderboard's, else
            further entries.
        against: The folder of all earlier results, or None.

    Returns:
        Problems, what to look at, and the leaderboard as it would be; `problems` is empty for a good one.

    Raises:
        ConfigError: `against` is not a folder, or the leaderboard cannot be resolved.
        DownloadError: The data of a task is not installed.
        RecordError: `folder` is not a folder.
    """
    if against is not None and not against.is_dir():
        raise ConfigError(f"--against {against}: there is no such folder of earlier results")
    previous = against / leaderboard.name if against else None
    submission, expected = Submission(leaderboard, folder, previous), of_leaderboard(leaderboard)
    tree = look(folder)
    records, problems = read_whole(submission, expected, tree.runs)
    scales = {cell.task: expected(cell).score_normalization for cell in submission.cells()}
    history = compare(submission, expected, tree)
    earlier = _earlier(submission)
    problems = [
        *tree.problems,
        *misplaced(submission, tree.runs),
        *problems,
        *_texts(records),
        *_answers(leaderboard, records),
        *mixed(leaderboard, earlier | records, lambda task: load_task(task).spec.decoding.greedy),
        *history.problems,
    ]
    table = None
    if not problems:
        try:
            table = _table(submission, expected)
            problems = damaged_cells(table)
        except RecordError as error:  # what only a whole leaderboard shows
            problems.append(str(error))
    return Reviewed(
        leaderboard=leaderboard.name,
        records=len(records),
        problems=problems,
        flags=[*to_look_at(records, scales), *history.flags],
        table=table,
        new={entry for _, entry, _ in history.new},
    )


def _earlier(submission: Submission) -> dict[Path, RunRecord]:
    """The records of the entries that are not submitted again, which the new ones must fit."""
    return {
        folder: read_record(folder)
        for _, folder in submission.earlier()
        if (folder / RECORD).exists()
    }


def _texts(records: Mapping[Path, RunRecord]) -> list[str]:
    """The names, free texts and times of every record, of a failed run too."""
    problems = []
    for folder, record in records.items():
        try:
            problems += [
                f"{folder}: {reason}; run it again" for reason in texts.check(folder, record)
            ]
        except RecordError as error:
            problems.append(str(error))
    return problems


def _answers(leaderboard: LeaderboardSpec, records: Mapping[Path, RunRecord]) -> list[str]:
    """Checks that stored completions are whole and in order, and that the stored means are their means."""
    task_of = functools.cache(load_task)
    names = {task.task for task in leaderboard.tasks}
    problems = []
    for folder, record in records.items():
        if record.task.name not in names:
            problems.append(
                f"{folder}: the record is of task '{record.task.name}', which is not on leaderboard "
                f"'{leaderboard.name}'"
            )
            continue
        if record.status == "completed" and record.samples is not None:
            reasons = _of_run(folder, record, task_of(record.task.name))
            problems += [f"{folder}: {reason}; restore it or run it again" for reason in reasons]
    return problems


def _of_run(folder: Path, record: RunRecord, task: Task) -> list[str]:
    try:
        whole, reasons = answers(folder, record, task)
    except RecordError as error:
        return [f"its answers cannot be checked ({error})"]
    if record.task.digest == task.digest:  # else it is refused already
        reasons += bounds.problems(folder, record, task)
    found = [
        disagreement(f"{decoding.decoding}: {what}", claimed, value)
        for decoding in whole
        for what, claimed, value in means(decoding)
    ]
    return [*reasons, *filter(None, found)]


def _table(submission: Submission, expected: Expectation) -> LeaderboardTable:
    """The leaderboard with the submission in it: its folder, laid over the earlier one if it is a part."""
    leaderboard, folder = submission.leaderboard, submission.folder
    if submission.whole:
        return collect(leaderboard, folder.resolve().parent, expected)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / leaderboard.name
        left_out = shutil.ignore_patterns(*NOT_COMMITTED)
        for source in (submission.previous, folder):
            if source and source.is_dir():
                shutil.copytree(source, place, symlinks=True, ignore=left_out, dirs_exist_ok=True)
        return collect(leaderboard, Path(temporary), expected)
