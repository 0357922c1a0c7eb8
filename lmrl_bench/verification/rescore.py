"""Scores stored answers again (`results rescore`): what a record says must follow from samples.parquet.

Needs no policy. Every metric and the reward are computed by the same call on the same answers in the
same order as when the run was evaluated, so models see the same batches. On one machine the numbers
repeat bit for bit; on another kind of processor models round otherwise (`MODEL_TOLERANCE`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np

from lmrl_bench.core.errors import DownloadError, LmrlBenchError, RecordError, VerificationError
from lmrl_bench.core.parquet import unreadable
from lmrl_bench.core.strict_json import Fact
from lmrl_bench.metrics.base import FloatArray, Info
from lmrl_bench.metrics.scoring import score
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.samples import info_of
from lmrl_bench.records.store import SAMPLES, check_files, find_folders, read_record
from lmrl_bench.rewards.base import RewardBatch, RewardOutput
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.spec import ComponentSpec
from lmrl_bench.tasks.task import Task
from lmrl_bench.verification.bounds import problems as bound_problems
from lmrl_bench.verification.bounds.signatures import installed_packages, textual, without_versions
from lmrl_bench.verification.completions import (
    TOLERANCE,
    Answers,
    answers,
    difference,
    disagreement,
    means,
)
from lmrl_bench.verification.tree import unpacked, unsafe

MODEL_TOLERANCE = 1e-5
"""The same for one answer under a model, in single precision: other processors round otherwise.

