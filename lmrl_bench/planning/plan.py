"""`RunPlan`: everything that a run needs, resolved once and passed on, to other processes too. No torch."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmrl_bench.algorithms.defaults import traits_of
from lmrl_bench.config.run import RunConfig
from lmrl_bench.core.errors import ConfigError
from lmrl_bench.core.events import Listener, silent
from lmrl_bench.core.paths import public_name
from lmrl_bench.planning.folders import done_record
from lmrl_bench.planning.initial_policy import InitialPolicy, find_initial_policy, ready, state_line
from lmrl_bench.planning.resolve import settings_note
from lmrl_bench.records.expected import ExpectedRun
from lmrl_bench.records.record import RunRecord
from lmrl_bench.tasks.catalog import load_task
from lmrl_bench.tasks.task import Task


class RerunPolicy(enum.Flag):
    """Existing records to ignore, so that their runs are made again."""

    NONE = 0
    FAILED = enum.auto()
    """Those of runs that failed."""
    STALE = enum.auto()
    """Those of other settings, another task version or another initial policy; also checkpoints of such runs."""
    ALL = enum.auto()
    """All of them; checkpoints too."""

    @classmethod
    def of(cls, *names: str) -> RerunPolicy:
        """Returns the policy for names such as "failed" and "stale"."""
        found = cls.NONE
        for name in names:
            found |= cls[name.upper()]
        return found


@dataclass(frozen=True)
class RunPlan:
    """One run before it starts.

    A pickled plan names its task by folder and digest; the process that reads it opens the task again.

    Attributes:
        config: The configuration, every default written out.
        task_folder: The task's folder.
        initial: The policy that the run starts from.
        expected: What a record must say to be this run's.
        folder: Where the run is written.
        name: task/entry/seed, the run's name in events and lists.
        rerun: Which existing records do not count.
    """

    config: RunConfig
    task_folder: Path
    initial: InitialPolicy
    expected: ExpectedRun
    folder: Path
    name: str
    rerun: RerunPolicy = RerunPolicy.NONE
    _tasks: list[Task] = field(default_factory=list, repr=False, compare=False)

    @property
    def task(self) -> Task:
        """The task, opened.

        Raises:
            ConfigError: The task has changed since the run was planned.
        """
        if not self._tasks:
            self._tasks.append(_opened(self.task_folder, self.expected.task_digest))
        return self._tasks[0]

    def finished_record(self) -> RunRecord | None:
        """Returns the run's record if nothing is left to do.

        Raises:
            RecordError: The folder holds something else, or something damaged; see `done_record`.
        """
        if RerunPolicy.ALL in self.rerun:
            return None
        return done_record(
            self.folder,
            self.expected,
            self.published,
            keep_policy=self.config.runtime.keep_policy,
            retry_failed=RerunPolicy.FAILED in self.rerun,
        )

    @property
    def published(self) -> dict[str, Any]:
        """The content of `config.yaml`."""
        return {**self.expected.config, "entry": self.config.entry, "seed": self.config.seed}

    @property
    def record_id(self) -> str:
        """<task>/<entry>/<policy>/s<seed>-<digest>."""
        model = Path(public_name(self.config.policy.model or "default")).name
        digest = self.expected.config_digest[:8]
        return f"{self.config.task}/{self.config.entry_name}/{model}/s{self.config.seed}-{digest}"

    @property
    def settings_source(self) -> str:
        """The source of the algorithm's settings, in one line."""
        return settings_note(self.task, self.config)

    @property
    def initial_policy(self) -> str:
        """The initial policy of training and the cost to make it, in one line."""
        return state_line(self.task, self.initial)

    def prepared(self, progress: Listener = silent, *, train: bool = False) -> RunPlan:
        """Returns the plan with an initial policy that can be loaded; downloads it first if need be.

        Args:
            progress: Takes the events of a training.
            train: Whether an SFT policy that does not exist may be trained first.

        Raises:
            LmrlBenchError: There is none; see `initial_policy.ready`.
            KeyboardInterrupt: The user stopped the training; it resumes with the next call.
        """
        return replace(self, initial=ready(self.task, self.initial, progress, train=train))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tasks": []}


_recent: dict[tuple[Path, str], Task] = {}
"""A worker meets the same few tasks again and again: it reads their data and frozen models once."""
_RECENT = 4


def _opened(folder: Path, digest: str) -> Task:
    if (folder, digest) not in _recent:
        task = load_task(folder)
        if task.digest != digest:
            raise ConfigError(
                f"task '{task.name}' has changed since the run was planned; run the command again"
            )
        while len(_recent) >= _RECENT:
            del _recent[next(iter(_recent))]
        _recent[folder, digest] = task
    return _recent[folder, digest]


def expected_run(task: Task, config: RunConfig, initial: InitialPolicy) -> ExpectedRun:
    """Returns what a record must say to count as this run, as far as this machine can know it."""
    return ExpectedRun(
        config=config.scientific(),
        task_version=task.spec.version,
        task_digest=task.digest,
        initial_policy=initial.expected,
        score_normalization=task.spec.score_normalization,
        oracle=traits_of(config.algorithm.name).control == "reward"
        and bool(task.reward_needing_references()),
    )


def plan_run(
    task: Task,
    config: RunConfig,
    *,
    rerun: RerunPolicy = RerunPolicy.NONE,
    like: RunPlan | None = None,
) -> RunPlan:
    """Returns the plan of a resolved configuration; nothing is trained, downloaded or written.

    Args:
        task: The run's task.
        config: The run's configuration, from `resolve`.
        rerun: Which existing records do not count.
        like: The plan of a run that differs in the seed and the runtime only.
    """
    initial = like.initial if like else find_initial_policy(task, config.policy)
    expected = like.expected if like else expected_run(task, config, initial)
    return RunPlan(
        config, task.folder, initial, expected, config.folder, config.name, rerun, [task]
    )
