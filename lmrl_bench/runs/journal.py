"""Keeps what a run did: curves as they come, results, counters and times; at the end, the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmrl_bench.algorithms.interface import IterationStats
from lmrl_bench.config.yaml_core import dump_yaml
from lmrl_bench.planning.folders import has_config
from lmrl_bench.planning.plan import RunPlan
from lmrl_bench.records import store
from lmrl_bench.records.files import FolderError, remove_file
from lmrl_bench.records.provenance import CHANGED, changes, collect
from lmrl_bench.records.record import (
    BudgetInfo,
    FileInfo,
    Provenance,
    RunRecord,
    SplitResults,
    Status,
)
from lmrl_bench.runs.clock import RunClock
from lmrl_bench.runs.evaluate import Evaluation
from lmrl_bench.runs.fidelity import FidelityWatch
from lmrl_bench.runs.memory import PeakMemory
from lmrl_bench.runs.record_parts import error_info, policy_info, run_info, task_info
from lmrl_bench.runs.session import Session
from lmrl_bench.runs.trackers import Tracker, make_trackers


class Journal:
    """The written side of one run.

    Args:
        session: The run's parts; its folder is made here.
        memory: measures since before the parts were loaded.
    """

    def __init__(self, session: Session, memory: PeakMemory) -> None:
        self.folder = folder = session.plan.folder
        self.session = session
        self.clock = RunClock(memory)
        self.results: dict[str, SplitResults] = {}
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.used = {"tokens": 0, "episodes": 0, "iterations": 0, "optimizer_steps": 0}
        self.candidate_tokens = 0
        self.validated = -1
        self.torn_lines = 0
        self.fidelity = FidelityWatch()
        runtime = session.config.runtime
        # Now: until the end the code may change.
        self.provenance = collect(runtime.device, runtime.threads)
        self.changed: list[str] = []
        self.sittings_changed = 0
        # Before the folder is made: a library that is missing must leave nothing behind.
        self.tracker: Tracker = make_trackers(
            session.config.runtime.trackers,
            folder,
            session.plan.record_id,
            {**session.plan.expected.config, "seed": session.config.seed},
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.curves = store.CurvesWriter(folder)

    def begin(self) -> None:
        """Starts the files of a fresh run and removes an older record, which does not belong to the new curves.

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
            "validated": self.validated,
            "validation": {
                name: results.model_dump(mode="json") for name, results in self.results.items()
            },
            "fidelity": self.fidelity.state(),
            "truncated": self.session.codec.state_dict(),
            "clock": self.clock.state(),
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
        self.validated = int(state["validated"])
        self.results = {
            name: SplitResults.model_validate(results)
            for name, results in state["validation"].items()
        }
        self.fidelity.restore(state["fidelity"])
        self.session.codec.load_state_dict(state["truncated"])
        self.clock.restore(state["clock"])
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
        self.clock.add(stats.seconds)
        self.used = {
            "tokens": stats.tokens,
            "episodes": stats.episodes,
            "iterations": stats.iteration,
            "optimizer_steps": stats.optimizer_steps,
        }
        self.fidelity.watch(stats)
        self.curves.append({"kind": "train", **numbers})
        self.tracker.write(stats.tokens, flat)

    def add_validation(
        self, iteration: int, tokens: int, results: SplitResults, seconds: float
    ) -> None:
        """Appends an evaluation to the curves and keeps it as the latest."""
        self.clock.add({"evaluate": seconds})
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
        known = {name: value for name, value in numbers.items() if value is not None}
        self.tracker.write(tokens, {f"validation/{name}": value for name, value in known.items()})

    def add_results(self, name: str, evaluation: Evaluation, seconds: float) -> None:
        """Keeps a final evaluation and its samples."""
        self.clock.add({"evaluate": seconds})
        self.results[name] = evaluation.results
        self.samples[name] = evaluation.rows
        self.candidate_tokens += evaluation.candidate_tokens

    def record(self, status: Status, error: BaseException | None, trace: str | None) -> RunRecord:
        """Writes the samples and returns the record (which the caller writes last).

        Raises:
            FolderError: A file that was written before has changed or is gone.
        """
        session = self.session
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
            **run_info(session.plan),
            status=status,
            error=error_info(error, self.used["iterations"], trace),
            task=task_info(session.task),
            policy=policy_info(session),
            budget=BudgetInfo(planned_tokens=session.config.budget.tokens, **self.used),
            results=self.results,
            fidelity=self.fidelity.summary(),
            events={name: count for name, count in events.items() if count},
            curves=self.curves.info(),
            samples=self._write_samples(),
            provenance=self.provenance,
            time=self.clock.info(),
        )

    def check(self) -> None:
        """Proves that what was written is still there.

        Raises:
            FolderError: Another program has changed, moved or removed a file, or the whole folder.
        """
        self.curves.sync()
        if not has_config(self.folder, self.session.plan.published):
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


def write_config(plan: RunPlan) -> None:
    """Writes `config.yaml`, which follows from the configuration.

    Raises:
        FolderError: It cannot be written.
    """
    path = plan.folder / store.CONFIG
    if path.is_dir():
        remove_file(path)
    store.write_text(path, dump_yaml(plan.published))
