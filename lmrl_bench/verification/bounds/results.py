"""The record's results, budget and fidelity against the configuration and the curves."""

from __future__ import annotations

from collections.abc import Iterator

from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.records.fidelity import exceeded
from lmrl_bench.records.record import SplitResults
from lmrl_bench.verification.bounds.run import Run, kl_problems, length_problems, within
from lmrl_bench.verification.bounds.signatures import known

VALIDATION = "validation"


def check(run: Run) -> Iterator[str]:
    """Yields what cannot be."""
    wanted = [VALIDATION, *(run.decodings if run.config.evaluation.test_samples else [])]
    if set(run.record.results) != set(wanted):
        yield f"results holds {sorted(run.record.results)}, the configuration asks for {sorted(wanted)}"
    for name, results in run.record.results.items():
        yield from _split(run, name, results)
    yield from _traits(run)
    yield from _budget(run)
    yield from _fidelity(run)


def _split(run: Run, name: str, results: SplitResults) -> Iterator[str]:
    what, spec = f"results.{name}", run.task.spec
    asked = run.asked(name)
    if results.n != asked:
        yield f"{what}: n is {results.n}, but the task and the configuration ask for {asked}"
    components = [spec.metrics.primary] if name == VALIDATION else spec.metrics.all()
    if set(results.metrics) != {component.key for component in components}:
        yield f"{what}: has the metrics {sorted(results.metrics)}, the task {sorted(c.key for c in components)}"
    for component in components:
        value = results.metrics.get(component.key)
        if value is None:
            continue
        if value.n != results.n:
            yield f"{what}: n of {component.key} is {value.n}, of the split {results.n}"
        here = known(run.task, component)
        if here is not None and not within(value.value, here.bounds):
            yield f"{what}: {component.key} is {value.value:.9g}, outside {_range(here.bounds)}"
    yield from length_problems(
        what, results.mean_length, results.truncated_share, results.n, run.completion
    )
    greedy = run.sampling.greedy or name == "test-greedy"
    yield from kl_problems(
        what, results.kl_to_reference, results.n, run, greedy=greedy, at_start=not run.trains
    )


def _traits(run: Run) -> Iterator[str]:
    """Traits decide what is checked, so a record may not choose them."""
    name = run.config.algorithm.name
    known = traits_of(name)
    if run.record.traits != known:
        yield f"traits are {run.record.traits.model_dump()}, but {name} has {known.model_dump()}"


def _budget(run: Run) -> Iterator[str]:
    budget, planned = run.record.budget, run.config.budget.tokens
    if budget.planned_tokens != planned:
        yield f"budget.planned_tokens is {budget.planned_tokens}, the configuration's {planned}"
    if not run.trains and any(
        (budget.tokens, budget.episodes, budget.iterations, budget.optimizer_steps)
    ):
        yield "budget: a run that does not learn uses nothing of it"
    last = run.training[-1] if run.training else None
    for name, done in (
        ("tokens", last.tokens if last else 0),
        ("episodes", last.episodes if last else 0),
        ("iterations", last.iteration if last else 0),
        ("optimizer_steps", last.optimizer_steps if last else 0),
    ):
        if getattr(budget, name) != done:
            yield f"budget.{name} is {getattr(budget, name)}, but curves.jsonl ends at {done}"


def _fidelity(run: Run) -> Iterator[str]:
    found = run.record.fidelity
    lines = [line.model_extra or {} for line in run.training]
    for name in ("max_logprob_difference", "first_clip_fraction"):
        worst = max((float(line.get(f"update/{name}", 0.0)) for line in lines), default=0.0)
        if getattr(found, name) != max(worst, 0.0):
            yield f"fidelity.{name} is {getattr(found, name):.9g}, but {worst:.9g} by curves.jsonl"
    shares = [
        line["rollout/truncated_share"] for line in lines if "rollout/truncated_share" in line
    ]
    last = shares[-1] if shares else 0.0
    if found.truncated_share != last:
        yield f"fidelity.truncated_share is {found.truncated_share:.9g}, but {last:.9g} by curves.jsonl"
    flags = exceeded(found.max_logprob_difference, found.first_clip_fraction, found.truncated_share)
    if sorted(found.flags) != sorted(flags):
        yield f"fidelity.flags is {sorted(found.flags)}, but {sorted(flags)} by the numbers"


def _range(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:g}, {bounds[1]:g}]"
