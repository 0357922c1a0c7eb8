"""The parts of a run's record that do not depend on how it went: which run, task and policy it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.core.paths import public_name, without_folders
from lmrl_bench.metrics.base import Metric
from lmrl_bench.planning.plan import RunPlan
from lmrl_bench.records import store
from lmrl_bench.records.provenance import collect
from lmrl_bench.records.record import (
    LONGEST_ERROR,
    BudgetInfo,
    DataInfo,
    ErrorInfo,
    PolicyInfo,
    RunRecord,
    Status,
    TaskInfo,
    TimeInfo,
    readable,
)
from lmrl_bench.runs.clock import utc_now
from lmrl_bench.runs.session import Session
from lmrl_bench.tasks.spec import SPLITS
from lmrl_bench.tasks.task import Task


def run_info(plan: RunPlan) -> dict[str, Any]:
    """Returns the fields of a record that name the run: entry, seed, algorithm and configuration."""
    config = plan.config
    return {
        "id": plan.record_id,
        "entry": config.entry_name,
        "seed": config.seed,
        "algorithm": config.algorithm.model_dump(mode="json"),
        "traits": traits_of(config.algorithm.name),
        "config": plan.expected.config,
        "config_digest": plan.expected.config_digest,
    }


def task_info(task: Task) -> TaskInfo:
    """Returns which task it was, exactly."""
    metrics, data = task.metrics(), task.data_info()
    return TaskInfo(
        name=task.name,
        version=task.spec.version,
        digest=task.digest,
        data={split: DataInfo.model_validate(data[split]) for split in SPLITS},
        metric_signatures={name: metric.signature for name, metric in metrics.items()},
        reward_signature=task.reward().signature,
        primary_metric=task.spec.metrics.primary.key,
        held_out_metrics=[metric.key for metric in task.spec.metrics.held_out],
        lower_is_better=_directed(metrics, False),
        neutral_metrics=_directed(metrics, None),
        score_normalization=task.spec.score_normalization,
    )


def _directed(metrics: Mapping[str, Metric], higher_is_better: bool | None) -> list[str]:
    return [name for name, found in metrics.items() if found.higher_is_better is higher_is_better]


def _bare_task_info(task: Task) -> TaskInfo:
    """The same without metrics and rewards, which may be what failed."""
    return TaskInfo(
        name=task.name,
        version=task.spec.version,
        digest=task.digest,
        data={},
        primary_metric=task.spec.metrics.primary.key,
        held_out_metrics=[metric.key for metric in task.spec.metrics.held_out],
    )


def write_failure(plan: RunPlan, error: BaseException, status: Status = "failed") -> RunRecord:
    """Writes the record of a run that failed before it could begin, or whose process died or was killed."""
    config, folder, task = plan.config, plan.folder, plan.task
    now = utc_now()
    record = RunRecord(
        **run_info(plan),
        status=status,
        error=error_info(error, None, store.format_traceback(error)),
        task=_bare_task_info(task),
        budget=BudgetInfo(planned_tokens=config.budget.tokens),
        provenance=collect(config.runtime.device, config.runtime.threads),
        time=TimeInfo(started=now, finished=now, wall_s=0.0),
    )
    folder.mkdir(parents=True, exist_ok=True)
    store.write_record(folder, record)
    return record


def error_info(
    error: BaseException | None, iteration: int | None, trace: str | None
) -> ErrorInfo | None:
    """Returns what ended a run, without the folders of this machine; None for None."""
    if error is None:
        return None
    return ErrorInfo(
        type=type(error).__name__,
        message=readable(without_folders(str(error)), LONGEST_ERROR, lines=True),
        iteration=iteration,
        traceback=None if trace is None else readable(trace, LONGEST_ERROR, lines=True),
    )


def policy_info(session: Session) -> PolicyInfo:
    """Returns which policy the run started from, exactly."""
    initial = session.plan.initial
    assert initial.digests is not None
    assert initial.base is not None
    return PolicyInfo(
        model=public_name(initial.model),
        init=initial.kind,
        revision=session.config.policy.revision,
        weights_sha256=initial.digests.weights,
        tokenizer_sha256=initial.digests.tokenizer,
        base_weights_sha256=initial.base.weights,
        sft_recipe_sha256=initial.recipe.fingerprint if initial.recipe else None,
        parameters=sum(tensor.numel() for tensor in session.policy.model.parameters()),
        kind=session.policy.kind,
    )
