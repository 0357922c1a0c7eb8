"""Scores stored answers again (`submission rescore`): what a record says must follow from samples.parquet.

Needs no accelerator and no policy. Metrics that a model computes are left to its owner's machine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lmrl_bench.errors import RecordError
from lmrl_bench.metrics.base import Metric
from lmrl_bench.records.record import RunRecord, SplitResults
from lmrl_bench.records.store import check_files, find_folders, read_record, read_samples
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task
from lmrl_bench.text.sample import Sample

TOLERANCE = 1e-6
"""Largest difference, relative to the larger of 1 and the recomputed value."""
TEXT_METRICS = tuple(
    f"lmrl_bench.metrics.{name}" for name in ("coverage", "diversity", "meteor", "overlap", "rouge")
)
"""Modules of the metrics that are functions of the texts alone."""
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Rescored:
    """What was recomputed.

    Attributes:
        records: Completed runs.
        numbers: Numbers that were recomputed, per sample and per corpus.
        left_out: Metrics that need a model or the task's plug-in, which were not recomputed.
    """

    records: int
    numbers: int
    left_out: tuple[str, ...]


def rescore(root: Path) -> Rescored:
    """Recomputes every text metric of all completed runs below a folder.

    Raises:
        RecordError: A record or its files cannot be read, were changed or do not say what their
            answers say; all problems together, each with its file.
    """
    task_of = cache(load_task)
    problems: list[str] = []
    records, numbers, left_out = 0, 0, set()
    for folder in find_folders(root):
        record = read_record(folder)
        if record.status != "completed":
            continue
        check_files(folder, record)
        found = _Run(folder, record, task_of(record.task.name))
        problems += found.problems()
        records, numbers = records + 1, numbers + found.numbers
        left_out |= found.left_out
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = problems[:_SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        raise RecordError("\n".join([*shown, "the records are refused; run these cells again"]))
    if not records:
        raise RecordError(f"{root}: no completed run below it; there is nothing to score again")
    return Rescored(records, numbers, tuple(sorted(left_out)))


class _Run:
    """One completed run, as it is scored again."""

    def __init__(self, folder: Path, record: RunRecord, task: Task) -> None:
        self.folder, self.record, self.task = folder, record, task
        self.numbers = 0
        self.left_out: set[str] = set()

    def problems(self) -> list[str]:
        """Returns what does not follow from the answers, with the folder."""
        return [f"{self.folder}: {problem}" for problem in self._problems()]

    def _problems(self) -> Iterator[str]:
        if self.record.task.digest != self.task.digest:
            yield "is of another state of the task (task.digest); use the version that made it"
            return
        if self.record.samples is None:
            yield "names no samples.parquet, so nothing can be scored again"
            return
        decodings: dict[str, list[dict[str, Any]]] = {}
        for row in read_samples(self.folder).to_pylist():
            decodings.setdefault(row["decoding"], []).append(row)
        tests = {name: r for name, r in self.record.results.items() if name != "validation"}
        if set(decodings) != set(tests):
            yield f"samples.parquet holds {sorted(decodings)}, the record {sorted(tests)}"
            return
        for decoding, results in tests.items():
            yield from self._decoding(decoding, results, decodings[decoding])

    def _decoding(
        self, name: str, results: SplitResults, rows: Sequence[Mapping[str, Any]]
    ) -> Iterator[str]:
        samples = self.task.samples("test")[: self.record.config["evaluation"]["test_samples"]]
        if reason := _other_samples(rows, samples, results.n):
            yield f"{name}: {reason}"
            return
        yield from self._means(name, results, rows)
        responses = [row["output"] for row in rows]
        for key, stored in results.metrics.items():
            metric = self.task.metric(key)
            if type(metric).__module__ not in TEXT_METRICS:
                self.left_out.add(key)
                continue
            yield from self._metric(name, key, metric, stored.value, responses, samples, rows)

    def _means(
        self, name: str, results: SplitResults, rows: Sequence[Mapping[str, Any]]
    ) -> Iterator[str]:
        """What is a mean over the answers must be their mean."""
        lengths = [float(len(row["output_ids"])) for row in rows]
        claims: list[tuple[str, float, Sequence[float | None]]] = [
            ("mean_length", results.mean_length, lengths),
            ("reward", results.reward, [row["reward"] for row in rows]),
            *(
                (f"reward/{part}", value, [row.get(f"reward/{part}") for row in rows])
                for part, value in results.reward_components.items()
            ),
        ]
        for what, claimed, values in claims:
            known = [value for value in values if value is not None]
            mean = math.fsum(known) / len(rows) if len(known) == len(rows) else math.nan
            yield from self._same(f"{name}: {what}", claimed, mean)

    def _metric(
        self,
        name: str,
        key: str,
        metric: Metric,
        claimed: float,
        responses: Sequence[str],
        samples: Sequence[Sample],
        rows: Sequence[Mapping[str, Any]],
    ) -> Iterator[str]:
        signature = self.record.task.metric_signatures.get(key)
        if signature != metric.signature:
            yield f"{name}: {key} is of another version: {signature}, here {metric.signature}"
            return
        found = metric.score(responses, samples)
        yield from self._same(f"{name}: {key}", claimed, found.value)
        if found.per_sample is None:
            return
        for row, value in zip(rows, found.per_sample, strict=True):
            stored = row.get(f"metric/{key}")
            what = f"{name}: {key} of the sample {row['sample_id']}"
            yield from self._same(what, math.nan if stored is None else stored, float(value))

    def _same(self, what: str, claimed: float, found: float) -> Iterator[str]:
        self.numbers += 1
        close = abs(claimed - found) <= TOLERANCE * max(1.0, abs(found))
        if not close:  # also where one is NaN
            yield f"{what} is {claimed:.9g}, but {found:.9g} by the stored answers"


def _other_samples(
    rows: Sequence[Mapping[str, Any]], samples: Sequence[Sample], n: int
) -> str | None:
    """Returns why the rows are not the answers to the task's test prompts, in order."""
    ids = [row["sample_id"] for row in rows]
    twice = sorted({sample_id for sample_id in ids if ids.count(sample_id) > 1})
    if twice:
        return f"the sample {twice[0]} is answered twice"
    if not len(ids) == n == len(samples):
        return f"{len(ids)} answers, {n} in the record, but the task asks for {len(samples)}"
    for number, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        if row["sample_id"] != sample.id:
            return f"row {number} is of the sample {row['sample_id']}, where {sample.id} belongs"
        if row["prompt_sha256"] != hashlib.sha256(sample.prompt.encode()).hexdigest():
            return f"the sample {sample.id} has another prompt than the task's"
    if not all(np.isfinite(row["reward"]) for row in rows if row["reward"] is not None):
        return "a reward is not finite"
    return None
