"""Checks of an entry's records, with reviewer, method and date: `verification.json` in the entry's folder.

A check is not part of a record, which is a fact about a run. It names the digests of all records of
its entry, and holds for these: when one of them changes, is added or goes, the check lapses by itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.table import Verification
from lmrl_bench.records.files import write_atomic
from lmrl_bench.records.parsing import parse_json
from lmrl_bench.records.record import Count, Name, RunRecord, Sha256
from lmrl_bench.stats.intervals import (
    Interval,
    difference_interval,
    prediction_interval,
)

FILE: Final = "verification.json"
MAX_BYTES: Final = 200_000
FIRST_DAY: Final = datetime.date(2025, 1, 1)
"""No record and no check is older than the format."""
WORDS: Final = ("declared", "rescored", "regenerated", "retrained", "replicated")
"""Names of the levels 0 to 4. No command gives level 2: leaderboards publish no trained policies."""


class Retrained(BaseModel):
    """One seed that was trained again."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    seed: Count
    how: Literal["bitwise", "interval"] = Field(
        description="the same facts, or inside the prediction interval of the other seeds"
    )
    value: FiniteFloat | None = Field(
        None, description="the primary metric of the new run on the test split, if it completed"
    )
    digest: Sha256 = Field(description="of the new record; of the checked one for the same bits")

    @model_validator(mode="after")
    def _says_what_lies_inside(self) -> Self:
        if self.how == "interval" and self.value is None:
            raise ValueError("an interval says nothing without the value that lies inside")
        return self


class Check(BaseModel):
    """One check of an entry."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    level: Literal[1, 3]
    by: Name
    date: datetime.date
    records: dict[int, Sha256] = Field(description="seed to record digest, all seeds of the entry")
    package_version: Name
    retrained: Retrained | None = Field(None, description="of a check of level 3")

    @field_validator("date")
    @classmethod
    def _of_our_time(cls, date: datetime.date) -> datetime.date:
        latest = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
        if not FIRST_DAY <= date <= latest:
            raise ValueError(f"{date} is not between {FIRST_DAY} and today")
        return date

    @model_validator(mode="after")
    def _has_evidence(self) -> Self:
        found = self.retrained
        if (found is not None) != (self.level == 3):
            raise ValueError("level 3, and no other, says which seed was trained again")
        if found is not None and found.seed not in self.records:
            raise ValueError(f"seed {found.seed} was trained again, but is none of the records'")
        if found and found.how == "bitwise" and found.digest != self.records[found.seed]:
            raise ValueError(
                f"seed {found.seed}: the digest is not the record's: not the same bits"
            )
        return self


class _Checks(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    checks: list[Check]


def read_checks(entry_folder: Path) -> list[Check]:
    """Returns the checks of an entry, whether they still hold or not; none if there is no file.

    Raises:
        RecordError: The file is a link or is not such a file.
    """
    path = entry_folder / FILE
    if path.is_symlink():
        raise RecordError(f"{path}: is a link; put the file itself here")
    if not path.exists():
        return []
    if path.stat().st_size > MAX_BYTES:
        raise RecordError(
            f"{path}: larger than {MAX_BYTES:,} bytes; no file of checks is; remove it"
        )
    try:
        content = path.read_bytes()
        plain = parse_json(content)  # pydantic's own reader takes the last of two equal keys
        checks = _Checks.model_validate_json(content).checks
        _require_canonical(checks, plain["checks"])
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path}: not a file of checks ({_reason(error)}); remove it, and check the entry again with "
            "lmrl-bench results rescore --write-verification"
        ) from error
    return checks


def _require_canonical(checks: Sequence[Check], plain: Sequence[Mapping[str, Any]]) -> None:
    """Refuses seeds and dates that no command writes, and duplicate checks.

    Raises:
        ValueError: There is one.
    """
    for number, (check, written) in enumerate(zip(checks, plain, strict=True)):
        if set(written["records"]) != {str(seed) for seed in check.records}:
            raise ValueError(f"checks.{number}.records: write seeds as plain numbers, such as 0")
        if written["date"] != check.date.isoformat():
            raise ValueError(f"checks.{number}.date: write it as {check.date.isoformat()}")
        for other in checks[:number]:
            if other.records == check.records and _same_matter(other, check):
                raise ValueError(f"checks.{number}: the same check is there twice")


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


def add_check(entry_folder: Path, check: Check) -> Path:
    """Adds a check to an entry's file; checks of other records, and an equal older one, are dropped.

    Raises:
        RecordError: As in `read_checks`, or the folder cannot be written.
    """
    kept = [
        other
        for other in read_checks(entry_folder)
        if other.records == check.records and not _same_matter(other, check)
    ]
    content = _Checks(checks=[*kept, check]).model_dump_json(indent=2, exclude_none=True)
    write_atomic(entry_folder / FILE, f"{content}\n".encode())
    return entry_folder / FILE


def digests(records: Sequence[RunRecord]) -> dict[int, str]:
    """Returns seed to digest of an entry's records, as a check names them.

    Raises:
        RecordError: Two records are of one seed.
    """
    found: dict[int, str] = {}
    for record in records:
        if record.seed in found:
            raise RecordError(f"{record.id}: a second record of seed {record.seed} in its entry")
        found[record.seed] = record.digest()
    return found


def verification(
    entry_folder: Path, records: Sequence[RunRecord], now: Mapping[int, str] | None = None
) -> Verification:
    """Returns the highest level that an entry's checks give to its records as they are.

    Level 4 needs every seed trained again, and values that Welch's 95 % interval of the difference
    does not tell from the recorded ones.

    Args:
        entry_folder: The folder of the entry in one task.
        records: All its records, whatever their status.
        now: Their digests by seed, where they are known.

    Raises:
        RecordError: As in `read_checks`, or a check claims what does not follow from the records.
    """
    checks = read_checks(entry_folder)
    now = digests(records) if checks and now is None else now
    holding = [check for check in checks if check.records == now]
    if not holding:
        return Verification()
    for check in holding:
        _require_inside(entry_folder / FILE, check, records)
    best = max(holding, key=lambda check: (check.level, check.date))
    again = _again(holding)
    level = 4 if _replicated(again, records) else best.level
    return Verification(
        level=level,
        word=WORDS[level],
        by=best.by,
        date=best.date.isoformat(),
        bitwise=[seed for seed, found in again.items() if found.how == "bitwise"],
        interval=[seed for seed, found in again.items() if found.how == "interval"],
    )


def primary_value(record: RunRecord) -> float:
    """Returns the primary metric of a completed run on the test split.

    Raises:
        RecordError: The record lacks it.
    """
    try:
        return record.results["test"].metrics[record.task.primary_metric].value
    except KeyError:
        raise RecordError(
            f"{record.id}: has no {record.task.primary_metric} on the test split; run it again"
        ) from None


def other_seeds_interval(records: Sequence[RunRecord], seed: int) -> Interval | None:
    """Returns where one more seed is expected by the entry's completed other seeds; None below two of them."""
    others = [r for r in records if r.seed != seed and r.status == "completed"]
    return prediction_interval(list(map(primary_value, others))) if len(others) > 1 else None