Measured on the leaderboard `quickstart`, scored again on another kind of processor: single answers differ by
up to 3.6e-6; numbers of whole splits agree to 1e-6 (to 1.3e-7 in the runs looked at one by one). Other
sizes of batches on one processor: up to 7e-7. On one machine with the same batches: 0 (rewards, which
are stored in single precision: 3e-8).
"""
REWARD = "reward"
_SHOWN_PROBLEMS = 20
M = TypeVar("M")


@dataclass
class Rescored:
    """The recomputed results.

    Attributes:
        records: Completed runs, by folder.
        numbers: Numbers that were recomputed, per sample and per corpus.
        largest: Per metric and reward, the largest difference found, relative to the larger of 1 and
            the value.
        left_out: Metrics and rewards that were not recomputed, by folder.
        libraries: Libraries of other versions than the recorded ones ("transformers 5.0 → 5.1").
    """

    records: dict[Path, RunRecord] = field(default_factory=dict)
    numbers: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    left_out: dict[Path, set[str]] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)


def rescore(root: Path, *, models: bool = True) -> Rescored:
    """Recomputes metrics and rewards of all completed runs below a folder.

    Args:
        root: A folder of runs, or the folder of one.
        models: Also what a model or a plug-in of the task computes.

    Raises:
        VerificationError: A record, its files or its task cannot be read, were changed or do not say
            what the answers say; all problems together, each with its file or folder.
        RecordError: There is no such folder, or nothing to score again.
        DownloadError: A model is not installed; names it and the command that installs it.
    """
    if models:
        import torch

        torch.set_num_threads(1)  # as when the runs were made
    task_of = functools.cache(load_task)
    found = Rescored()
    problems: list[str] = []
    folders = find_folders(root)
    files = [folder / SAMPLES for folder in folders if not unsafe(folder)]
    unread = unreadable([path for path in files if path.is_file()])
    for folder in folders:
        if reason := unread.get(folder / SAMPLES):
            problems.append(f"{folder / SAMPLES}: cannot be read ({reason})")
            continue
        try:
            record = _read(folder)
        except RecordError as error:
            problems.append(str(error))
            continue
        if record.status == "completed":
            problems += _problems(folder, record, task_of, models, found)
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = problems[:_SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        raise VerificationError(
            "\n".join(
                [*shown, "the records are refused; fix what is named, or run these cells again"]
            )
        )
    if not found.records:
        raise RecordError(f"{root}: no completed run below it; there is nothing to score again")
    return found


def _read(folder: Path) -> RunRecord:
    """Returns the record, after checking that no file next to it is a link or too large, packed or unpacked."""
    if reason := unsafe(folder):
        raise RecordError(reason)
    record = read_record(folder)
    check_files(folder, record)
    info = record.samples
    if info and (reason := unpacked(folder, info.rows, info.rows)):
        raise RecordError(f"{folder}: {reason}")
    return record


def _problems(
    folder: Path, record: RunRecord, task_of: Callable[[str], Task], models: bool, found: Rescored
) -> Iterator[str]:
    """Yields what is wrong with one completed run; a task or data that cannot be read here among it.

    Raises:
        DownloadError: A model is not installed.
    """
    try:
        for problem in _Run(folder, record, task_of(record.task.name), models, found).problems():
            yield f"{folder}: {problem}"
    except DownloadError:
        raise
    except LmrlBenchError as error:
        yield f"{folder}: {error}"


class _Run:
    """One completed run, as it is scored again; what it finds is added to `found`."""

    def __init__(
        self, folder: Path, record: RunRecord, task: Task, models: bool, found: Rescored
    ) -> None:
        self.folder, self.record, self.task = folder, record, task
        self.models, self.found = models, found
        found.records[folder] = record
        found.left_out[folder] = set()

    def problems(self) -> Iterator[str]:
        """Yields what does not follow from the answers."""
        if self.record.task.digest != self.task.digest:
            yield "was made with a changed task (task.digest); use the version that made it"
            return
        try:
            whole, reasons = answers(self.folder, self.record, self.task)
        except RecordError as error:
            yield str(error)
            return
        yield from reasons
        yield from bound_problems(self.folder, self.record, self.task)
        for decoding in whole:
            for what, claimed, value in means(decoding):
                yield from self._same(None, f"{decoding.decoding}: {what}", claimed, value)
            for component in self.task.spec.metrics.all():
                if component.key in decoding.results.metrics:
                    yield from self._metric(component, decoding)
            yield from self._reward(decoding)

    def _metric(self, component: ComponentSpec, answered: Answers) -> Iterator[str]:
        key = component.key
        if not self.models and not textual(component.name):
            self.found.left_out[self.folder].add(key)
            return
        metric = self._made(lambda: self.task.metric(key))
        recorded = self.record.task.metric_signatures.get(key, "none")
        if reason := self._other_version(key, recorded, metric.signature):
            yield f"{answered.decoding}: {reason}"
            return
        if self.record.task.higher_is_better(key) is not metric.higher_is_better:
            yield f"{answered.decoding}: the record has the direction of {key} the wrong way round"
        completions = [row["completion"] for row in answered.rows]
        result = score(metric, completions, answered.samples, finite=False)
        name = f"{answered.decoding}: {key}"
        yield from self._same(key, name, answered.results.metrics[key].value, result.value)
        if result.per_sample is not None:
            exact = textual(component.name)
            column = f"metric/{key}"
            yield from self._column(key, column, name, answered, result.per_sample, exact)
        yield from self._info(key, f"metric/{key}/", answered, result.info, textual(component.name))

    def _reward(self, answered: Answers) -> Iterator[str]:
        exact = all(textual(term.name) for term in self.task.spec.reward.terms)
        if not self.models and not exact:
            self.found.left_out[self.folder].add(REWARD)
            return
        reward = self._made(self.task.reward)
        if reason := self._other_version(
            REWARD, self.record.task.reward_signature, reward.signature
        ):
            yield f"{answered.decoding}: {reason}"
            return
        reward.prepare(self.task.samples("test"))
        output = reward(_batch(answered))
        name = f"{answered.decoding}: {REWARD}"
        yield from self._column(REWARD, "reward", name, answered, _totals(output), exact)
        if set(output.components) != set(answered.results.reward_components):
            yield f"{name} has the parts {sorted(output.components)} by the task"
            return
        for part, values in output.components.items():
            column = f"reward/{part}"
            yield from self._column(REWARD, column, f"{name}/{part}", answered, values, exact)
        yield from self._info(REWARD, "reward/", answered, output.info, exact)

    def _info(
        self, key: str, prefix: str, answered: Answers, info: Info, exact: bool
    ) -> Iterator[str]:
        """Compares stored facts: texts by their letters, numbers as scores are compared."""
        tolerance = TOLERANCE if exact else MODEL_TOLERANCE
        for number, row in enumerate(answered.rows):
            stored = {n: v for n, v in info_of(row).items() if n.startswith(prefix)}
            found = {f"{prefix}{name}": facts[number] for name, facts in info.items()}
            place = f"{answered.decoding}: info of the sample {row['sample_id']}"
            if stored.keys() != found.keys():
                yield f"{place} has {sorted(stored)}, where scoring again gives {sorted(found)}"
                return
            for name, value in found.items():
                claimed = stored[name]
                if is_number(value) and is_number(claimed):
                    yield from self._same(key, f"{place}: {name}", claimed, value, tolerance)
                elif claimed != value or type(claimed) is not type(value):
                    yield f"{place}: {name} is {claimed!r:.60}, but {value!r:.60} when scored again"

    def _column(
        self,
        key: str,
        column: str,
        name: str,
        answered: Answers,
        values: FloatArray,
        exact: bool,
    ) -> Iterator[str]:
        tolerance = TOLERANCE if exact else MODEL_TOLERANCE
        for row, value in zip(answered.rows, values, strict=True):
            stored = row.get(column)
            claimed = float("nan") if stored is None else stored
            what = f"{name} of the sample {row['sample_id']}"
            yield from self._same(key, what, claimed, float(value), tolerance)

    def _same(
        self, key: str | None, what: str, claimed: float, value: float, tolerance: float = TOLERANCE
    ) -> Iterator[str]:
        self.found.numbers += 1
        if key is not None:
            before = self.found.largest.get(key, 0.0)
            self.found.largest[key] = max(before, difference(claimed, value))
        if reason := disagreement(what, claimed, value, tolerance):
            yield reason

    def _other_version(self, key: str, recorded: str, here: str) -> str | None:
        """Libraries may be of another version, as long as the numbers agree; nothing else may."""
        old, new = self.record.provenance.packages, installed_packages()
        if without_versions(recorded, old) != without_versions(here, new):
            return f"{key} is of another version: {recorded}, here {here}"
        if recorded != here:
            self.found.libraries |= {
                f"{name} {old[name]} → {new.get(name)}"
                for name in old
                if f"{name}:{old[name]}" in recorded and old[name] != new.get(name)
            }
        return None

    def _made(self, make: Callable[[], M]) -> M:
        try:
            return make()
        except DownloadError as error:
            raise DownloadError(
                f"{error}\nor leave out what needs a model, with --no-models"
            ) from error


def is_number(value: Fact) -> TypeGuard[int | float]:
    """Returns whether a fact is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _batch(answered: Answers) -> RewardBatch:
    """The episodes as the reward met them."""
    return RewardBatch(
        samples=answered.samples,
        completions=[row["completion"] for row in answered.rows],
        lengths=np.array([len(row["completion_ids"]) for row in answered.rows], dtype=np.int64),
        terminated=np.array([row["terminated"] for row in answered.rows], dtype=np.bool_),
    )


def _totals(output: RewardOutput) -> FloatArray:
    """`(B,)`, the score and the sum of the token rewards."""
    dense = output.token_rewards
    return output.scores if dense is None else output.scores + dense.sum(axis=1)
