"""Keeps what a run did: curves as they come, results, counters and times; at the end, the record."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.algorithms.interface import IterationStats
from lmrl_bench.config.run import RunConfig
from lmrl_bench.config.yaml_core import dump_yaml
from lmrl_bench.core.paths import public_name, without_folders
from lmrl_bench.metrics.base import Metric
from lmrl_bench.planning.folders import has_config, published_config
from lmrl_bench.planning.plan import RunPlan
from lmrl_bench.records import store
from lmrl_bench.records.files import FolderError, remove_file
from lmrl_bench.records.provenance import CHANGED, changes, collect
from lmrl_bench.records.record import (
    LONGEST_ERROR,
    BudgetInfo,
    DataInfo,
    ErrorInfo,
    FileInfo,
    PolicyInfo,
    Provenance,
    RunRecord,
    SplitResults,
    Status,
    TaskInfo,
    TimeInfo,
    readable,
)
from lmrl_bench.runs.evaluate import Evaluation
from lmrl_bench.runs.fidelity import FidelityWatch
from lmrl_bench.runs.memory import PeakMemory
from lmrl_bench.runs.session import Session
from lmrl_bench.runs.trackers import Tracker, make_trackers
from lmrl_bench.tasks.spec import SPLITS
from lmrl_bench.tasks.task import Task

SECONDS = ("generate", "reward", "score", "update", "evaluate")


class Journal:
    """The written side of one run.

    Args:
        session: The run's parts; its folder is made here.
        memory: measures since before the parts were loaded.
    """

    def __init__(self, session: Session, memory: PeakMemory) -> None:
        self.folder = folder = session.plan.folder
        self.session = session
        self.memory = memory
        self.earlier_memory = 0.0
        self.results: dict[str, SplitResults] = {}
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.seconds: dict[str, float] = dict.fromkeys(SECONDS, 0.0)
        self.earlier = {"wall_s": 0.0, "cpu_s": 0.0}
        self.used = {"tokens": 0, "episodes": 0, "iterations": 0, "optimiser_steps": 0}
        self.candidate_tokens = 0
        self.validated = -1
        self.torn_lines = 0
        self.fidelity = FidelityWatch()
        self.clock = {"wall_s": time.perf_counter(), "cpu_s": time.process_time()}
        self.started = _now()
        runtime = session.config.runtime
        # Now: until the end the code may change.
        self.provenance = collect(runtime.device, runtime.threads)
        self.changed: list[str] = []
        self.sittings_changed = 0
        # Before the folder is made: a library that is missing must leave nothing behind.
        self.tracker: Tracker = make_trackers(
            session.config.runtime.trackers,
            folder,
            record_id(session.config),
            session.config.scientific() | {"seed": session.config.seed},
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.curves = store.CurvesWriter(folder)

    def begin(self) -> None:
        """Starts the files of a fresh run; an older record goes first, it would stand beside new curves.

        Raises:
            RecordError: The folder cannot be written.
        """
        store.remove_record(self.folder)
        self.curves.begin()
        write_config(self.session.plan)

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run needs to go on, as plain data."""
        return {
            "used": dict(self.used),
            "seconds": dict(self.seconds),
            "validated": self.validated,
            "validation": {
                name: results.model_dump(mode="json") for name, results in self.results.items()
            },
            "fidelity": self.fidelity.state(),
            "truncated": self.session.codec.state_dict(),
            "elapsed": self._elapsed(),
            "memory": self._memory(),
            "provenance": self.provenance.model_dump(mode="json"),
            "sittings_changed": self.sittings_changed,
            "curves": self.curves.sync()._asdict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state()`; curve lines written after it are dropped, they will be written again.

        The record of the earlier sitting goes, since it names other curves. The provenance stays that of the first
        sitting; that it has changed since is an event.

        Raises:
            RecordError: The curves are missing or damaged; nothing has been changed then.
        """
        curves, self.torn_lines = store.curves_until(
            self.folder, store.CurvesMark(**state["curves"])
        )
        self.used = dict(state["used"])
        self.seconds = dict(state["seconds"])
        self.validated = int(state["validated"])
        self.results = {
            name: SplitResults.model_validate(results)
            for name, results in state["validation"].items()
        }
        self.fidelity.restore(state["fidelity"])
        self.session.codec.load_state_dict(state["truncated"])
        self.earlier = dict(state["elapsed"])
        self.earlier_memory = float(state["memory"])
        first = Provenance.model_validate(state["provenance"])
        self.changed = changes(first, self.provenance)
        self.provenance = first
        self.sittings_changed = state["sittings_changed"] + bool(self.changed)
        write_config(self.session.plan)
        store.remove_record(self.folder)
        self.curves.begin(curves)

    def add_iteration(self, stats: IterationStats) -> None:
        """Appends an iteration to the curves; times go to the totals, not to the curves."""
        flat = stats.flat()
        numbers = {name: value for name, value in flat.items() if not name.startswith("seconds/")}
        numbers.pop("rollout/tokens_per_second", None)
        for name, value in stats.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value
        self.used = {
            "tokens": stats.tokens,
            "episodes": stats.episodes,
            "iterations": stats.iteration,
            "optimiser_steps": stats.optimiser_steps,
        }
        self.fidelity.watch(stats)
        self.curves.append({"kind": "train", **numbers})
        self.tracker.write(stats.tokens, flat)

    def add_validation(
        self, iteration: int, tokens: int, results: SplitResults, seconds: float
    ) -> None:
        """Appends an evaluation to the curves and keeps it as the latest."""
        self.seconds["evaluate"] += seconds
        self.validated = iteration
        self.results["validation"] = results
        numbers: dict[str, Any] = {
            "reward": results.reward,
            "kl_to_reference": results.kl_to_reference,
            "mean_length": results.mean_length,
            "truncated_share": results.truncated_share,
        }
        numbers |= {f"metric/{name}": metric.value for name, metric in results.metrics.items()}
        line = {"kind": "validation", "iteration": iteration, "tokens": tokens, **numbers}
        self.curves.append(line)
        self.tracker.write(tokens, {f"validation/{name}": value for name, value in numbers.items()})

    def add_results(self, name: str, evaluation: Evaluation, seconds: float) -> None:
        """Keeps a final evaluation and its samples."""
        self.seconds["evaluate"] += seconds
        self.results[name] = evaluation.results
        self.samples[name] = evaluation.rows
        self.candidate_tokens += evaluation.candidate_tokens

    def record(self, status: Status, error: BaseException | None, trace: str | None) -> RunRecord:
        """Writes the samples and returns the record (which the caller writes last).

        Raises:
            FolderError: A file that was written before has changed or is gone.
        """
        session, config = self.session, self.session.config
        self.tracker.close()
        self.check()
        events = {
            "prompts_truncated": session.codec.truncated_prompts,
            "references_truncated": session.codec.truncated_references,
            "early_eos": session.core.counters.early_eos,
            "control_tokens": session.core.counters.control_tokens,
            "candidate_tokens": self.candidate_tokens,
            CHANGED: self.sittings_changed,
        }
        return RunRecord(
            id=record_id(config),
            status=status,
            row=config.row,
            seed=config.seed,
            error=_error(error, self.used["iterations"], trace),
            task=task_info(session.task),
            algorithm=config.algorithm.model_dump(mode="json"),
            stated_traits=traits_of(config.algorithm.name),
            policy=_policy_info(session),
            config=config.scientific(),
            config_digest=config.digest(),
            budget=BudgetInfo(planned_tokens=config.budget.tokens, **self.used),
            results=self.results,
            fidelity=self.fidelity.summary(),
            events={name: count for name, count in events.items() if count},
            curves=self.curves.info(),
            samples=self._write_samples(),
            provenance=self.provenance,
            time=self._time(),
        )

    def check(self) -> None:
        """Proves that what was written is still there.

        Raises:
            FolderError: Another program has changed, moved or removed a file, or the whole folder.
        """
        self.curves.sync()
        if not has_config(self.session.config, self.folder):
            raise FolderError(
                f"{self.folder / store.CONFIG}: changed, moved or removed by another program during "
                "the run; leave the folder alone and run the same command again"
            )

    def _write_samples(self) -> FileInfo | None:
        if not self.samples:
            return None
        samples = {sample.id: sample for sample in self.session.task.samples("test")}
        rows = [
            {
                "decoding": name,
                "prompt": samples[row["sample_id"]].prompt,
                "references": samples[row["sample_id"]].references,
                **row,
            }
            for name, rows in self.samples.items()
            for row in rows
        ]
        return store.write_samples(self.folder, rows)

    def _elapsed(self) -> dict[str, float]:
        """Wall and CPU seconds of this run, earlier sittings included."""
        now = {"wall_s": time.perf_counter(), "cpu_s": time.process_time()}
        return {name: self.earlier[name] + now[name] - self.clock[name] for name in now}

    def _memory(self) -> float:
        """Largest memory of this run, earlier sittings included, MiB."""
        return max(self.earlier_memory, self.memory.mebibytes())

    def _time(self) -> TimeInfo:
        return TimeInfo(
            started=self.started,
            finished=_now(),
            **self._elapsed(),
            train_s=self.seconds["update"] + self.seconds["score"],
            generate_s=self.seconds["generate"],
            reward_s=self.seconds["reward"],
            evaluate_s=self.seconds["evaluate"],
            peak_memory_mb=self._memory(),
            peak_memory_of=self.memory.scope,
        )


def write_config(plan: RunPlan) -> None:
    """Writes `config.yaml`, which follows from the configuration.

    Raises:
        FolderError: It cannot be written.
    """
    path = plan.folder / store.CONFIG
    if path.is_dir():
        remove_file(path)
    store.write_text(path, dump_yaml(published_config(plan.config)))


def record_id(config: RunConfig) -> str:
    """Returns <task>/<row>/<policy>/s<seed>-<digest>."""
    model = Path(public_name(config.policy.model or "default")).name
    return f"{config.task}/{config.row}/{model}/s{config.seed}-{config.digest()[:8]}"


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
        score_range=task.spec.score_range,
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
    now = _now()
    record = RunRecord(
        id=record_id(config),
        status=status,
        row=config.row,
        seed=config.seed,
        error=_error(error, None, store.format_traceback(error)),
        task=_bare_task_info(task),
        algorithm=config.algorithm.model_dump(mode="json"),
        stated_traits=traits_of(config.algorithm.name),
        config=config.scientific(),
        config_digest=config.digest(),
        budget=BudgetInfo(planned_tokens=config.budget.tokens),
        provenance=collect(config.runtime.device, config.runtime.threads),
        time=TimeInfo(started=now, finished=now, wall_s=0.0),
    )
    folder.mkdir(parents=True, exist_ok=True)
    store.write_record(folder, record)
    return record


def _error(
    error: BaseException | None, iteration: int | None, trace: str | None
) -> ErrorInfo | None:
    if error is None:
        return None
    return ErrorInfo(
        type=type(error).__name__,
        message=readable(without_folders(str(error)), LONGEST_ERROR, lines=True),
        iteration=iteration,
        traceback=None if trace is None else readable(trace, LONGEST_ERROR, lines=True),
    )


def _policy_info(session: Session) -> PolicyInfo:
    initial = session.plan.initial
    assert initial.digests is not None
    assert initial.base is not None
    return PolicyInfo(
        model=public_name(initial.model),
        start=initial.kind,
        revision=session.config.policy.revision,
        weights_sha256=initial.digests.weights,
        tokenizer_sha256=initial.digests.tokenizer,
        base_weights_sha256=initial.base.weights,
        start_recipe_sha256=initial.recipe.fingerprint if initial.recipe else None,
        parameters=sum(tensor.numel() for tensor in session.policy.model.parameters()),
        kind=session.policy.kind,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