def _require_inside(path: Path, check: Check, records: Sequence[RunRecord]) -> None:
    """Refuses the claim that a value lies inside an interval in which it does not."""
    found = check.retrained
    if found is None or found.how == "bitwise" or found.value is None:
        return
    interval = other_seeds_interval(records, found.seed)
    if interval is None or not interval.contains(found.value):
        raise RecordError(
            f"{path}: claims that seed {found.seed}, trained again, lies inside the prediction interval of the "
            f"entry's other seeds, but {found.value:.6g} does not; remove it, and check the entry again"
        )


def _same_matter(first: Check, second: Check) -> bool:
    seeds = [check.retrained.seed if check.retrained else None for check in (first, second)]
    return (first.level, first.by) == (second.level, second.by) and seeds[0] == seeds[1]


def _again(checks: Sequence[Check]) -> dict[int, Retrained]:
    """Returns the retrainings by seed; of several, the one that gave the same bits, or the last."""
    found = [check.retrained for check in checks if check.retrained]
    found.sort(key=lambda retrained: retrained.how == "bitwise")
    again = {retrained.seed: retrained for retrained in found}
    return dict(sorted(again.items()))


def _replicated(again: Mapping[int, Retrained], records: Sequence[RunRecord]) -> bool:
    if len(records) < 2 or set(again) != {record.seed for record in records}:
        return False
    if all(found.how == "bitwise" for found in again.values()):
        return True
    recorded = [primary_value(record) for record in records if record.status == "completed"]
    values = [found.value for found in again.values() if found.value is not None]
    if min(len(recorded), len(values)) < 2:
        return False
    return difference_interval(values, recorded).contains(0.0)
