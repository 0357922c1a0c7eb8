"""Reading finished runs: list them, load one with its curves, compare two, read completions. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmrl_bench.algorithms.defaults import with_defaults
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError, LmrlBenchError, RecordError, nearest
from lmrl_bench.core.strict_json import Fact
from lmrl_bench.records.curves import ValidationPoint, read_points
from lmrl_bench.records.listing import find_run
from lmrl_bench.records.record import RunRecord
from lmrl_bench.records.samples import info_of
from lmrl_bench.records.store import CURVES, SAMPLES, read_record, read_samples
from lmrl_bench.tasks.catalog import load_task

RESULTS = Path("results")
CURVE_POINTS = 8
"""Token counts at which two curves are compared."""


class ChangedSetting(NamedTuple):
    """A setting of a run that is not the default.

    Attributes:
        name: Dotted, as `--set` takes it.
        value: In this run.
        default: None as well where the setting is unknown here, e.g. of a missing plug-in.
    """

    name: str
    value: Any
    default: Any


class Difference(NamedTuple):
    """Something of which two runs have different values.

    Attributes:
        name: Dotted name of a setting, or "split measure" of a result.
        left: Of the first run; None where it has none.
        right: Of the second run; None where it has none.
    """

    name: str
    left: Any
    right: Any


@dataclass(frozen=True)
class LoadedRun:
    """A run as its files say.

    Attributes:
        folder: Where it lies.
        record: The record: settings, results, budget, times, provenance.
        changed: Settings that differ from the defaults.
        curve: Evaluations on the validation split, by generated tokens; empty without curves.
    """

    folder: Path
    record: RunRecord
    changed: list[ChangedSetting]
    curve: list[ValidationPoint]

    @property
    def primary(self) -> list[float | None]:
        """The primary metric at each point of the curve."""
        key = f"metric/{self.record.task.primary_metric}"
        return [(point.model_extra or {}).get(key) for point in self.curve]


@dataclass(frozen=True)
class Completion:
    """One completion of a test prompt.

    Attributes:
        sample_id: Of the test split.
        prompt: None if neither the record keeps it nor the same version of the task is installed.
        completion: What the policy wrote.
        references: Reference texts; None where the prompt is.
        reward: Of the completion.
        scores: Metrics and parts of the reward of this completion.
        terminated: Whether it ended by itself and not at the limit.
        info: What rewards and metrics said beyond numbers; empty for most tasks.
    """

    sample_id: str
    prompt: str | None
    completion: str
    references: list[str] | None
    reward: float
    scores: dict[str, float]
    terminated: bool
    info: dict[str, Fact]


@dataclass(frozen=True)
class CurvePair:
    """Two runs at one number of generated tokens, linearly interpolated between evaluations.

    Attributes:
        tokens: Generated completion tokens.
        reward: Mean validation reward of the two.
        metric: Primary metric of the two; None where their metrics differ.
    """

    tokens: int
    reward: tuple[float, float]
    metric: tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """Two runs next to each other.

    Attributes:
        left: The first run.
        right: The second run.
        settings: Settings that differ.
        same: Settings that do not.
        results: Every measure of every split that either has.
        curves: Both curves at equal tokens, up to where the shorter one ends.
        completions: Pairs of completions of the same prompts.
    """

    left: LoadedRun
    right: LoadedRun
    settings: list[Difference]
    same: list[Difference]
    results: list[Difference]
    curves: list[CurvePair]
    completions: list[tuple[Completion, Completion]]


def load_run(run: str | Path, *, results: str | Path = RESULTS) -> LoadedRun:
    """Reads one run: its record, what it set, and its validation curve.

    Args:
        run: Its folder, its id as `lmrl-bench run` prints it, or task/entry/seed.
        results: Folder of all results, which is searched for a name.

    Raises:
        RecordError: There is no such run, or its files cannot be read.
    """
    folder = find_run(run, results)
    record = read_record(folder)
    curve = read_points(folder)[1] if (folder / CURVES).is_file() else []
    return LoadedRun(folder, record, _changed(record), curve)


def load_completions(
    run: str | Path,
    *,
    n: int | None = None,
    split: str = "test",
    order: str = "first",
    results: str | Path = RESULTS,
) -> list[Completion]:
    """Returns stored completions of the test split.

    Args:
        run: As in `load_run`.
        n: How many; default: all. Records keep the texts of the first prompts; the others are
            those of the installed task, if it is of the same version.
        split: "test", or another decoding that was stored, e.g. "test-greedy".
        order: "first", "best" or "worst"; the latter two by reward.
        results: As in `load_run`.

    Raises:
        RecordError: There is no such run, or it has no such completions.
        ConfigError: An unknown order.
    """
    if order not in ("first", "best", "worst"):
        raise ConfigError(f"order {order!r:.60}: unknown (allowed: first, best, worst)")
    folder = find_run(run, results)
    if not (folder / SAMPLES).is_file():
        record = read_record(folder)
        raise RecordError(f"{folder}: no completions are stored; the run is {record.status}")
    rows = read_samples(folder, without=("completion_ids", "prompt_sha256")).to_pylist()
    stored = list(dict.fromkeys(row["decoding"] for row in rows))
    if split not in stored:
        raise RecordError(
            f"{folder}: no completions of '{split}'{nearest(split, stored)} "
            f"(stored: {', '.join(stored)})"
        )
    found = [_completion(row) for row in rows if row["decoding"] == split]
    if order != "first":
        found.sort(key=lambda each: each.reward, reverse=order == "best")
    return _with_texts(found[:n], folder)


def compare_runs(
    left: str | Path, right: str | Path, *, n: int = 3, results: str | Path = RESULTS
) -> Comparison:
    """Puts two runs next to each other: settings, results, curves at equal tokens, completions.

    Args:
        left: As `run` in `load_run`.
        right: The other run.
        n: Pairs of completions.
        results: As in `load_run`.

    Raises:
        RecordError: There is no such run, or its files cannot be read.
    """
    first, second = load_run(left, results=results), load_run(right, results=results)
    flat = [{n: _text(v) for n, v in _flat(r.record.config).items()} for r in (first, second)]
    settings = _differences(*flat)
    return Comparison(
        left=first,
        right=second,
        settings=[each for each in settings if each.left != each.right],
        same=[each for each in settings if each.left == each.right],
        results=_differences(_measures(first.record), _measures(second.record)),
        curves=_curves(first, second),
        completions=_pairs(first, second)[:n],
    )


def _changed(record: RunRecord) -> list[ChangedSetting]:
    defaults = _defaults(record)
    return [
        ChangedSetting(name, value, defaults.get(name))
        for name, value in _flat(record.config).items()
        if name not in ("task", "algorithm.name")
        and (name not in defaults or value != defaults[name])
    ]


def _defaults(record: RunRecord) -> dict[str, Any]:
    name = str(record.algorithm.get("name", ""))
    plain = RunConfig.model_validate({"task": record.task.name, "algorithm": {"name": name}})
    try:
        algorithm = with_defaults(name, {})
    except ConfigError:  # of a plug-in that is not installed here: every setting counts
        algorithm = {}
    return _flat({**plain.scientific(), "algorithm": algorithm})


def _text(value: Any) -> str:
    """A setting as YAML has it, which tells null from a setting that a run does not have."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _measures(record: RunRecord) -> dict[str, float]:
    found: dict[str, float] = {}
    for split, results in record.results.items():
        found[f"{split} reward"] = results.reward
        found |= {f"{split} {name}": metric.value for name, metric in results.metrics.items()}
        if results.kl_to_reference is not None:
            found[f"{split} KL (nats)"] = results.kl_to_reference
        found[f"{split} tokens per completion"] = results.mean_length
        found[f"{split} share cut at the limit"] = results.truncated_share
    return found


