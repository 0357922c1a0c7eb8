"""Stored answers against the task and the record: the right prompts in order, and means that are their means."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from lmrl_bench.config.run import EvaluationConfig
from lmrl_bench.data.sample import Sample
from lmrl_bench.leaderboards.ranking import UNFILTERED
from lmrl_bench.records.record import RunRecord, SplitResults
from lmrl_bench.records.store import read_samples
from lmrl_bench.tasks.task import Task

TOLERANCE = 1e-6
"""Largest difference, relative to the larger of 1 and the recomputed value."""


class Answers(NamedTuple):
    """The answers of one decoding, in the order of the task's test split.

    Attributes:
        decoding: "test", "test-greedy" or "test-unfiltered".
        results: What the record says of them.
        rows: Rows of samples.parquet.
        samples: The `n` samples that they answer.
    """

    decoding: str
    results: SplitResults
    rows: list[dict[str, Any]]
    samples: Sequence[Sample]


def answers(folder: Path, record: RunRecord, task: Task) -> tuple[list[Answers], list[str]]:
    """Returns the answers of a completed run by decoding, and why some cannot be its own.

    Raises:
        RecordError: The file cannot be read.
        LmrlBenchError: The task's data cannot be read.
    """
    if record.samples is None:
        return [], ["names no samples.parquet, so nothing can be scored again"]
    decodings: dict[str, list[dict[str, Any]]] = {}
    for row in read_samples(folder).to_pylist():
        decodings.setdefault(row["decoding"], []).append(row)
    tests = {name: r for name, r in record.results.items() if name != "validation"}
    if set(decodings) != set(tests):
        return [], [f"samples.parquet holds {sorted(decodings)}, the record {sorted(tests)}"]
    try:
        evaluation = EvaluationConfig.model_validate(record.config.get("evaluation"))
    except ValidationError as error:
        return [], [f"the record's evaluation settings cannot be read ({error})"]
    samples = task.samples("test")[: evaluation.test_samples]
    found, reasons = [], list(_left_out(record, tests, task, evaluation))
    for name, results in tests.items():
        reason = _other_samples(decodings[name], samples, results.n)
        if reason:
            reasons.append(f"{name}: {reason}")
        else:
            found.append(Answers(name, results, decodings[name], samples))
    return found, reasons


def means(found: Answers) -> Iterator[tuple[str, float, float]]:
    """Yields name, claimed value and mean over the answers of all that is such a mean."""
    results, rows = found.results, found.rows
    claims: list[tuple[str, float, list[float | None]]] = [
        ("mean_length", results.mean_length, [float(len(row["completion_ids"])) for row in rows]),
        ("truncated_share", results.truncated_share, [float(not r["terminated"]) for r in rows]),
        ("reward", results.reward, [row["reward"] for row in rows]),
        *(
            (f"reward/{part}", value, [row.get(f"reward/{part}") for row in rows])
            for part, value in results.reward_components.items()
        ),
    ]
    for what, claimed, values in claims:
        known = [value for value in values if value is not None]
        yield what, claimed, math.fsum(known) / len(rows) if len(known) == len(rows) else math.nan


def difference(claimed: float, found: float) -> float:
    """Returns |claimed − found|, relative to the larger of 1 and the value found; NaN for NaN."""
    return abs(claimed - found) / max(1.0, abs(found))


def disagreement(
    what: str, claimed: float, found: float, tolerance: float = TOLERANCE
) -> str | None:
    """Returns the sentence for two numbers that are not equal to the tolerance, or None."""
    if difference(claimed, found) <= tolerance:
        return None
    return f"{what} is {claimed:.9g}, but {found:.9g} by the stored answers"


def _left_out(
    record: RunRecord,
    tests: Mapping[str, SplitResults],
    task: Task,
    evaluation: EvaluationConfig,
) -> Iterator[str]:
    """Yields what every run measures and this one does not, or the reverse."""
    metrics = task.spec.metrics
    held_out = [component.key for component in metrics.held_out]
    for what, claimed, known in (
        ("primary_metric", record.task.primary_metric, metrics.primary.key),
        ("held_out_metrics", record.task.held_out_metrics, held_out),
    ):
        if claimed != known:
            yield f"task.{what} is {claimed} in the record, {known} in the task"
    if ("test-greedy" in tests) != evaluation.greedy:
        yield f"evaluation.greedy is {evaluation.greedy}, but the decodings are {sorted(tests)}"
    algorithm = record.algorithm.get("name")
    if record.traits.filters_tokens and UNFILTERED not in tests:
        yield f"{algorithm} acts through a mask, but '{UNFILTERED}' is not in {sorted(tests)}"
    wanted = {component.key for component in task.spec.metrics.all()}
    for name, results in tests.items():
        if set(results.metrics) != wanted:
            yield f"{name}: has the metrics {sorted(results.metrics)}, the task {sorted(wanted)}"


def _other_samples(
    rows: Sequence[Mapping[str, Any]], samples: Sequence[Sample], n: int
) -> str | None:
    """Returns why the rows are not the answers to the task's test prompts, in order."""
    ids = [row["sample_id"] for row in rows]
    twice = [sample_id for sample_id, count in Counter(ids).items() if count > 1]
    if twice:
        return f"the sample {twice[0]} is answered twice"
    if not len(ids) == n == len(samples):
        return f"{len(ids)} answers, {n} in the record, but the task asks for {len(samples)}"
    for number, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        if row["sample_id"] != sample.id:
            return f"row {number} is of the sample {row['sample_id']}, where {sample.id} belongs"
        if row["prompt_sha256"] != hashlib.sha256(sample.prompt.encode()).hexdigest():
            return f"the sample {sample.id} has another prompt than the task's"
        shown = (row["prompt"], row["references"])
        if shown not in ((None, None), (sample.prompt, list(sample.references))):
            return f"the sample {sample.id} is shown with another prompt or other references"
    return _unscored(rows)


def _unscored(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns why the answers cannot be the scored ones: each has a finite value of what any has."""
    for name in rows[0] if rows else ():
        if not name.startswith(("reward", "metric/")):
            continue
        values = [row[name] for row in rows]
        missing = values.count(None)
        if 0 < missing < len(values):
            return f"{name} has a value for {len(values) - missing} of {len(values)} answers"
        if not missing and not all(map(math.isfinite, values)):
            return f"{name} is not finite"
    return None
