"""The record's facts against the task, the configuration and the calendar."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final

from lmrl_bench.core.digests import canonical_json, digest
from lmrl_bench.core.paths import public_name
from lmrl_bench.models.fingerprints import local_digests
from lmrl_bench.models.names import resolve_model
from lmrl_bench.records.provenance import CHANGED
from lmrl_bench.verification.bounds.parameters import parameter_counts
from lmrl_bench.verification.bounds.run import Run
from lmrl_bench.verification.bounds.signatures import known, known_signature, without_versions

FIRST_DAY: Final = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)


def check(run: Run) -> Iterator[str]:
    """Yields what cannot be."""
    yield from _identity(run)
    yield from _task(run)
    yield from _metrics(run)
    yield from _policy(run)
    yield from _time(run)
    yield from _events(run)
    if run.record.error is not None:
        yield "error: a completed run has none"


def _identity(run: Run) -> Iterator[str]:
    record = run.record
    if digest(record.config) != record.config_digest:
        yield "config_digest is not of the config that stands there"
    if canonical_json(record.algorithm) != canonical_json(record.config.get("algorithm")):
        yield "algorithm says something else than config.algorithm"
    if record.task.name != run.task.name or run.config.task != run.task.name:
        yield f"task.name is {record.task.name} and config.task {run.config.task}"


def _task(run: Run) -> Iterator[str]:
    found, spec = run.record.task, run.task.spec
    if found.version != spec.version:
        yield f"task.version is {found.version} in the record, {spec.version} in the task"
    data = {str(split): info.model_dump() for split, info in found.data.items()}
    for split, wanted in run.task.data_info().items():
        if data.get(split) != wanted:
            yield f"task.data.{split} is {data.get(split)} in the record, {wanted} in the task"


def _metrics(run: Run) -> Iterator[str]:
    found, components = run.record.task, run.task.spec.metrics.all()
    keys = [component.key for component in components]
    if set(found.metric_signatures) != set(keys):
        yield f"task.metric_signatures names {sorted(found.metric_signatures)}, the task {sorted(keys)}"
    for name in ("lower_is_better", "neutral_metrics", "held_out_metrics"):
        listed = getattr(found, name)
        if len(set(listed)) < len(listed) or not set(listed) <= set(keys):
            yield f"task.{name} is {listed}; it lists metrics of the task, each once"
    for component in components:
        here = known(run.task, component)
        if here is not None and found.higher_is_better(component.key) is not here.higher_is_better:
            yield f"task.lower_is_better: {component.key} stands the wrong way round"
        wanted = known_signature(run.task, component)
        signature = found.metric_signatures.get(component.key, "")
        packages = run.record.provenance.packages
        if wanted is not None and without_versions(signature, packages) != without_versions(wanted):
            yield f"task.metric_signatures: {component.key} is {signature!r} in the record, {wanted!r} here"
        elif set(signature) & set("<>") or not signature:
            yield f"task.metric_signatures: {component.key} is {signature!r}, which is not a signature"
    if set(found.reward_signature) & set("<>") or not found.reward_signature:
        yield f"task.reward_signature is {found.reward_signature!r}, which is not a signature"


def _policy(run: Run) -> Iterator[str]:
    policy, config = run.record.policy, run.config.policy
    if policy is None:
        return  # refused before: a completed run has one
    name = config.model or run.task.spec.policy.default
    for field, found, wanted in (
        ("model", policy.model, public_name(name)),
        ("init", policy.init, config.init),
        ("revision", policy.revision, config.revision),
        ("sft_recipe_sha256", policy.sft_recipe_sha256 is None, config.init == "base"),
    ):
        if found != wanted:
            yield f"policy.{field} does not fit the configuration: {found}, where {wanted} belongs"
    if policy.kind not in run.task.spec.policy.kinds:
        yield f"policy.kind is {policy.kind}; the task takes {', '.join(run.task.spec.policy.kinds)}"
    base = policy.base_weights_sha256
    if config.init == "base" and base not in (None, policy.weights_sha256):
        yield "policy.base_weights_sha256 is not weights_sha256 of a run that starts from the base model"
    here = local_digests(name, config.revision)
    if (
        here is None
        or here.weights != (base or policy.weights_sha256)
        or config.adapter is not None
    ):
        return
    counts = parameter_counts(resolve_model(name, config.revision))
    if counts and policy.parameters not in counts:
        yield f"policy.parameters is {policy.parameters}, but the weights are {min(counts)} numbers"


def _events(run: Run) -> Iterator[str]:
    """Yields unknown events, and counts above all that can happen in the run."""
    record = run.record
    samples = sum(info.rows for info in record.task.data.values())
    evaluated = run.asked("validation") * (len(run.validation) + 1)
    evaluated += run.asked("test") * len(run.decodings)
    candidates = (run.config.algorithm.model_extra or {}).get("candidates", 0)
    evaluated *= max(candidates, 1)
    completions = record.budget.episodes + evaluated
    most = {
        "prompts_truncated": (samples, "samples"),
        "references_truncated": (samples, "samples"),
        "early_eos": (completions, "completions"),
        "control_tokens": (completions * run.completion.max_tokens, "tokens"),
        "candidate_tokens": (candidates * run.asked("test") * run.completion.max_tokens, "tokens"),
        CHANGED: (record.budget.iterations + 2, "sittings"),
    }
    unknown = sorted(set(record.events) - set(most))
    if unknown:
        yield f"events: {', '.join(unknown)}: no such event (known: {', '.join(sorted(most))})"
    for name, count in record.events.items():
        if name in most and count > most[name][0]:
            yield f"events.{name} is {count}; the run has at most {most[name][0]} {most[name][1]}"


def _time(run: Run) -> Iterator[str]:
    time = run.record.time
    started, finished = map(datetime.datetime.fromisoformat, (time.started, time.finished))
    latest = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    if not FIRST_DAY <= started <= finished <= latest:
        yield f"time: started {time.started}, finished {time.finished}: not in this order between 2025 and today"
    parts = time.train_s + time.generate_s + time.reward_s + time.evaluate_s
    if parts > 1.01 * time.wall_s + 1e-3:
        yield f"time.wall_s is {time.wall_s:.6g}, but its parts sum to {parts:.6g}"
    if run.training and not time.train_s:
        yield "time.train_s is 0 of a run that trained"
    if not run.training and (time.train_s or time.generate_s):
        yield "time.train_s and generate_s are not 0 of a run that did not train"
