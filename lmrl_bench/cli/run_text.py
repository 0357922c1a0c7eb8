"""Finished runs as text for a terminal, and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lmrl_bench.cli.output import results_lines
from lmrl_bench.core.wording import duration

if TYPE_CHECKING:
    from lmrl_bench.api.results import Comparison, Completion, Difference, LoadedRun
    from lmrl_bench.records.record import RunRecord

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60  # columns of a curve


def run_lines(run: LoadedRun) -> Iterator[str]:
    """Yields the lines of `results show`."""
    record = run.record
    yield f"{record.status}: {record.id}"
    yield f"folder         {run.folder}"
    yield f"task           {record.task.name} version {record.task.version}"
    yield f"algorithm      {record.algorithm.get('name')}, entry {record.entry}, seed {record.seed}"
    if record.policy is not None:
        policy = record.policy
        yield (
            f"initial policy {policy.model} ({policy.kind}, {policy.parameters:,} parameters), "
            f"{policy.init}, weights {policy.weights_sha256[:8]}"
        )
    if record.error is not None:
        yield f"error          {record.error.type}: {record.error.message}"
    yield ""
    yield "settings that differ from the defaults:" if run.changed else "settings: the defaults"
    for name, value, default in run.changed:
        yield f"  {name} = {_value(value)}  (default {_value(default)})"
    yield ""
    yield "results:" if record.results else "results: none"
    yield from (f"  {line}" for line in results_lines(record.results))
    yield ""
    yield from _curve_lines(run)
    yield from _cost_lines(record)
    yield from _environment_lines(record)


def as_dict(run: LoadedRun) -> dict[str, Any]:
    """Returns a run for JSON: the whole record, what it set, and its curve."""
    return {
        "folder": str(run.folder),
        "changed": [changed._asdict() for changed in run.changed],
        "curve": [point.model_dump(mode="json") for point in run.curve],
        "record": run.record.model_dump(mode="json"),
    }


def comparison_lines(found: Comparison, *, everything: bool) -> Iterator[str]:
    """Yields the lines of `results compare`.

    Args:
        found: The two runs.
        everything: Also print the settings that are equal.
    """
    left, right = found.left, found.right
    for name, run in (("left", left), ("right", right)):
        record = run.record
        yield f"{name:6} {record.status}: {record.id}  seed {record.seed}  {run.folder}"
    if left.record.task.digest != right.record.task.digest:
        yield "the two runs are of different tasks or versions of a task: results do not compare"
    yield ""
    shown = [*found.settings, *(found.same if everything else [])]
    yield "settings:" if shown else "settings: all equal"
    yield from _table(
        [("", "left", "right"), *(_setting_row(each) for each in shown)] if shown else []
    )
    yield ""
    yield "results:" if found.results else "results: none"
    if found.results:
        rows = [("", "left", "right", "right - left"), *map(_result_row, found.results)]
        yield from _table(rows)
    if found.curves:
        yield ""
        yield "validation at equal generated tokens (interpolated):"
        yield from _table(_curve_rows(found))
    for first, second in found.completions:
        yield ""
        yield from completion_lines(first, second)


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """Returns two runs for JSON."""
    return {
        "left": str(found.left.folder),
        "right": str(found.right.folder),
        "settings": [each._asdict() for each in found.settings],
        "same": [each._asdict() for each in found.same],
        "results": [each._asdict() for each in found.results],
        "curves": [asdict(pair) for pair in found.curves],
        "completions": [[asdict(first), asdict(second)] for first, second in found.completions],
    }


def completion_lines(first: Completion, second: Completion | None = None) -> Iterator[str]:
    """Yields a prompt, its reference texts, and one completion or two with their rewards."""
    yield f"[{first.sample_id}]"
    if first.prompt is None:
        yield "prompt:     (not in the record, and its version of the task is not installed)"
    else:
        yield f"prompt:     {_block(first.prompt)}"
    for text in first.references or ():
        yield f"reference:  {_block(text)}"
    names = ["completion:"] if second is None else ["left:", "right:"]
    for name, each in zip(names, [first] if second is None else [first, second], strict=True):
        cut = "" if each.terminated else "  [cut at the limit]"
        scores = "".join(f"  {key} {value:.4g}" for key, value in each.scores.items())
        yield f"{name:11} {_block(each.completion)}{cut}"
        yield f"            reward {each.reward:.4g}{scores}"
        for key, fact in each.info.items():
            yield f"            {key}: {fact}"


def _curve_lines(run: LoadedRun) -> Iterator[str]:
    if not run.curve:
        yield "curve: none"
        yield ""
        return
    last = run.curve[-1]
    yield f"validation, {len(run.curve)} evaluations over {last.tokens:,} generated tokens:"
    curves: list[tuple[str, list[float | None]]] = [
        ("reward", [point.reward for point in run.curve]),
        (run.record.task.primary_metric, run.primary),
        ("KL (nats)", [point.kl_to_reference for point in run.curve]),
        ("tokens per completion", [point.mean_length for point in run.curve]),
    ]
    for name, values in curves:
        known = [value for value in values if value is not None]
        if known:
            yield f"  {name:22} {known[0]:9.4g} {sparkline(known)} {known[-1]:.4g}"
    yield ""


def sparkline(values: Sequence[float]) -> str:
    """Returns one character per value, from the lowest bar to the highest; long curves are thinned."""
    if len(values) > _WIDTH:
        step = (len(values) - 1) / (_WIDTH - 1)
        values = [values[round(i * step)] for i in range(_WIDTH)]
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def _cost_lines(record: RunRecord) -> Iterator[str]:
    budget, time = record.budget, record.time
    yield (
        f"budget         {budget.tokens:,} of {budget.planned_tokens:,} tokens, "
        f"{budget.episodes:,} episodes, {budget.iterations:,} iterations"
    )
    parts = {
        "training": time.train_s,
        "generation": time.generate_s,
        "rewards": time.reward_s,
        "evaluation": time.evaluate_s,
    }
    shares = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds)
    yield f"time           {duration(time.wall_s)}" + (f" ({shares})" if shares else "")
    yield f"finished       {time.finished}"
    if time.peak_memory_mb:
        yield f"memory         {time.peak_memory_mb:,.0f} MiB at most"


def _environment_lines(record: RunRecord) -> Iterator[str]:
    source = record.provenance
    commit = f", commit {source.commit[:8]}" if source.commit else ""
    dirty = " with changes" if source.dirty else ""
    yield f"environment    lmrl-bench {source.package_version}{commit}{dirty}"
    yield f"               Python {source.python}, {source.platform}, {source.device}"
    if source.packages:
        names = ", ".join(f"{name} {version}" for name, version in source.packages.items())
        yield f"               {names}"
    if source.command:
        yield f"command        {source.command}"
    for event, count in record.events.items():
        yield f"event          {event}: {count}"
    for flag in record.fidelity.flags:
        yield f"fidelity       {flag} is out of bounds"


def _setting_row(each: Difference) -> tuple[str, ...]:
    return each.name, *(value if value is not None else "-" for value in (each.left, each.right))


def _result_row(each: Difference) -> tuple[str, ...]:
    both = each.left is not None and each.right is not None
    numbers = ["" if value is None else f"{value:.4f}" for value in (each.left, each.right)]
    return each.name, *numbers, f"{each.right - each.left:+.4f}" if both else ""


def _curve_rows(found: Comparison) -> list[tuple[str, ...]]:
    metric = found.left.record.task.primary_metric
    rows: list[tuple[str, ...]] = [("tokens", "reward left", "reward right")]
    if found.curves[0].metric is not None:
        rows[0] = (*rows[0], f"{metric} left", f"{metric} right")
    for pair in found.curves:
        values = (*pair.reward, *(pair.metric or ()))
        rows.append((f"{pair.tokens:,}", *(f"{value:.4f}" for value in values)))
    return rows


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _value(value: Any) -> str:
    """A setting as YAML has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _block(text: str) -> str:
    """Further lines of a text are indented below its first."""
    return text.replace("\n", f"\n{' ' * 12}")
