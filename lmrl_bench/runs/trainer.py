"""The life of a run between start and record: learn, evaluate every k iterations, checkpoint, test."""

from __future__ import annotations

import time
from typing import Any

from lmrl_bench.algorithms.controls import Selection, Written
from lmrl_bench.algorithms.interface import IterationStats
from lmrl_bench.algorithms.sft import SFT
from lmrl_bench.core.events import Event, Listener
from lmrl_bench.models.behavior import TopPFilter
from lmrl_bench.records.files import FolderError
from lmrl_bench.runs.checkpoint import save_checkpoint
from lmrl_bench.runs.journal import Journal
from lmrl_bench.runs.session import Session

STOPPED = "stopped by the user; run the same command again to resume, without --rerun all"


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked
    """The user stopped the run; what it learned up to its checkpoint is kept."""


class Trainer:
    """Drives one algorithm; `stop_requested` ends the run after the running iteration or evaluation."""

    def __init__(self, session: Session, journal: Journal, progress: Listener, *, key: str) -> None:
        self.session = session
        self.journal = journal
        self.progress = progress
        self.key = key
        self.stop_requested = False
        self.name = session.plan.name

    def train(self, state: dict[str, Any] | None) -> None:
        """Learns until the budget is spent; `state` is a checkpoint's, which the journal has restored.

        Raises:
            Interrupted: `stop_requested` was set; the checkpoint is written.
            DivergedError: A loss, gradient or reward is not finite.
        """
        algorithm = self.session.algorithm
        if state is not None:
            algorithm.load_state_dict(state["algorithm"])
            if self.journal.torn_lines:
                self.progress(Event(self.name, "note", text="dropped a torn line of curves.jsonl"))
            if changed := ", ".join(self.journal.changed):
                text = f"changed since the run began: {changed}; the record names the first"
                self.progress(Event(self.name, "note", text=text))
        else:
            self._validate(0, 0)
        if isinstance(algorithm, SFT):
            algorithm.after_step = self._after_step
        if algorithm.trains:
            algorithm.learn(after_iteration=self._after_iteration)
            if self.journal.validated != self.journal.used["iterations"]:
                self._validate(self.journal.used["iterations"], self.journal.used["tokens"])
            self._checkpoint()

    def test(self) -> None:
        """Evaluates on the test split: the task's decoding, greedy, and without NLPO's token_filter.

        Raises:
            Interrupted: `stop_requested` was set.
        """
        if not self.session.config.evaluation.test_samples:
            return
        token_filter = self.session.algorithm.token_filter
        self._test("test", token_filter=token_filter)
        if self.session.config.evaluation.greedy:
            self._test("test-greedy", token_filter=token_filter, greedy=True)
        if token_filter is not None:
            self._test("test-unfiltered", token_filter=None)

    def _test(self, name: str, *, token_filter: TopPFilter | None, greedy: bool = False) -> None:
        if self.stop_requested:
            raise Interrupted(STOPPED)
        started = time.perf_counter()
        n = self.session.config.evaluation.test_samples
        evaluation = self.session.evaluator(
            "test", n, greedy=greedy, token_filter=token_filter, control=self._control
        )
        self.journal.add_results(name, evaluation, time.perf_counter() - started)

    def _after_iteration(self, stats: IterationStats) -> None:
        """Logs, evaluates and checkpoints at an iteration's end, the only place where a run may stop."""
        config = self.session.config
        self.journal.add_iteration(stats)
        self.progress(self._iteration_event(stats))
        if stats.iteration % config.evaluation.every == 0:
            self._validate(stats.iteration, stats.tokens)
        if self.stop_requested or stats.iteration % config.runtime.checkpoint_every == 0:
            self._checkpoint()
        if self.stop_requested:
            raise Interrupted(STOPPED)

    def _after_step(self, step: int, steps: int) -> None:
        """Shows a step of supervised fine-tuning, whose iterations may take minutes."""
        text = f"step {step:,}/{steps:,}"
        self.progress(Event(self.name, "step", step / steps, text=text))

    def _iteration_event(self, stats: IterationStats) -> Event:
        done = stats.progress
        values = dict(stats.update.terms)
        if stats.rollout is not None:
            rollout = stats.rollout
            seconds = sum(stats.seconds.values())
            tokens = rollout.length * self._episodes(stats)
            values = {"reward": rollout.score}
            if rollout.kl is not None:
                values["kl"] = rollout.kl
            values["tokens_per_s"] = tokens / max(seconds, 1e-9)
        return Event(self.name, "iteration", done, values)

    def _episodes(self, stats: IterationStats) -> float:
        return stats.episodes / stats.iteration

    @property
    def _control(self) -> Selection | Written | None:
        """The algorithm, if it answers in its own way."""
        algorithm = self.session.algorithm
        return algorithm if isinstance(algorithm, Selection | Written) else None

    def _validate(self, iteration: int, tokens: int) -> None:
        started = time.perf_counter()
        config = self.session.config.evaluation
        token_filter = self.session.algorithm.token_filter
        evaluation = self.session.evaluator(
            "validation",
            config.validation_samples,
            token_filter=token_filter,
            primary_only=True,
            control=self._control,
        )
        seconds = time.perf_counter() - started
        self.journal.add_validation(iteration, tokens, evaluation.results, seconds)
        values = {"reward": evaluation.results.reward}
        if evaluation.results.kl_to_reference is not None:
            values["kl"] = evaluation.results.kl_to_reference
        self.progress(Event(self.name, "evaluation", values=values, text="validation"))

    def _checkpoint(self) -> None:
        state = {"algorithm": self.session.algorithm.state_dict(), "journal": self.journal.state()}
        try:
            save_checkpoint(self.journal.folder, state, key=self.key)
        except OSError as error:
            raise FolderError(
                f"{self.journal.folder}: the checkpoint cannot be written: {error.strerror or error}"
            ) from error