def _differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    names = dict.fromkeys([*left, *right])
    return [Difference(name, left.get(name), right.get(name)) for name in names]


def _curves(left: LoadedRun, right: LoadedRun) -> list[CurvePair]:
    if not left.curve or not right.curve:
        return []
    ends = [run.curve[-1].tokens for run in (left, right)]
    grid = np.unique(np.linspace(0, min(ends), CURVE_POINTS).round().astype(int))
    rewards = [_at(grid, run, [point.reward for point in run.curve]) for run in (left, right)]
    metrics: list[list[float]] | None = None
    if left.record.task.primary_metric == right.record.task.primary_metric:
        values = [[v for v in run.primary if v is not None] for run in (left, right)]
        if all(len(v) == len(run.curve) for v, run in zip(values, (left, right), strict=True)):
            metrics = [_at(grid, left, values[0]), _at(grid, right, values[1])]
    return [
        CurvePair(
            int(tokens),
            (rewards[0][i], rewards[1][i]),
            None if metrics is None else (metrics[0][i], metrics[1][i]),
        )
        for i, tokens in enumerate(grid)
    ]


def _at(grid: np.ndarray[Any, Any], run: LoadedRun, values: Sequence[float]) -> list[float]:
    tokens = [point.tokens for point in run.curve]
    return [float(value) for value in np.interp(grid, tokens, values)]


def _pairs(left: LoadedRun, right: LoadedRun) -> list[tuple[Completion, Completion]]:
    """Completions of the same prompts, as far as both runs stored the prompt's text."""
    if left.record.task.name != right.record.task.name:
        return []
    found = []
    for run in (left, right):
        try:
            rows = load_completions(run.folder)
        except RecordError:  # a run without a test
            return []
        found.append({row.sample_id: row for row in rows if row.prompt is not None})
    return [(row, found[1][key]) for key, row in found[0].items() if key in found[1]]


def _with_texts(found: list[Completion], folder: Path) -> list[Completion]:
    """Adds prompts that the record does not keep, where the same version of the task is installed."""
    if all(each.prompt is not None for each in found):
        return found
    record = read_record(folder)
    try:
        task = load_task(record.task.name)
        if task.digest != record.task.digest:
            return found
        texts = {sample.id: sample for sample in task.samples("test")}
    except LmrlBenchError:  # the run is readable without its task
        return found
    return [
        replace(
            each,
            prompt=texts[each.sample_id].prompt,
            references=list(texts[each.sample_id].references),
        )
        if each.prompt is None and each.sample_id in texts
        else each
        for each in found
    ]


def _completion(row: Mapping[str, Any]) -> Completion:
    scores = {
        name.removeprefix("metric/"): value
        for name, value in row.items()
        if name.startswith(("metric/", "reward/")) and value is not None
    }
    return Completion(
        sample_id=row["sample_id"],
        prompt=row["prompt"],
        completion=row["completion"],
        references=row["references"],
        reward=row["reward"],
        scores=scores,
        terminated=row["terminated"],
        info=info_of(row),
    )
