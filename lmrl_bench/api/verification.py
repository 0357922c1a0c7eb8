"""Checks of results that others made: `validate`, `rescore`, `retrain`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lmrl_bench.api.progress import Progress, shown
from lmrl_bench.core.errors import ConfigError, RecordError
from lmrl_bench.leaderboards.spec import read_leaderboard
from lmrl_bench.records.record import Name
from lmrl_bench.records.store import write_text
from lmrl_bench.verification import rescore as rescoring
from lmrl_bench.verification import retrain as retraining
from lmrl_bench.verification import validate as validation
from lmrl_bench.verification.checks import write_rescored, write_retraining
from lmrl_bench.verification.report import Reviewed
from lmrl_bench.verification.report import report as report_text
from lmrl_bench.verification.rescore import Rescored
from lmrl_bench.verification.retrain import RetrainedRun


@dataclass(frozen=True)
class Rescoring:
    """The result of `rescore`.

    Attributes:
        found: Records and numbers that were recomputed.
        files: The `verification.json` files that were written.
        unverified: Entries that were not verified, and why.
    """

    found: Rescored
    files: list[Path]
    unverified: list[str]


@dataclass(frozen=True)
class Retraining:
    """The result of `retrain`.

    Attributes:
        found: The record, the new run, and how they agree.
        file: The `verification.json` that was written, if any.
    """

    found: RetrainedRun
    file: Path | None


def validate(
    folder: str | Path,
    *,
    leaderboard: str | Path | None = None,
    against: str | Path | None = None,
    report: str | Path | None = None,
) -> Reviewed:
    """Checks that results may be added to a leaderboard.

    Args:
        folder: `<task>/<entry>/<seed>` below it: all results of the leaderboard, or further entries.
        leaderboard: Its name or folder; default: the name of `folder`.
        against: Folder of all earlier results, none of which may change.
        report: Markdown file to write for a reviewer.

    Returns:
        Problems and remarks; results without problems may be added.

    Raises:
        LmrlBenchError: There is no such folder or leaderboard.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder}: there is no such folder of results")
    try:
        spec = read_leaderboard(leaderboard or folder.resolve().name)
    except ConfigError as error:
        remedy = "" if leaderboard else "; name the leaderboard with --leaderboard"
        raise ConfigError(f"{error}{remedy}") from None
    reviewed = validation.validate(spec, folder, None if against is None else Path(against))
    if report is not None:
        write_text(Path(report), report_text(reviewed))
    return reviewed


def rescore(
    folder: str | Path, *, models: bool = True, verified_by: str | None = None
) -> Rescoring:
    """Recomputes metrics and rewards from the stored completions.

    Args:
        folder: A folder of runs, or of one run.
        models: Also recompute what needs a model or a plug-in.
        verified_by: Write the check into `verification.json` of each entry, under this name.

    Raises:
        VerificationError: A record says something else than its completions.
        LmrlBenchError: There is no such folder, or a model is not installed.
    """
    name = _checked(verified_by)
    found = rescoring.rescore(Path(folder), models=models)
    files, reasons = write_rescored(found, name) if name else ([], [])
    return Rescoring(found, files, reasons)


def retrain(
    run: str | Path,
    *,
    out: str | Path | None = None,
    device: str = "cpu",
    policy: str | Path | None = None,
    verified_by: str | None = None,
    progress: Progress = False,
) -> Retraining:
    """Trains a recorded run again and compares the two.

    Args:
        run: Folder of the run; next to those of the entry's other seeds.
        out: Folder of the new run; default: it is not kept.
        device: Where to train.
        policy: Folder of the initial model; default: as the leaderboard names it.
        verified_by: Write the check into `verification.json` of the entry, under this name.
        progress: True shows progress on stderr; or a function that takes the events.

    Raises:
        VerificationError: The new run is neither bit-identical nor inside the prediction interval of
            the entry's other seeds.
        LmrlBenchError: The run cannot be read or trained.
    """
    name = _checked(verified_by)
    with _place(out) as place, shown(progress, 1) as listener:
        found = retraining.retrain(
            Path(run),
            place,
            device=device,
            policy=None if policy is None else Path(policy),
            progress=listener,
        )
    return Retraining(found, write_retraining(Path(run), found, name) if name else None)


def bounds_table() -> str:
    """Returns the Markdown table that says which fields of a record are checked, and how."""
    from lmrl_bench.verification.bounds_table import table

    return table()


@contextmanager
def _place(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary) / "run"


def _checked(name: str | None) -> str | None:
    """Refuses a name that `verification.json` could not hold, before minutes are spent."""
    if name is None:
        return None
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"--by: {reason}; give one line of at most 200 characters") from error
