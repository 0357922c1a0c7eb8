"""Checks that earlier records stay unchanged: a record is a fact, a failed one too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lmrl_bench.core.digests import file_sha256
from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.collect import Expectation
from lmrl_bench.leaderboards.consistency import stale
from lmrl_bench.leaderboards.spec import Cell
from lmrl_bench.leaderboards.verification import FILE as VERIFICATION
from lmrl_bench.leaderboards.verification import read_checks
from lmrl_bench.records.store import CONFIG, CURVES, RECORD, SAMPLES, find_folders, read_record
from lmrl_bench.verification.submission import Submission
from lmrl_bench.verification.tree import Tree

_FILES = (RECORD, CONFIG, CURVES, SAMPLES)


class History(NamedTuple):
    """A submission against what was there before.

    Attributes:
        problems: older records that were changed or removed, each with the remedy.
        flags: what a reviewer should look at: replaced records, verification files.
        new: the cells whose record was not there before, as task, entry, seed.
    """

    problems: list[str]
    flags: list[str]
    new: set[tuple[str, str, int]]


def compare(submission: Submission, expected: Expectation, tree: Tree) -> History:
    """Compares a submission with the leaderboard's earlier folder.

    An older record may be replaced only where it no longer counts as its cell, because the leaderboard, the
    task or the start has changed since, or where its run was interrupted.

    Args:
        submission: What is handed in.
        expected: What the record of each cell must say.
        tree: What lies in its folder; nothing is read but what is safe to read. The rest is refused already.
    """
    wanted = {submission.place(cell).relative_to(submission.folder): cell
              for cell in submission.cells()}  # fmt: skip
    old = _old_folders(submission)
    problems, flags = [], []
    for place, folder in old.items():
        new = submission.folder / place
        if new.is_dir() and new not in tree.runs:
            continue
        change = _change(folder, new)
        if change is None or (change == "removed" and not submission.whole):
            continue
        reason = _may_be_replaced(folder, wanted.get(place), expected)
        if reason is None:
            problems.append(
                f"{submission.folder / place}: {change}: older records stay as they are, failed "
                "ones too; restore it from the branch that this is for"
            )
        else:
            flags.append(f"{submission.folder / place}: {change}; the old record {reason}")
    added = {(c.task, c.entry, c.seed) for place, c in wanted.items() if place not in old}
    claims, damaged = _claims(submission, tree.checks)
    flags += [*claims, *_lost_checks(submission)]
    return History([*problems, *damaged], flags, added)


def _old_folders(submission: Submission) -> dict[Path, Path]:
    root = submission.previous
    if root is None or not root.is_dir():
        return {}  # a new leaderboard
    return {folder.relative_to(root): folder for folder in find_folders(root)}


def _change(old: Path, new: Path) -> str | None:
    if not new.is_dir():
        return "removed"
    changed = [name for name in _FILES if _digest(old / name) != _digest(new / name)]
    return f"{', '.join(changed)} changed" if changed else None


def _digest(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() and not path.is_symlink() else None


def _may_be_replaced(old: Path, cell: Cell | None, expected: Expectation) -> str | None:
    """Returns why an old record no longer counts, or None if it does."""
    try:
        record = read_record(old)
    except RecordError as error:
        return f"could not be read ({error})"
    if record.status == "interrupted":
        return "was of an interrupted run"
    if cell is None:
        return None
    reasons = stale(record, cell, expected(cell))
    return f"is not of the leaderboard as it is now: {reasons[0]}" if reasons else None


def _lost_checks(submission: Submission) -> Iterator[str]:
    """Yields the verification files that were there before; further entries in a folder of their own leave them out."""
    root = submission.previous
    if root is None or not submission.whole:
        return
    for before in sorted(root.glob(f"*/*/{VERIFICATION}")):
        path = submission.folder / before.relative_to(root)
        if not os.path.lexists(path):
            yield f"{path}: removed; the checks of the entry go with it: was it meant?"


def _claims(submission: Submission, files: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Verification files that came with the submission, and those that are none.

    Whoever hands in results should not be the one who checked them.
    """
    claims, damaged = [], []
    for path in files:
        before = submission.previous and submission.previous / path.relative_to(submission.folder)
        if before and _digest(before) == _digest(path):
            continue
        try:
            found = [f"level {check.level} by {check.by}" for check in read_checks(path.parent)]
        except RecordError as error:
            damaged.append(str(error))
        else:
            claims.append(f"{path}: added or changed; it claims {', '.join(found) or 'nothing'}: "
                          "was it they who wrote it?")  # fmt: skip
    return claims, damaged
