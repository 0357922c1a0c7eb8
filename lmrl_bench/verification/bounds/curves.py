"""The lines of curves.jsonl against the configuration and each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from lmrl_bench.records.curves import TrainingPoint, ValidationPoint
from lmrl_bench.verification.bounds.run import (
    ROUNDING,
    Run,
    equal,
    kl_problems,
    length_problems,
    within,
)
from lmrl_bench.verification.bounds.signatures import known

NOT_NEGATIVE: Final = (
    "rollout/entropy", "rollout/kl_coefficient", "update/gradient_norm", "update/max_logprob_difference",
)  # fmt: skip
SHARES: Final = ("rollout/truncated_share", "update/clip_fraction", "update/first_clip_fraction")
ROLLOUT: Final = (
    "rollout/score", "rollout/reward", "rollout/kl_charged", "rollout/kl_coefficient", "rollout/entropy",
    "rollout/length", "rollout/truncated_share",
)  # fmt: skip
UPDATE: Final = (
    "update/optimizer_steps", "update/gradient_norm", "update/approx_kl", "update/clip_fraction",
    "update/first_clip_fraction", "update/max_logprob_difference",
)  # fmt: skip


def check(run: Run) -> Iterator[str]:
    """Yields what cannot be; of the lines of one kind, the first."""
    info = run.record.curves
    rows = len(run.training) + len(run.validation)
    if info is not None and info.rows != rows:
        yield f"curves.rows is {info.rows}, but the file has {rows} lines"
    if run.trains is not bool(run.training):
        yield f"curves.jsonl has {len(run.training)} lines of training with the algorithm {run.config.algorithm.name}"
        return
    yield from _first(_training(run))
    yield from _first(_evaluations(run))


def _first(reasons: Iterator[str]) -> Iterator[str]:
    """The first reason: one wrong line may make all later ones wrong."""
    yield from (reason for _, reason in zip(range(1), reasons, strict=False))


def _training(run: Run) -> Iterator[str]:
    before = {"iteration": 0, "tokens": 0, "episodes": 0, "optimizer_steps": 0}
    for line in run.training:
        place = f"curves.jsonl: iteration {line.iteration}"
        now = {name: getattr(line, name) for name in before}
        step = {name: now[name] - before[name] for name in before}
        if step["iteration"] != 1:
            yield f"{place} follows {before['iteration']}; iterations count from 1, one by one"
        yield from (f"{place}: {reason}" for reason in _counts(run, line, step))
        yield from (f"{place}: {reason}" for reason in _numbers(line.model_extra or {}))
        if run.rolls_out:
            values = line.model_extra or {}
            yield from (f"{place}: {reason}" for reason in _rollout(run, values, step))
        before = now
    budget = run.config.budget.tokens
    spent = [line.tokens for line in run.training]
    if run.rolls_out and spent and (spent[-1] < budget or any(n >= budget for n in spent[:-1])):
        yield f"curves.jsonl: training ends with the first iteration that reaches {budget} tokens, not at {spent[-1]}"


def _counts(run: Run, line: TrainingPoint, step: Mapping[str, int]) -> Iterator[str]:
    if min(step.values()) < 0:
        yield f"a total shrinks ({', '.join(name for name, n in step.items() if n < 0)})"
    steps = (line.model_extra or {}).get("update/optimizer_steps")
    if steps is not None and steps != step["optimizer_steps"]:
        yield f"update/optimizer_steps is {steps:g}, but the total grows by {step['optimizer_steps']}"
    if not run.rolls_out:
        return
    asked = run.episodes_per_iteration
    if asked is not None and not asked <= step["episodes"] <= asked * run.sampling_rounds:
        yield f"{step['episodes']} episodes, where the configuration asks for {asked} in an iteration"
    largest = step["episodes"] * run.completion.max_tokens
    if not step["episodes"] <= step["tokens"] <= largest:
        yield (
            f"{step['tokens']} tokens in {step['episodes']} completions of 1 to {run.completion.max_tokens} tokens"
        )
    progress = min(1.0, line.tokens / run.config.budget.tokens)
    if not equal(line.progress, progress):
        yield f"progress is {line.progress:.9g}, but {progress:.9g} by the tokens"


def _numbers(values: Mapping[str, float]) -> Iterator[str]:
    for name in UPDATE:
        if name not in values:
            yield f"lacks {name}"
    for name in NOT_NEGATIVE:
        if values.get(name, 0.0) < -ROUNDING:
            yield f"{name} is {values[name]:.6g}; it is not negative"
    for name in SHARES:
        if not within(values.get(name, 0.0), (0.0, 1.0)):
            yield f"{name} is {values[name]:.6g}; it is a share"


def _rollout(run: Run, values: Mapping[str, float], step: Mapping[str, int]) -> Iterator[str]:
    missing = [name for name in ROLLOUT if name not in values]
    if missing:
        yield f"lacks {', '.join(missing)}"
        return
    episodes = step["episodes"]
    # Where groups were dropped, the mean is over the episodes that stayed, and the total over all.
    dropped = run.sampling_rounds > 1 and episodes != run.episodes_per_iteration
    if not dropped and not equal(values["rollout/length"] * episodes, step["tokens"]):
        yield (
            f"rollout/length is {values['rollout/length']:.9g}, but {step['tokens']} tokens in {episodes} completions"
        )
    yield from length_problems(
        "rollout",
        values["rollout/length"],
        values["rollout/truncated_share"],
        episodes,
        run.completion,
    )
    charged = values["rollout/kl_coefficient"] * values.get("rollout/kl", 0.0)
    if not equal(values["rollout/kl_charged"], charged, 1e-4):
        yield f"rollout/kl_charged is {values['rollout/kl_charged']:.6g}, but kl times its coefficient {charged:.6g}"


def _evaluations(run: Run) -> Iterator[str]:
    every = run.config.evaluation.every
    tokens = {0: 0} | {line.iteration: line.tokens for line in run.training}
    last = max(tokens)
    wanted = sorted({0, last, *(n for n in tokens if n % every == 0)})
    found = [line.iteration for line in run.validation]
    if found != wanted:
        yield f"curves.jsonl: evaluations at the iterations {_shown(found)}, where {_shown(wanted)} are asked for"
    if any(second < first for first, second in pairwise(found)):
        yield "curves.jsonl: the evaluations are not in order"
    for line in run.validation:
        place = f"curves.jsonl: evaluation at iteration {line.iteration}"
        if tokens.get(line.iteration) != line.tokens:
            yield f"{place}: {line.tokens} tokens, but training was at {tokens.get(line.iteration)}"
        yield from _evaluation(run, line, place)


def _evaluation(run: Run, line: ValidationPoint, place: str) -> Iterator[str]:
    n, primary = run.asked("validation"), run.task.spec.metrics.primary
    yield from length_problems(place, line.mean_length, line.truncated_share, n, run.completion)
    at_start = line.iteration == 0
    yield from kl_problems(
        place, line.kl_to_reference, n, run, greedy=run.sampling.greedy, at_start=at_start
    )
    values = line.model_extra or {}
    if set(values) != {f"metric/{primary.key}"}:
        yield f"{place}: has {sorted(values)}, where metric/{primary.key} belongs"
        return
    here = known(run.task, primary)
    if here is not None and not within(values[f"metric/{primary.key}"], here.bounds):
        yield f"{place}: {primary.key} is {values[f'metric/{primary.key}']:.9g}, outside its bounds"


def _shown(numbers: list[int]) -> str:
    text = ", ".join(map(str, numbers[:12]))
    return f"{text}, …" if len(numbers) > 12 else text or "none"
