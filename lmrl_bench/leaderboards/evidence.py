"""Evidence for the numbers of a leaderboard.

Learning curves of every seed, and the completions of all entries to the same prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from lmrl_bench.core.errors import RecordError
from lmrl_bench.leaderboards.consistency import check_numbers
from lmrl_bench.leaderboards.ranking import SPLIT, UNFILTERED
from lmrl_bench.leaderboards.table import (
    Curve,
    CurveOfSeed,
    ShownCompletion,
    ShownSample,
    significant,
)
from lmrl_bench.records.curves import ValidationPoint
from lmrl_bench.records.record import RunRecord, TaskInfo
from lmrl_bench.records.store import CURVES, SAMPLES, SHOWN_SAMPLES, read_curves, read_samples

_POINTS = TypeAdapter(list[ValidationPoint])
_NUMBERS = [name for name in ValidationPoint.model_fields if name != "kind"]


class Evidence(NamedTuple):
    """Evidence for the numbers of one completed run.

    Attributes:
        points: Its evaluations on the validation split.
        rows: Its first completions on the test split; none where they are not shown.
    """

    points: list[ValidationPoint]
    rows: list[dict[str, Any]]


def read_evidence(folder: Path, record: RunRecord, shown: bool) -> Evidence:
    """Reads the files next to the record of a completed run.

    Args:
        folder: The folder of the run.
        record: Its record.
        shown: Whether its completions are shown.

    Raises:
        RecordError: A curve lacks what a leaderboard draws, or a file cannot be read.
    """
    points: list[ValidationPoint] = []
    if record.curves is not None:
        lines = [line for line in read_curves(folder) if line.get("kind") == "validation"]
        points = _points(folder, lines)
        metric = f"metric/{record.task.primary_metric}"
        missing = [p.iteration for p in points if metric not in (p.model_extra or {})]
        if missing and len(points) > 1:
            raise RecordError(
                f"{folder}/curves.jsonl: iteration {missing[0]} lacks {metric}; "
                "run again with --rerun all"
            )
    rows = _first_rows(folder, record) if shown and record.samples is not None else []
    return Evidence(points, rows)


def collect_curves(
    records: Mapping[Path, RunRecord], evidence: Mapping[Path, Evidence], info: TaskInfo | None
) -> list[Curve]:
    """Returns the validation curves of all completed training runs, by entry."""
    if info is None:
        return []
    metric = f"metric/{info.primary_metric}"
    found: dict[str, list[CurveOfSeed]] = {}
    for folder, record in records.items():
        points = evidence[folder].points if folder in evidence else []
        if len(points) < 2:
            continue  # nothing was trained: there is no curve to draw
        found.setdefault(record.entry, []).append(
            CurveOfSeed(
                seed=record.seed,
                tokens=[p.tokens for p in points],
                reward=[significant(p.reward) for p in points],
                primary=[significant((p.model_extra or {})[metric]) for p in points],
            )
        )
    return [Curve(entry=entry_name, seeds=seeds) for entry_name, seeds in found.items()]


def _points(folder: Path, lines: Sequence[Mapping[str, Any]]) -> list[ValidationPoint]:
    try:
        points = _POINTS.validate_python(lines)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place, *field = first["loc"]
        raise RecordError(
            f"{folder}/curves.jsonl: iteration {lines[int(place)].get('iteration')}: "
            f"{'.'.join(map(str, field))}: {first['msg']}; run again with --rerun all"
        ) from error
    path = f"{folder}/{CURVES}"
    for point in points:
        numbers = {n: value for n in _NUMBERS if (value := getattr(point, n)) is not None}
        check_numbers(path, numbers | (point.model_extra or {}))
    return points


def collect_samples(
    records: Mapping[Path, RunRecord],
    evidence: Mapping[Path, Evidence],
    seed: int,
    entry_names: Sequence[str],
) -> list[ShownSample]:
    """Returns the first test prompts with the completions of every entry that completed the given seed.

    Raises:
        RecordError: Two entries have different prompts.
    """
    shown: dict[str, dict[str, Any]] = {}
    completions: dict[str, list[ShownCompletion]] = {}
    by_entry = {record.entry: folder for folder, record in records.items() if record.seed == seed}
    for entry_name in entry_names:
        folder = by_entry.get(entry_name)
        if folder is None or folder not in evidence:
            continue
        for row in evidence[folder].rows:
            known = shown.setdefault(row["sample_id"], {**row, "folder": folder})
            if known["prompt_sha256"] != row["prompt_sha256"]:
                raise RecordError(
                    f"the sample {row['sample_id']} has different prompts in {known['folder']} and "
                    f"{folder}; run these cells again"
                )
            completions.setdefault(row["sample_id"], []).append(_shown_completion(entry_name, row))
    return [
        ShownSample(
            sample_id=sample_id,
            prompt=shown[sample_id]["prompt"],
            references=shown[sample_id]["references"],
            completions=found,
        )
        for sample_id, found in completions.items()
    ]


def _first_rows(folder: Path, record: RunRecord) -> list[dict[str, Any]]:
    """Returns the first completions under the decoding that the entry is ranked by."""
    decoding = UNFILTERED if UNFILTERED in record.results else SPLIT
    table = read_samples(folder, without=("completion_ids", "seed_index"))
    places = [n for n, name in enumerate(table["decoding"].to_pylist()) if name == decoding]
    if not places:
        return []
    first, *_, last = [places[0], *places[:SHOWN_SAMPLES]]
    # Not `table.take`: it loads pandas, which takes longer than a leaderboard of dozens of records.
    rows = table.slice(first, last - first + 1).to_pylist()
    shown = [row for row in rows if row["decoding"] == decoding and row["prompt"] is not None]
    for row in shown:
        scores = {name: value for name, value in row.items() if isinstance(value, float)}
        check_numbers(f"{folder}/{SAMPLES}", scores)
    return shown


def _shown_completion(entry_name: str, row: Mapping[str, Any]) -> ShownCompletion:
    scores = {
        name.removeprefix("metric/"): significant(value)
        for name, value in row.items()
        if name.startswith("metric/") and value is not None
    }
    return ShownCompletion(
        entry=entry_name,
        completion=row["completion"],
        terminated=row["terminated"],
        reward=significant(row["reward"]),
        scores=scores,
    )
